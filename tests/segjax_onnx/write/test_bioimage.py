import hashlib
import io
import json
import shutil
import subprocess
import zipfile

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from segjax.cli import main
from segjax.data.io.formats import write_volume
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import CropOrPad, MinMax, Reorient, Resample, Rescale, ZScore
from segjax.errors import InputError
from segjax.pretrained import pretrained_model
from segjax.volume import Volume
from segjax_onnx.predict.metadata import About, read_metadata
from segjax_onnx.write import bioimage as module
from segjax_onnx.write.bioimage import write_bioimage
from tests.geometry import noise
from tests.peers import bioimageio_spec
from tests.slicer.networks import write_network

ABOUT = About(
    license="CC-BY-4.0",
    citation="Doe et al. 2026. https://doi.org/10.1234/ab.c.",
    intended_use="Research.",
    dice={"lesion": 0.74},
)
STEPS = Pipeline((Reorient("RAS"), Resample((1.0, 1.5, 2.0)), ZScore())).to_json()
FILES = {
    "README.md",
    "bioimageio.yaml",
    "cover.png",
    "model.json",
    "model.onnx",
    "test_input.npy",
    "test_output.npy",
}


def small(folder):
    """An image that takes less time than the one that is made."""
    file = folder / "own.nii.gz"
    write_volume(Volume(noise((24, 20, 16)), np.eye(4)), file, overwrite=True)
    return [file]


def written(folder, steps=STEPS, **changes):
    options = {"patch_size": (24, 20, 16), "overlap": 0.5, "about": ABOUT, "steps": steps}
    return write_network(folder / "model.onnx", **{**options, **changes})


def packaged(model, **options):
    options = {"authors": ["Jane Doe"], "example": small(model.parent), **options}
    path = write_bioimage(model, model.with_suffix(".zip"), **options)
    archive = zipfile.ZipFile(path)
    return {name: archive.read(name) for name in archive.namelist()}


def description(files):
    return json.loads(files["bioimageio.yaml"])


def array(files, name):
    return np.load(io.BytesIO(files[f"test_{name}.npy"]))


def run(files, image):
    session = onnxruntime.InferenceSession(files["model.onnx"])
    return session.run(None, {"image": image.astype(np.float32)})[0]


def axes(tensor):
    return {axis.get("id", axis["type"]): axis for axis in tensor["axes"]}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return packaged(written(tmp_path_factory.mktemp("package")), example=None)


def test_a_package_names_its_files_by_their_digests(files):
    told = description(files)
    assert set(files) == FILES
    listed = [
        *told["covers"],
        *told["attachments"],
        told["documentation"],
        told["weights"]["onnx"],
        told["inputs"][0]["test_tensor"],
        told["outputs"][0]["test_tensor"],
    ]
    assert {file["source"] for file in listed} == FILES - {"bioimageio.yaml"}
    for file in listed:
        assert hashlib.sha256(files[file["source"]]).hexdigest() == file["sha256"]


def test_a_package_tells_what_people_need_to_know(files):
    told = description(files)
    assert (told["name"], told["authors"]) == ("model of segjax", [{"name": "Jane Doe"}])
    assert (told["license"], told["weights"]["onnx"]["opset_version"]) == ("CC-BY-4.0", 18)
    assert told["cite"] == [{"text": ABOUT.citation, "doi": "10.1234/ab.c"}]
    text = files["README.md"].decode()
    assert '- `{"step": "resample", "spacing": [1.0, 1.5, 2.0]' in text
    assert "z-score" not in text
    assert "| lesion | 0.74 |" in text
    assert json.loads(files["model.json"])["labels"] == ["background", "lesion", "vein"]


def test_a_package_of_a_model_that_comes_along_tells_all_of_its_card():
    card = pretrained_model("hippocampus")
    metadata = read_metadata(card.path)
    text = module._documentation(metadata, Pipeline(), card)
    for told in (*card.limits, card.attribution, card.intended_use, *card.citations):
        assert told in text
    for row in card.dice:
        assert f"{row.on} | {row.split} | {row.value:.3f} | {row.cases} |" in text
    assert "On images that it was not trained on" not in text


@pytest.mark.slow
def test_a_package_of_a_model_that_comes_along_cites_all_that_its_card_does(tmp_path):
    card = pretrained_model("meningioma")
    told = tmp_path / "told.zip"
    main(["export", "meningioma", "--bioimage", "--authors", "Jane Doe", "--out", str(told)])
    with zipfile.ZipFile(told) as archive:
        described = json.loads(archive.read("bioimageio.yaml"))
    assert [cited["text"] for cited in described["cite"]] == list(card.citations)
    assert all(cited["doi"] in cited["text"] for cited in described["cite"])


def test_axes_are_those_of_the_graph(files):
    told = description(files)
    space = {"type": "space", "unit": "millimeter"}
    taken, given = axes(told["inputs"][0]), axes(told["outputs"][0])
    assert list(taken) == list(given) == ["batch", "channel", "x", "y", "z"]
    assert taken["y"] == {**space, "id": "y", "scale": 1.5, "size": 20}
    size = {"tensor_id": "image", "axis_id": "z"}
    assert given["z"] == {**space, "id": "z", "scale": 2.0, "size": size, "halo": 4}
    assert given["channel"]["channel_names"] == ["background", "lesion", "vein"]


def test_the_output_is_that_of_the_input_after_the_preprocessing_that_is_told(files):
    given = array(files, "input")
    (told,) = description(files)["inputs"][0]["preprocessing"]
    kwargs = {"axes": ["x", "y", "z"], "eps": 1e-6}
    assert told == {"id": "zero_mean_unit_variance", "kwargs": kwargs}
    assert (given.shape, given.dtype) == ((1, 1, 24, 20, 16), np.float32)
    assert given.std() > 10  # as it was measured
    ready = (given - given.mean(dtype=float)) / (given.std(dtype=float) + 1e-6)
    np.testing.assert_allclose(array(files, "output"), run(files, ready), atol=1e-5)


def test_steps_that_the_format_does_not_know_are_done_before(tmp_path):
    steps = Pipeline((ZScore(where="nonzero"), CropOrPad((24, 24, 24)))).to_json()
    files = packaged(written(tmp_path, steps))
    assert description(files)["inputs"][0]["preprocessing"] == []
    np.testing.assert_allclose(array(files, "output"), run(files, array(files, "input")))


@pytest.mark.parametrize(
    ("step", "expected"),
    [(MinMax(), (0, 1)), (Rescale(-1.0, 3.0), (-1, 3))],
)
def test_ranges_are_told_in_terms_of_the_format(tmp_path, step, expected):
    files = packaged(written(tmp_path, Pipeline((step,)).to_json()))
    given, low, high = array(files, "input"), 0.0, 1.0
    scale, *linear = description(files)["inputs"][0]["preprocessing"]
    assert (scale["kwargs"]["min_percentile"], scale["kwargs"]["max_percentile"]) == (0, 100)
    for entry in linear:
        low, high = (end * entry["kwargs"]["gain"] + entry["kwargs"]["offset"] for end in (0, 1))
    assert (low, high) == expected
    ready = (given - given.min()) / (given.max() - given.min()) * (high - low) + low
    np.testing.assert_allclose(array(files, "output"), run(files, ready), atol=1e-5)


def test_blocks_of_a_local_network_are_larger_than_what_it_sees(tmp_path):
    sizes = {"patch_size": (16, 24, 16), "size_multiple": 8}
    model = written(tmp_path, local=True, halo=(11, 2, 0), **sizes)
    told = description(packaged(model))
    taken, given = axes(told["inputs"][0]), axes(told["outputs"][0])
    assert [taken[name]["size"] for name in "xyz"] == [
        {"min": 24, "step": 8},
        {"min": 24, "step": 8},
        {"min": 16, "step": 8},
    ]
    assert [given[name].get("halo") for name in "xyz"] == [11, 2, None]


def test_networks_of_pictures_take_rows_and_columns(tmp_path):
    options = {"spatial_dims": 2, "patch_size": (48, 32), "channels": ("t1", "flair")}
    model = written(tmp_path, Pipeline((ZScore(),)).to_json(), **options)
    files = packaged(model, example=None)
    taken = axes(description(files)["inputs"][0])
    assert list(taken) == ["batch", "channel", "y", "x"]
    assert (taken["y"]["size"], taken["x"]["size"]) == (48, 32)
    assert array(files, "input").shape == (1, 2, 48, 32)
    assert taken["channel"]["channel_names"] == ["t1", "flair"]


def test_the_cover_shows_image_and_labels_side_by_side(files):
    cover = np.asarray(Image.open(io.BytesIO(files["cover.png"]))).astype(int)
    assert cover.shape == (256, 512, 3)
    grey, shown = cover[:, :256], cover[:, 256:]
    assert (grey.max(axis=-1) == grey.min(axis=-1)).all()
    assert (shown[..., 0] - shown[..., 2] > 80).any()  # the red of the lesion
    assert len(files["cover.png"]) < 500_000


def test_an_image_of_the_user_is_tested_and_shown(tmp_path):
    files = packaged(written(tmp_path, Pipeline((ZScore(),)).to_json()))
    np.testing.assert_array_equal(array(files, "input")[0, 0], noise((24, 20, 16)))


def test_the_same_network_gives_the_same_bytes(tmp_path):
    model, made = written(tmp_path), []
    for _ in range(2):
        packaged(model, overwrite=True)
        made.append((tmp_path / "model.zip").read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("changes", "authors", "message"),
    [
        ({"about": About()}, ["A"], "no licence .* --card"),
        ({"about": About(license="MIT")}, ["A"], "not what to cite .* --card"),
        ({"about": About(license="MIT", citation="Doe")}, ["A"], "no DOI, and 'about' no 'url'"),
        ({"inside": ("z-score",)}, ["A"], "without --with-preprocessing"),
        ({}, [""], "--authors"),
    ],
)
def test_what_a_package_must_say_is_asked_for(tmp_path, changes, authors, message):
    model = written(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        write_bioimage(model, tmp_path / "model.zip", authors=authors)
    assert not (tmp_path / "model.zip").exists()


def test_the_command_packages_a_file_that_was_exported(tmp_path, capsys):
    model, out = written(tmp_path), tmp_path / "model.zip"
    package = ["--bioimage", "--authors", "Jane Doe", "--example", *map(str, small(tmp_path))]
    command = ["export", str(model), *package]
    assert main(command) == 0
    assert str(out) in capsys.readouterr().out
    for more, message in [
        ((), "model.zip: "),
        (("--overwrite", "--which", "last"), "--which: belongs to the export before"),
        (("--overwrite", "--json"), "--json: a package holds it"),
        (("-o", "a.onnx"), "ends in .zip"),
    ]:
        assert main([*command, *more]) == 1
        assert message in capsys.readouterr().err
    assert main(["export", str(model), "--authors", "Jane Doe"]) == 1
    assert "--authors: belongs to --bioimage" in capsys.readouterr().err


def test_a_slice_of_a_volume_stands_for_a_picture(tmp_path):
    steps = Pipeline((ZScore(),)).to_json()
    files = packaged(written(tmp_path, steps, spatial_dims=2, patch_size=(24, 20)))
    np.testing.assert_array_equal(array(files, "input")[0, 0], noise((24, 20, 16))[..., 8])


@pytest.mark.peer("bioimageio")
@pytest.mark.filterwarnings("ignore")
def test_the_format_is_that_of_the_zoo(tmp_path):
    flat = {"spatial_dims": 2, "patch_size": (24, 20)}
    for options in ({}, {"local": True, "halo": (1, 1, 1)}, flat):
        packaged(written(tmp_path, Pipeline((ZScore(),)).to_json(), **options), overwrite=True)
        check = bioimageio_spec.load_description_and_validate_format_only
        summary = check(tmp_path / "model.zip")
        assert summary.status == "valid-format", summary.format()


@pytest.mark.slow
def test_programs_of_the_zoo_check_and_run_a_package(tmp_path):
    if not (program := shutil.which("bioimageio")):
        pytest.skip("needs bioimageio: pip install bioimageio.core onnxruntime 'pydantic<2.13'")
    for steps, options in [(STEPS, {}), (STEPS, {"local": True, "halo": (1, 1, 1)})]:
        packaged(written(tmp_path, steps, **options), overwrite=True)
        command = [program, "test", str(tmp_path / "model.zip")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert "passed" in done.stdout
