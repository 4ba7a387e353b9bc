"""Synthetic heads: reproducible, plausible, and readable as a dataset."""

import numpy as np
import pytest
from scipy import ndimage

from segjax.data.phantom.dataset import phantom, write_dataset
from segjax.data.phantom.head import smooth_noise
from segjax.data.prepare.pipeline import Pipeline
from segjax.errors import InputError

both = pytest.mark.parametrize("kind", ["ms", "meningioma"])
sizes = pytest.mark.parametrize("shape", [(48, 48, 48), (96, 96), (64, 48, 32)])


def best_dice_of_a_threshold(image, lesion):
    """Return the greatest Dice that "brighter than t" reaches, over all t."""
    hits = np.cumsum(lesion.ravel()[np.argsort(-image.ravel())])
    return np.max(2 * hits / (np.arange(1, lesion.size + 1) + lesion.sum()))


@both
@sizes
def test_phantoms_have_the_promised_shapes_types_and_values(kind, shape):
    image, label = phantom(0, shape=shape, kind=kind)
    assert image.data.shape == label.data.shape == shape
    assert (image.data.dtype, label.data.dtype) == (np.float32, np.uint8)
    assert set(np.unique(label.data)) == {0, 1}
    assert np.isfinite(image.data).all()
    assert image.data.min() >= 0


@both
def test_a_seed_always_gives_the_same_head_and_others_differ(kind):
    first, again, other = (phantom(seed, shape=(32, 32, 32), kind=kind) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0].data, again[0].data)
    np.testing.assert_array_equal(first[1].data, again[1].data)
    assert not np.array_equal(first[0].data, other[0].data)
    assert not np.array_equal(first[1].data, other[1].data)


def test_plaques_are_mostly_4_to_12_voxels_wide():
    widths = []
    for seed in range(8):
        pieces, count = ndimage.label(phantom(seed)[1].data)
        voxels = np.bincount(pieces.ravel())[1:]
        assert 1 <= count <= 12
        widths.extend((6 / np.pi * voxels) ** (1 / 3))
    assert np.mean([4 <= width <= 12 for width in widths]) > 0.8
    assert min(widths) > 2.5


def test_meningioma_is_one_mass_at_the_edge_of_the_brain():
    for seed in range(4):
        label = phantom(seed, kind="meningioma")[1].data
        assert ndimage.label(label)[1] == 1
        assert 100 < label.sum() < 4000
        centre = np.array(ndimage.center_of_mass(label)) - 31.5
        assert np.linalg.norm(centre) > 10


@both
@pytest.mark.parametrize("shape", [(64, 64, 64), (128, 128)])
def test_lesions_are_brighter_than_their_surroundings(kind, shape):
    for seed in range(3):
        image, label = (volume.data for volume in phantom(seed, shape=shape, kind=kind))
        lesion = label == 1
        around = ndimage.binary_dilation(lesion, iterations=3) & ~ndimage.binary_dilation(lesion)
        assert np.median(image[lesion]) > 1.25 * np.median(image[around])


@both
def test_no_threshold_finds_the_lesions_of_heads(kind):
    scores = []
    for seed in range(3):
        image, label = phantom(seed, kind=kind)
        scores.append(best_dice_of_a_threshold(image.data, label.data == 1))
    assert np.mean(scores) < 0.75


def test_head_is_surrounded_by_air_and_noise_is_there():
    image = phantom(0)[0].data
    corner = image[:6, :6, -6:]
    assert corner.mean() < 0.1 * np.percentile(image, 99)
    assert corner.std() > 0


def test_spacing_and_centre_lie_in_the_affine():
    image, label = phantom(0, shape=(32, 40, 24), spacing=3.0)
    assert image.spacing == label.spacing == (3.0, 3.0, 3.0)
    middle = image.affine @ [15.5, 19.5, 11.5, 1]
    np.testing.assert_allclose(middle, [0, 0, 0, 1])


def test_smooth_noise_has_mean_zero_variance_one_and_no_grain():
    rng = np.random.default_rng(0)
    fields = np.stack([smooth_noise(rng, (24, 20, 16), 6.0) for _ in range(60)])
    assert abs(fields.mean()) < 0.1
    assert abs(fields.std() - 1) < 0.15
    assert np.diff(fields, axis=1).std() < 0.4


@pytest.mark.parametrize(("shape", "suffix"), [((32, 32, 32), ".nii.gz"), ((48, 48), ".png")])
def test_dataset_is_found_and_loaded_as_it_was_drawn(tmp_path, shape, suffix):
    dataset = write_dataset(tmp_path / "new", count=2, seed=5, shape=shape, kind="meningioma")
    assert [case.name for case in dataset.cases] == ["meningioma_000", "meningioma_001"]
    assert dataset.cases[0].images[0].name.endswith(suffix)
    assert dataset.labels == {0: "background", 1: "meningioma"}
    assert dataset.channels == ("T1 with gadolinium",)
    image, label = phantom((5, 1), shape=shape, kind="meningioma")
    loaded = dataset.cases[1].load(Pipeline(), classes=2, channels=1)
    np.testing.assert_array_equal(loaded.label, label.data)
    np.testing.assert_allclose(loaded.volume.affine, label.affine)
    assert np.corrcoef(loaded.image.ravel(), image.data.ravel())[0, 1] > 0.999


def test_longer_datasets_begin_with_the_same_cases(tmp_path):
    write_dataset(tmp_path / "short", count=1, shape=(32, 32))
    write_dataset(tmp_path / "long", count=2, shape=(32, 32))
    first, second = (tmp_path / name / "images/ms_000.png" for name in ("short", "long"))
    assert first.read_bytes() == second.read_bytes()


def test_existing_files_are_not_overwritten(tmp_path):
    write_dataset(tmp_path, count=1, shape=(32, 32))
    with pytest.raises(InputError, match=r"ms_000\.png"):
        write_dataset(tmp_path, count=1, shape=(32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (64,)}, "2 or 3 axes"),
        ({"shape": (64, 8)}, "at least 16"),
        ({"spacing": 0.0}, "spacing 0.0"),
        ({"spacing": float("nan")}, "spacing nan"),
        ({"kind": "glioma"}, "glioma"),
    ],
)
def test_impossible_phantoms_are_refused(options, message):
    with pytest.raises(Exception, match=message):
        phantom(0, **options)


def test_empty_datasets_are_refused(tmp_path):
    with pytest.raises(InputError, match="count 0"):
        write_dataset(tmp_path, count=0)
