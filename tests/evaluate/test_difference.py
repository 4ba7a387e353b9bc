"""Changes seen in two images of one head."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segjax.data.io.formats import read_volume
from segjax.errors import InputError
from segjax.evaluate.difference import ChangeRules, compare_images
from segjax.volume import Volume

SHAPE, AFFINE = (56, 64, 28), np.diag([-1.5, 1.5, 3.0, 1.0])
SPACING = (1.5, 1.5, 3.0)
FLUID, WHITE, GREY, LESION = 60, 280, 325, 480
PLACES = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1) * SPACING
MIDDLE = np.array(SHAPE) * SPACING / 2


def ball(place, radius):
    return np.linalg.norm(PLACES - place, axis=-1) <= radius


def made():
    """The tissue of a head, its brain, and the places of white matter that is far from others."""
    rng = np.random.default_rng(3)
    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), (3, 3, 1.5))
    within = np.linalg.norm((PLACES - MIDDLE) / (36, 42, 36), axis=-1)
    brain = within <= 1
    tissue = np.where(field > np.quantile(field, 0.6), GREY, WHITE)
    tissue[(within > 0.85) & (field < np.quantile(field, 0.35))] = FLUID
    tissue[np.linalg.norm((PLACES - MIDDLE) / (8, 16, 9), axis=-1) <= 1] = FLUID
    far = ndimage.distance_transform_edt((tissue == WHITE) & (within < 0.8), sampling=SPACING)
    tissue[~brain] = 100
    return tissue.astype(np.float32), brain, far


TISSUE, BRAIN, FAR = made()
CENTRE = PLACES[np.unravel_index(np.argmax(FAR), SHAPE)]
NEW = ball(CENTRE, 6)
OLD = ball(MIDDLE + np.array([-18, 14, 3]), 7)


def scan(*lesions, seed=1, noise=6.0, tissue=TISSUE, blur=(0.5, 0.5, 0.3)):
    """An image of the head with lesions in it."""
    image = tissue.copy()
    for lesion in lesions:
        image[lesion] = LESION
    image = ndimage.gaussian_filter(image, blur)
    noisy = image + noise * np.random.default_rng(seed).normal(size=SHAPE)
    return Volume(np.maximum(noisy, 1).astype(np.float32), AFFINE)


MASK = Volume(BRAIN.astype(np.uint8), AFFINE)
BEFORE, AFTER = scan(OLD, seed=1), scan(OLD, NEW, seed=2)


def dice(first, second):
    return 2 * np.count_nonzero(first & second) / (first.sum() + second.sum())


@pytest.fixture(scope="module")
def found():
    return compare_images(BEFORE, AFTER, MASK)


def test_a_new_lesion_is_found_where_it_is(found):
    assert found.reliable
    assert found.reason == ""
    assert dice(found.changed.data == 1, NEW) > 0.75
    assert not (found.changed.data == -1).any()
    assert not found.changed.data[~ball(CENTRE, 9)].any()


def test_a_clear_change_is_sure_and_the_rest_is_not(found):
    sure = found.confidence.data
    assert sure[found.changed.data == 1].min() > 0.95
    assert sure[BRAIN & ~ball(CENTRE, 9)].max() < 0.5
    assert 0 <= sure.min() <= sure.max() <= 1


def test_matched_images_are_in_interquartile_ranges_of_the_brain(found):
    for image in (found.baseline.data, found.followup.data):
        low, middle, high = np.percentile(image[BRAIN], [25, 50, 75])
        assert middle == pytest.approx(0, abs=0.1)
        assert high - low == pytest.approx(1, abs=0.15)


def test_matched_images_are_0_where_nothing_is_compared(found):
    for image in (found.baseline.data, found.followup.data):
        assert not image[~BRAIN].any()
        assert np.mean(image[BRAIN] != 0) > 0.99


def test_unchanged_tissue_scatters_by_about_one(found):
    still = BRAIN & ~ball(CENTRE, 9)
    spread = 1.4826 * np.median(np.abs(found.difference.data[still]))
    assert 0.3 < spread < 1.1  # less where two images are more alike than two scans ever are


def test_all_maps_lie_on_the_grid_of_the_images(found):
    kinds = {"baseline": "f4", "followup": "f4", "difference": "f4", "confidence": "f4"}
    for name, kind in (kinds | {"changed": "i1"}).items():
        one = getattr(found, name)
        assert one.data.dtype == kind
        assert one.data.shape == SHAPE
        np.testing.assert_array_equal(one.affine, AFFINE)


def test_swapping_the_visits_turns_the_sign(found):
    swapped = compare_images(AFTER, BEFORE, MASK)
    np.testing.assert_array_equal(swapped.changed.data, -found.changed.data)
    np.testing.assert_array_equal(swapped.baseline.data, found.followup.data)
    np.testing.assert_array_equal(swapped.difference.data, -found.difference.data)
    np.testing.assert_array_equal(swapped.confidence.data, found.confidence.data)


def test_an_image_does_not_differ_from_itself():
    same = compare_images(BEFORE, BEFORE, MASK)
    assert same.reliable
    assert not same.changed.data.any()
    assert not same.difference.data.any()


@settings(max_examples=3)
@given(st.floats(0.01, 100), st.floats(-20, 500), st.integers(5, 50))
def test_gain_and_offset_of_a_scanner_do_not_matter(gain, offset, seed):
    other = scan(OLD, seed=seed)
    other = other.with_data((gain * (other.data + offset)).astype(np.float32))
    nothing = compare_images(BEFORE, other, MASK)
    assert nothing.reliable
    assert not nothing.changed.data.any()


def another(image, how):
    data, middle = image.data, WHITE
    x, _, z = (np.linspace(-0.5, 0.5, n) for n in SHAPE)
    made = {
        "gamma up": lambda: middle * (data / middle) ** 1.5,
        "gamma down": lambda: middle * (data / middle) ** 0.6,
        "bias": lambda: data * (1 + 0.2 * x[:, None, None]) * (1 - 0.2 * z),
        "noise": lambda: data + 10 * np.random.default_rng(9).normal(size=SHAPE),
        "thick slices": lambda: ndimage.gaussian_filter1d(data, 0.7, axis=2),
        "blur": lambda: ndimage.gaussian_filter(data, (0.7, 0.7, 0.3)),
        "half a voxel": lambda: ndimage.shift(data, (0.5, -0.5, 0), order=1, mode="nearest"),
        "curve": lambda: np.interp(data, [0, 60, 280, 325, 480, 600], [0, 90, 250, 340, 460, 500]),
    }
    return image.with_data(made[how]().astype(np.float32))


CHANGES = ("gamma up", "gamma down", "bias", "noise", "thick slices", "blur", "curve")


@pytest.mark.parametrize("how", [*CHANGES, "half a voxel"])
def test_another_scanner_makes_no_change(how):
    nothing = compare_images(BEFORE, another(scan(OLD, seed=3), how), MASK)
    assert nothing.reliable
    assert not nothing.changed.data.any()


@pytest.mark.parametrize("how", CHANGES)
def test_a_new_lesion_is_found_with_another_scanner(how):
    changed = compare_images(BEFORE, another(AFTER, how), MASK).changed.data
    assert dice(changed == 1, NEW) > 0.65
    assert not changed[~ball(CENTRE, 10)].any()


def test_growth_is_the_part_that_grew():
    ring = ball(CENTRE, 8) & ~ball(CENTRE, 4.5)
    grown = compare_images(scan(ball(CENTRE, 4.5)), scan(ball(CENTRE, 8), seed=2), MASK)
    assert dice(grown.changed.data == 1, ring) > 0.6
    assert not (grown.changed.data == -1).any()


def test_what_changes_in_fluid_or_beside_the_brain_is_no_lesion():
    inside, outside = ball(MIDDLE, 5), ball(MIDDLE + np.array([40, 0, 0]), 6)
    found = compare_images(BEFORE, scan(OLD, inside, outside, seed=2), MASK)
    assert not found.changed.data.any()


def test_what_gets_darker_than_tissue_is_no_lesion():
    tissue = TISSUE.copy()
    tissue[NEW] = 150
    assert not compare_images(BEFORE, scan(OLD, tissue=tissue), MASK).changed.data.any()


def test_the_last_slices_of_what_an_image_shows_are_not_compared():
    cut = AFTER.data.copy()
    middle = round(CENTRE[2] / SPACING[2])
    cut[..., middle:] = 0
    found = compare_images(BEFORE, AFTER.with_data(cut), MASK)
    assert not found.changed.data[..., middle - 1 :].any()


def test_rules_decide_how_much_is_a_change(found):
    strict = compare_images(BEFORE, AFTER, MASK, rules=ChangeRules(certain=1000))
    assert not strict.changed.data.any()
    assert strict.reliable is False  # nothing could be certain
    small = compare_images(BEFORE, AFTER, MASK, rules=replace(ChangeRules(), border=0.6))
    assert 0 < (small.changed.data == 1).sum() < (found.changed.data == 1).sum()


@pytest.mark.parametrize("signals", [(500, 200, 260), (60, 420, 300)], ids=["T2", "T1"])
def test_other_sequences_are_not_compared(signals):
    tissue = np.select([v == TISSUE for v in (FLUID, WHITE, GREY)], signals, 100)
    other = compare_images(BEFORE, scan(OLD, NEW, tissue=tissue.astype(np.float32)), MASK)
    assert not other.reliable
    assert "are they of different contrast" in other.reason
    assert not other.changed.data.any()
    assert not other.confidence.data.any()
    assert other.difference.data.any()


def test_noise_in_which_no_lesion_would_stand_out_is_said():
    noisy = compare_images(scan(OLD, noise=60), scan(OLD, NEW, seed=2, noise=60), MASK)
    assert not noisy.reliable
    assert "would stand out" in noisy.reason or "correlates" in noisy.reason


def test_a_flood_of_change_is_not_believed():
    lenient = ChangeRules(certain=0.5, least=0.05, border=0, bright=-1)
    flood = compare_images(BEFORE, scan(OLD, seed=2), MASK, rules=lenient)
    assert not flood.reliable
    assert "of the brain would have changed" in flood.reason
    assert not flood.changed.data.any()


def grid_of(shape, affine=AFFINE):
    return Volume(np.ones(shape, np.float32), affine)


@pytest.mark.parametrize(
    ("volumes", "message"),
    [
        ((BEFORE, grid_of((56, 64, 29)), MASK), "follow-up: lies on another grid"),
        ((BEFORE, AFTER, grid_of(SHAPE, np.eye(4))), "brain: lies on another grid"),
        ((grid_of((*SHAPE, 2)), AFTER, MASK), "baseline: is .* volumes of one channel"),
        ((grid_of((8, 8), np.eye(3)),) * 3, "baseline: is"),
        ((BEFORE, BEFORE.with_data(BEFORE.data * np.nan), MASK), "follow-up: .* not finite"),
        ((BEFORE, AFTER, MASK.with_data(MASK.data * 0)), "0 voxels of brain"),
        ((BEFORE, AFTER.with_data(AFTER.data * 0), MASK), "0 voxels of brain .* registered"),
        ((BEFORE, grid_of(SHAPE), MASK), "follow-up: is constant in the brain"),
    ],
)
def test_what_cannot_be_compared_is_refused(volumes, message):
    with pytest.raises(InputError, match=message):
        compare_images(*volumes)


def real(folder, name):
    """Both FLAIRs on the experts' grid by their own transforms, the brain, and the truth."""
    import SimpleITK

    truth, brain = (read_volume(folder / name / f"{one}.nii.gz") for one in ("gt", "brainmask"))
    like = SimpleITK.ReadImage(str(folder / name / "gt.nii.gz"))
    placed = []
    for visit in (1, 2):
        path = folder / name / f"study{visit}_FLAIR.nii.gz"
        image = SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
        where = SimpleITK.ReadTransform(
            str(folder / name / f"study{visit}_FLAIR_to_common_space.txt")
        )
        moved = SimpleITK.Resample(image, like, where, SimpleITK.sitkLinear, 0.0)
        placed.append(truth.with_data(SimpleITK.GetArrayFromImage(moved).T))
    return (*placed, truth.with_data(brain.data)), truth.data > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["patient01", "patient12"])
def test_changes_of_real_patients_are_those_that_experts_drew(data_dir, name):
    images, truth = real(data_dir / "ms_longitudinal", name)
    found = compare_images(*images)
    assert found.reliable
    changed = found.changed.data != 0
    assert dice(changed, truth) > 0.67
    regions, count = ndimage.label(changed, np.ones((3, 3, 3)))
    hits = ndimage.maximum(truth, regions, range(1, count + 1))
    assert np.count_nonzero(np.asarray(hits) == 0) <= 1


@pytest.mark.slow
def test_a_real_scan_that_was_turned_and_resampled_has_no_changes(data_dir):
    (first, _, brain), _ = real(data_dir / "ms_longitudinal", "patient12")
    angle = np.deg2rad(7)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0],
                     [0, 0, 1]])  # fmt: skip
    middle = np.array(first.data.shape) / 2

    def turned(image, by):
        return ndimage.affine_transform(image, by, middle - by @ middle + (0.3, -0.4, 0), order=1)

    copy = turned(turned(first.data, turn), turn.T)
    assert not compare_images(first, first.with_data(copy), brain).changed.data.any()
