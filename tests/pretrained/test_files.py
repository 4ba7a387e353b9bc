"""The files that come with the library: each agrees with its card and segments what it is for."""

import numpy as np
import pytest

from segjax.cli import main
from segjax.data.io.formats import read_label, read_volume
from segjax.models import count_parameters
from segjax.pretrained import model_path, pretrained_models
from segjax.volume import Volume
from segjax_onnx.predict.metadata import read_metadata
from segjax_onnx.predict.predictor import Predictor
from segjax_onnx.write.weights import read_variables

CARDS = {card.name: card for card in pretrained_models()}
CASES = {
    "hippocampus": "hippocampus/{}s/hippocampus_001.nii.gz",
    "meningioma": "meningioma2d/{}s/meningioma_223.png",
    "ms-flair": "ms_lesions/patient19/{}.nii.gz",
}
"""A case of the training of each model: that it fits shows that the file works, and no more."""
CALLED = {"ms-flair": ("flair", "lesions")}
NEEDED = {"ms-flair": pytest.mark.slow}


@pytest.mark.parametrize("name", CARDS)
def test_a_file_is_small_and_agrees_with_its_card(name):
    card, metadata = CARDS[name], read_metadata(name)
    assert model_path(name).stat().st_size <= 1_000_000
    assert metadata.labels == ("background", *card.labels)
    assert metadata.segjax_version == card.segjax_version
    networks = len(metadata.training.get("ensemble", [1]))
    assert networks * count_parameters(read_variables(model_path(name))) == card.parameters


@pytest.mark.parametrize("name", CARDS)
def test_a_file_that_goes_its_own_way_says_what_it_is_not_for(name):
    about = read_metadata(name).about
    assert about.license == CARDS[name].license
    assert "not for diagnosis" in (about.intended_use or "").lower()


@pytest.mark.parametrize("name", CARDS)
def test_a_file_tells_the_dice_that_the_card_does(name):
    labels, rows = CARDS[name].labels, CARDS[name].dice
    own = rows if len(labels) == 1 else [row for row in rows if row.label]
    measured = {row.label or labels[0]: row.value for row in own}
    assert read_metadata(name).about.dice == measured


@pytest.mark.slow
@pytest.mark.parametrize("name", CARDS)
def test_a_package_for_other_programs_is_made_of_a_name(name, tmp_path):
    package = tmp_path / "model.zip"
    assert main(["export", name, "--bioimage", "-o", str(package), "--authors", "Jane Doe"]) == 0
    assert package.is_file()


@pytest.mark.parametrize("name", CARDS)
def test_a_file_knows_the_voxels_and_intensities_of_its_training(name):
    assert read_metadata(name).seen is not None


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=NEEDED.get(name, ())) for name in CASES if name in CARDS]
)
def test_a_case_of_the_training_is_segmented(name, data_dir):
    image, label = CALLED.get(name, ("image", "label"))
    mask = Predictor(name).predict(data_dir / CASES[name].format(image))
    truth = read_label(data_dir / CASES[name].format(label)).data
    values = range(1, len(CARDS[name].labels) + 1)
    dice = [2 * both(mask.data, truth, n) / (size(mask.data, n) + size(truth, n)) for n in values]
    assert mask.data.shape == truth.shape
    assert min(dice) > 0.5


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_meningiomas_are_found_however_a_picture_is_turned(turns, data_dir):
    image, label = (
        np.rot90(read_volume(data_dir / CASES["meningioma"].format(kind)).data, turns).copy()
        for kind in ("image", "label")
    )
    mask = Predictor("meningioma").predict(Volume(image, np.eye(3))).data
    assert 2 * both(mask, label, 1) / (size(mask, 1) + size(label, 1)) > 0.8


@pytest.mark.parametrize("plane", [(0, 1, 2), (1, 2, 0), (0, 2, 1)])  # axial, sagittal, coronal
def test_a_slice_of_a_volume_gets_the_mask_of_its_picture(plane, data_dir):
    picture = read_volume(data_dir / CASES["meningioma"].format("image")).data
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, plane] * (0.49, 0.49, 6.0)
    expected = Predictor("meningioma").predict(Volume(picture, np.eye(3))).data
    mask = Predictor("meningioma").predict(Volume(picture[..., None], affine)).data
    assert expected.any()
    np.testing.assert_array_equal(mask[..., 0], expected)


def size(mask, value):
    return np.count_nonzero(mask == value)


def both(mask, truth, value):
    return np.count_nonzero((mask == value) & (truth == value))
