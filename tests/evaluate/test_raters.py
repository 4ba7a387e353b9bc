"""Raters against SimpleITK, hand counts, published examples, scikit-learn and properties."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.io.formats import read_label
from segjax.errors import InputError
from segjax.evaluate.overlap import dice
from segjax.evaluate.raters import majority_vote, rater_agreement, staple
from tests.peers import Peer

sklearn_metrics = Peer("sklearn.metrics", "sklearn")
statsmodels_raters = Peer("statsmodels.stats.inter_rater", "statsmodels")

few = settings(max_examples=15)
FIVE = st.tuples(st.integers(0, 2**32 - 1), st.integers(2, 5)).map(
    lambda drawn: raters(np.random.default_rng(drawn[0]), drawn[1])
)


def raters(rng, count, shape=(6, 7, 5)):
    """Return masks of raters who miss and invent voxels of one truth."""
    truth = rng.random(shape) < 0.3
    masks = {}
    for n in range(count):
        missed, invented = rng.random((2, *shape)) < rng.uniform(0.02, 0.3, (2, 1, 1, 1))
        masks[f"rater {n}"] = np.where(truth, ~missed, invented).astype(np.uint8)
    return masks


def by_simpleitk(masks):
    flt = sitk.STAPLEImageFilter()
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks.values()]
    weights = sitk.GetArrayFromImage(flt.Execute(images))
    return weights, list(zip(flt.GetSensitivity(), flt.GetSpecificity(), strict=True))


def check_against_simpleitk(masks):
    expected, qualities = by_simpleitk(masks)
    found = staple(masks)
    np.testing.assert_allclose(found.probability, expected, atol=1e-6)
    np.testing.assert_allclose(list(found.raters.values()), qualities, atol=1e-6)


def test_consensus_equals_simpleitk_on_random_masks():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        check_against_simpleitk(raters(rng, 2 + seed % 4))


def test_consensus_equals_simpleitk_on_real_masks(data_dir):
    for file in sorted((data_dir / "ms_lesion_masks").glob("*.nii.gz"))[::13]:
        mask = read_label(file).data[70:120, 70:140, 60:100] > 0
        rng = np.random.default_rng(0)
        check_against_simpleitk(
            {
                "as it is": mask,
                "moved": np.roll(mask, 1, 0),
                "grown": mask | np.roll(mask, 1, 1),
                "careless": mask & (rng.random(mask.shape) < 0.8),
            }
        )


def test_a_region_is_a_crop():
    masks = raters(np.random.default_rng(5), 3)
    inside = np.zeros((6, 7, 5), bool)
    inside[1:5, 2:6] = True
    found = staple(masks, region=inside)
    expected, _ = by_simpleitk({name: mask[1:5, 2:6] for name, mask in masks.items()})
    np.testing.assert_allclose(found.probability[1:5, 2:6], expected, atol=1e-6)
    assert not found.probability[~inside].any()


def test_raters_who_agree_are_perfect():
    mask = np.eye(4, dtype=bool)
    found = staple({"a": mask, "b": mask, "c": mask})
    assert (found.mask == mask).all()
    np.testing.assert_allclose(list(found.raters.values()), 1)


@pytest.mark.parametrize("value", [0, 1])
def test_where_all_marked_nothing_or_everything_so_does_the_consensus(value):
    mask = np.full((3, 3), value)
    found = staple({"a": mask, "b": mask})
    assert (found.probability == value).all()
    assert set(found.raters.values()) == {(1.0, 1.0)}


def test_a_careless_rater_is_recognised():
    rng = np.random.default_rng(0)
    truth = rng.random((20, 20, 20)) < 0.2
    masks = {
        name: np.where(truth, rng.random(truth.shape) < p, rng.random(truth.shape) > q)
        for name, p, q in (("a", 0.9, 0.95), ("b", 0.85, 0.99), ("c", 0.5, 0.9))
    }
    found = staple(masks)
    for name, p, q in (("a", 0.9, 0.95), ("b", 0.85, 0.99), ("c", 0.5, 0.9)):
        assert found.raters[name] == pytest.approx((p, q), abs=0.05)


@few
@given(FIVE)
def test_the_order_of_raters_does_not_count_and_flips_go_along(masks):
    found = staple(masks)
    turned = staple({name: masks[name][::-1] for name in reversed(masks)})
    np.testing.assert_allclose(turned.probability[::-1], found.probability, atol=1e-6)
    for name in masks:
        assert turned.raters[name] == pytest.approx(found.raters[name], abs=1e-6)
    assert found.probability.min() >= 0
    assert found.probability.max() <= 1


def test_rounding_makes_no_negative_probability():
    masks = raters(np.random.default_rng(483057), 5)  # a sensitivity sums up to over 1
    assert staple({name: masks[name][::-1] for name in reversed(masks)}).probability.min() >= 0
    assert staple(masks).probability.min() >= 0


def test_another_label_is_looked_at_alone():
    masks = raters(np.random.default_rng(1), 3)
    labels = {name: mask * 4 + (1 - mask) * 2 for name, mask in masks.items()}
    expected = staple(masks).probability
    np.testing.assert_array_equal(staple(labels, label=4).probability, expected)
    assert not majority_vote(labels, label=1).any()


def test_more_than_half_make_a_majority():
    masks = {"a": np.array([1, 1, 1]), "b": np.array([1, 1, 0]), "c": np.array([1, 0, 0])}
    assert majority_vote(masks).tolist() == [True, True, False]
    masks["d"] = np.array([0, 0, 0])
    assert majority_vote(masks).tolist() == [True, False, False]  # 3, 2 and 1 of 4


@few
@given(FIVE)
def test_majority_equals_the_vote_of_simpleitk(masks):
    if len(masks) % 2 == 0:
        masks = dict(list(masks.items())[1:])
    if len(masks) > 1:
        images = [sitk.GetImageFromArray(mask) for mask in masks.values()]
        expected = sitk.GetArrayFromImage(sitk.LabelVoting(images, 9))
        np.testing.assert_array_equal(majority_vote(masks), expected == 1)


@few
@given(FIVE)
def test_pairs_and_consensus_equal_dice_of_the_masks(masks):
    found = rater_agreement(masks)
    for (one, other), value in found.dice.items():
        assert value == pytest.approx(dice(truth=masks[one], prediction=masks[other]))
    for name, value in found.against_others.items():
        others = {other: mask for other, mask in masks.items() if other != name}
        consensus = majority_vote(others) if len(others) > 1 else next(iter(others.values())) == 1
        assert value == pytest.approx(dice(truth=consensus, prediction=masks[name] == 1))
    assert found.volumes == {name: int(mask.sum()) for name, mask in masks.items()}
    assert len(found.dice) == len(masks) * (len(masks) - 1) / 2


def test_cohens_kappa_equals_the_hand_count():
    # 20 both, 5 and 10 one of them, 15 neither: (0.7 - 0.5) / (1 - 0.5)
    one = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    other = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert rater_agreement({"a": one, "b": other}).cohens_kappa["a", "b"] == pytest.approx(0.4)


def test_fleiss_kappa_equals_the_definition():
    masks = raters(np.random.default_rng(3), 4)
    votes = np.stack([mask.ravel() for mask in masks.values()], 1)
    marked = votes.sum(1)
    shares = np.array([marked.sum(), (4 - marked).sum()]) / votes.size
    agreeing = (marked**2 + (4 - marked) ** 2 - 4) / 12
    expected = (agreeing.mean() - (shares**2).sum()) / (1 - (shares**2).sum())
    assert rater_agreement(masks).fleiss_kappa == pytest.approx(expected)


@pytest.mark.peer("sklearn")
def test_cohens_kappa_equals_scikit_learn():
    for seed in range(50):
        masks = raters(np.random.default_rng(seed), 2)
        one, other = (mask.ravel() for mask in masks.values())
        found = rater_agreement(masks).cohens_kappa["rater 0", "rater 1"]
        assert found == pytest.approx(sklearn_metrics.cohen_kappa_score(one, other))


@pytest.mark.peer("statsmodels")
def test_fleiss_kappa_equals_statsmodels():
    for seed in range(50):
        masks = raters(np.random.default_rng(seed), 3)
        marked = sum(mask.ravel().astype(int) for mask in masks.values())
        expected = statsmodels_raters.fleiss_kappa(np.stack([marked, 3 - marked], 1))
        assert rater_agreement(masks).fleiss_kappa == pytest.approx(expected)


def test_raters_who_say_the_same_of_every_voxel_agree_perfectly():
    found = rater_agreement({"a": np.zeros((3, 3), int), "b": np.zeros((3, 3), int)})
    assert found.dice["a", "b"] == found.cohens_kappa["a", "b"] == found.fleiss_kappa == 1
    assert found.against_others == {"a": 1, "b": 1}


def test_measures_are_plain_numbers_by_name():
    measures = rater_agreement(raters(np.random.default_rng(0), 3)).measures
    assert {"pairwise_dice", "dice rater 0 / rater 1", "dice rater 2 / others"} <= set(measures)
    assert measures["pairwise_dice_least"] <= measures["pairwise_dice"]
    assert all(type(value) in (int, float) for value in measures.values())


def test_masks_that_cannot_be_compared_are_refused():
    mask = np.ones((2, 2), int)
    with pytest.raises(InputError, match="1 raters: give the masks of 2 to 62"):
        staple({"a": mask})
    with pytest.raises(InputError, match=r"differ in shape: a \(2, 2\), b \(3,\)"):
        majority_vote({"a": mask, "b": np.ones(3, int)})
    with pytest.raises(InputError, match="region: holds no voxel"):
        rater_agreement({"a": mask, "b": mask}, region=np.zeros((2, 2), bool))
    with pytest.raises((InputError, TypeError), match="region"):
        staple({"a": mask, "b": mask}, region=np.ones((3, 2), bool))
