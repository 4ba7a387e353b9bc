"""Networks that others trained, exported: they answer as PyTorch does."""

import json

import numpy as np
import pytest

from segjax.cli import main
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import HistogramStandardization, MinMax
from segjax.describe import describe
from segjax.errors import InputError
from segjax_onnx import Predictor, read_metadata
from segjax_onnx.adopt import foreign
from segjax_onnx.adopt.foreign import Usage, export_weights
from tests.peers import networks, torch

pytestmark = pytest.mark.peer("torch")


@pytest.fixture(scope="module")
def monai():
    torch.manual_seed(0)
    return networks.TorchUNet(2, (4, 6), 0.3, out_channels=3).eval()


@pytest.fixture
def weights(monai, tmp_path):
    torch.save({"model": monai.state_dict(), "epoch": 3}, tmp_path / "unet.pt")
    return tmp_path / "unet.pt"


@pytest.fixture
def without_conversion(monkeypatch):
    """Leave out what takes time, and keep what would be written."""
    kept = []
    monkeypatch.setattr(
        foreign, "checked_bytes", lambda *_, metadata, opset: kept.append(metadata) or b"onnx"
    )
    return kept


@pytest.mark.slow
def test_monai_weights_become_a_file_that_answers_as_pytorch(monai, weights, tmp_path):
    usage = Usage(("core", "rim"), Pipeline((MinMax(),)), (16, 16))
    path = export_weights(weights, tmp_path / "unet.onnx", usage=usage)
    metadata = read_metadata(path)
    assert metadata.model == "monai-unet"
    assert metadata.labels == ("background", "core", "rim")
    assert metadata.training["weights"] == "unet.pt"
    image = np.random.default_rng(0).uniform(0, 1, (16, 16)).astype(np.float32)
    image = (image - image.min()) / (image.max() - image.min())
    with torch.no_grad():
        expected = monai(torch.from_numpy(image)[None, None]).softmax(1)[0].numpy()
    found = Predictor(path).probabilities(100 + 50 * image)
    np.testing.assert_allclose(np.moveaxis(found.data, -1, 0), expected, atol=1e-4)


def test_what_weights_do_not_say_has_sensible_defaults(weights, tmp_path, without_conversion):
    with pytest.warns(UserWarning, match=r"unet\.pt: does not say how its images were preproc"):
        export_weights(weights, tmp_path / "a.onnx")
    (metadata,) = without_conversion
    assert metadata.labels == ("background", "label 1", "label 2")
    assert (metadata.patch_size, metadata.pipeline) == ((512, 512), [])
    assert (metadata.activation, metadata.size_multiple) == ("softmax", 2)


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        (Usage(("core",)), "tells 2 labels from the background, but 1 are named: core"),
        (Usage(patch_size=(15, 16)), r"patch size \(15, 16\): the network takes 2 multiples of 2"),
        (Usage(patch_size=(16,)), "takes 2 multiples"),
        (Usage(pipeline=Pipeline((HistogramStandardization(),))), "have yet to learn from images"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*does not say")
def test_what_does_not_fit_the_weights_is_refused(weights, tmp_path, usage, message):
    with pytest.raises(InputError, match=message):
        export_weights(weights, tmp_path / "a.onnx", usage=usage)
    assert not (tmp_path / "a.onnx").exists()


def test_weights_of_another_network_are_refused_by_their_names(tmp_path):
    torch.save({"encoder.weight": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"a\.pt: the weights of another network \(encoder\.w"):
        export_weights(tmp_path / "a.pt", tmp_path / "a.onnx")


def test_weights_are_described(weights):
    facts = describe(weights)
    assert facts["model"].startswith("monai-unet, ")
    assert facts["levels"] == "4, 6 channels"
    assert (facts["channels"], facts["outputs"]) == ("1", "3")


def test_the_command_takes_what_the_weights_do_not_say(weights, tmp_path, without_conversion):
    steps = tmp_path / "steps.json"
    steps.write_text(json.dumps(Pipeline((MinMax(),)).to_json()))
    line = ["export", str(weights), "--names", "core", "rim", "--pipeline", str(steps)]
    assert main([*line, "--patch-size", "64", "32"]) == 0
    (metadata,) = without_conversion
    assert metadata.labels == ("background", "core", "rim")
    assert (metadata.patch_size, metadata.pipeline) == ((64, 32), [{"step": "min-max"}])
    assert weights.with_suffix(".onnx").read_bytes() == b"onnx"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["unet.pt", "--which", "last"], "--which: weights are one network, and no training"),
        (["unet.pt", "--ensemble"], "--ensemble: weights are one network"),
        (["unet.pt", "--preset", "ms-7t", "--pipeline", "a.json"], "both give steps"),
        (["unet.pt", "--preset", "meningioma-2d"], "have yet to learn from images"),
        (["missing.pt"], "missing.pt: there is no such file"),
        ([".", "--names", "core"], "--names: a run keeps its own; leave it out"),
        ([".", "--patch-size", "64"], "--patch-size: a run keeps its own"),
    ],
)
def test_options_that_do_not_belong_are_named(weights, monkeypatch, capsys, options, message):
    monkeypatch.chdir(weights.parent)
    assert main(["export", *options]) != 0
    assert message in capsys.readouterr().err
