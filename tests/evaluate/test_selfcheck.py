"""Whether a follow-up can be trusted."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from segjax.errors import InputError
from segjax.evaluate import followup, selfcheck
from segjax.evaluate.followup import Visit
from segjax.evaluate.registration import unregistered
from segjax.evaluate.selfcheck import self_check
from segjax.grid import grid
from segjax.volume import Volume

SHAPE, AFFINE = (48, 52, 44), np.diag([1.5, 1.5, 1.5, 1.0])
PLACES = np.indices(SHAPE) - np.array(SHAPE).reshape(-1, 1, 1, 1) / 2
BRAIN = Volume(((PLACES**2).sum(axis=0) < 20**2).astype(np.uint8), AFFINE)
BRIGHT = 330.0


def scan(seed):
    """Return a ball of tissue of 300 ± 4 with noise of 3."""
    rng = np.random.default_rng(seed)
    tissue = 4 * ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 2) * 14
    image = BRAIN.data * (300 + tissue + 3 * rng.standard_normal(SHAPE))
    return Volume(image.astype(np.float32), AFFINE)


def bright(image):
    """Segment what stands out."""
    return image.with_data((image.data > BRIGHT).astype(np.uint8)), None


def blind(image):
    """Segment nothing."""
    return image.with_data(np.zeros(SHAPE, np.uint8)), None


@pytest.fixture
def visits():
    """Return two visits without a change, one lesion in both."""
    found = []
    for number in range(2):
        image = scan(number + 1)
        image.data[20:25, 24:28, 20:24] += 50
        found.append(Visit(str(number), image=image, mask=bright(image)[0], brain=BRAIN))
    return found


@pytest.fixture
def still(monkeypatch):
    """Let copies stay where they are, and register nothing."""
    monkeypatch.setattr(selfcheck, "_draw_motion", lambda rng, image: np.eye(4))
    trust = lambda images, **options: unregistered([grid(image) for image in images])  # noqa: E731
    monkeypatch.setattr(followup, "register_visits", trust)


def check(visits, **options):
    given = {"segment": bright, "registration": "none", "intensities": False, "repeats": 2}
    return self_check(visits, **given | options)


def test_large_lesions_that_are_segmented_are_found(visits, still):
    found = check(visits)
    assert [size.from_mm for size in found.sizes] == [3.0, 5.0, 10.0]
    assert [size.to_mm for size in found.sizes] == [5.0, 10.0, None]
    assert [size.put_in for size in found.sizes][1:] == [4, 4]
    assert found.sizes[0].put_in >= 2  # as many as find a place beside the large ones
    assert found.sizes[2].sensitivity.value == 1.0
    assert found.false_changes == (0, 0)
    assert found.copies == (0, 0)
    assert found.copies_changed == 0
    assert found.shapes == "drawn ellipsoids"


def test_a_blind_network_finds_nothing(visits, still):
    both = [replace(visit, mask=blind(visit.image)[0]) for visit in visits]
    found = check(both, segment=blind)
    assert found.sensitivity.value == 0
    assert found.sizes[2].sensitivity.high == pytest.approx(0.490, abs=0.001)  # Wilson, 0 of 4
    assert found.false_changes_per_comparison == 0


def test_what_is_found_elsewhere_is_false(visits, still):
    def restless(image):
        mask, _ = bright(image)
        if np.abs(image.data - visits[1].image.data).max() > 1:
            mask.data[2:6, 2:6, 2:6] = 1
        return mask, None

    found = check(visits, segment=restless, repeats=2)
    assert found.false_changes == (1, 1)
    assert found.false_changes_per_comparison == 1
    assert found.copies == (1, 0)  # the second copy is the scan itself


def test_changes_that_were_there_before_are_not_false(visits, still):
    visits[1].image.data[24:28, 24:28, 10:14] += 50
    visits[1] = replace(visits[1], mask=bright(visits[1].image)[0])
    assert check(visits).false_changes == (0, 0)


def test_copies_that_are_not_registered_show_changes(visits, still, monkeypatch):
    shift = np.eye(4)
    shift[0, 3] = 7
    monkeypatch.setattr(selfcheck, "_draw_motion", lambda rng, image: shift)
    assert check(visits, repeats=0).copies_changed == 2


def test_masks_by_hand_stay_as_they_are(visits, still):
    found = check(visits, segment=None, repeats=1)
    assert found.sensitivity.value == 0
    assert found.copies == (0, 0)


def test_equal_seeds_give_equal_checks(visits, still):
    first, second, other = (check(visits, seed=seed, repeats=1) for seed in (4, 4, 5))
    assert first == second
    assert first.put_in != other.put_in


def test_a_registration_that_is_known_is_kept(visits, still):
    known = unregistered([grid(visit.image) for visit in [*visits, visits[1]]])
    assert check([visits[0], *visits], registration=known) == check(visits)


def test_lesions_have_half_to_all_the_contrast_of_those_of_the_patient(visits, still):
    image = visits[1].image.data
    low, middle, high = np.percentile(image[BRAIN.data > 0], [25, 50, 75])
    own = (np.median(image[visits[1].mask.data > 0]) - middle) / (high - low)
    contrasts = [lesion.contrast for lesion in check(visits).put_in]
    assert 0.5 * own <= min(contrasts) < max(contrasts) <= own


def test_lesions_are_put_where_none_was(visits, still):
    for lesion in check(visits).put_in:
        index = np.rint(np.array(lesion.centre_ras) / 1.5).astype(int)
        assert BRAIN.data[tuple(index)]
        assert not visits[1].mask.data[tuple(index)]


def test_without_a_repeat_nothing_is_told_of_sensitivity(visits, still):
    found = check(visits, repeats=0)
    assert found.put_in == ()
    assert np.isnan([found.sensitivity.value, found.false_changes_per_comparison]).all()


def test_a_motion_is_rigid_and_small():
    image = scan(0)
    for seed in range(5):
        index = selfcheck._draw_motion(np.random.default_rng(seed), image)
        matrix = AFFINE @ index @ np.linalg.inv(AFFINE)
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
        middle = AFFINE @ [*(np.array(SHAPE) - 1) / 2, 1]
        assert np.abs(matrix @ middle - middle).max() <= 4.0
        assert np.trace(matrix[:3, :3]) >= 1 + 2 * np.cos(np.radians(4.0)) - 1e-12


def test_channels_and_probabilities_move_along(visits):
    image = visits[0].image
    visit = replace(
        visits[0],
        image=image.with_data(np.stack([image.data, 2 * image.data], axis=-1)),
        probabilities=image.with_data(np.stack([1 - BRAIN.data, BRAIN.data], axis=-1)),
    )
    moved = selfcheck._move(visit, np.random.default_rng(0))
    np.testing.assert_allclose(moved.image.data[..., 1], 2 * moved.image.data[..., 0], rtol=1e-4)
    assert moved.probabilities.data.shape == (*SHAPE, 2)
    assert 0.9 < moved.brain.data.sum() / BRAIN.data.sum() < 1.1


def test_a_single_visit_is_refused(visits):
    with pytest.raises(InputError, match="1 visit"):
        check(visits[:1])


def test_visits_without_images_are_refused(visits):
    with pytest.raises(InputError, match="1: has no image"):
        check([visits[0], replace(visits[1], image=None)])
