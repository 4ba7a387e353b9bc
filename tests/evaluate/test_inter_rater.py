"""Several raters' files: which belong together, and what the consensus of each case is."""

from pathlib import Path

import numpy as np
import pytest

from segjax.data.io.formats import read_label, write_volume
from segjax.errors import InputError
from segjax.evaluate.inter_rater import rate_cases, rater_names
from segjax.volume import Volume


@pytest.fixture
def raters(tmp_path):
    """Three raters of two cases: of the first two agree on a cube; of the second all see none."""
    cube, slab = np.zeros((2, 8, 8, 8), np.uint8)
    cube[2:6, 2:6, 2:6] = 1
    slab[2:6, 2:6, 2:4] = 1
    slab[1, 1, 1] = 2
    for name, mask in (("anna", cube), ("ben", cube), ("clara", slab)):
        (tmp_path / name).mkdir()
        write_volume(Volume(mask, np.eye(4)), tmp_path / name / "a.nii.gz")
        write_volume(Volume(0 * mask, np.eye(4)), tmp_path / name / "b.nii.gz")
    return [tmp_path / name for name in ("anna", "ben", "clara")]


def test_raters_are_compared_in_pairs_and_with_the_others(raters):
    first, second = rate_cases(raters).cases
    found = first.agreement[1]
    assert found.dice["anna", "ben"] == 1
    assert found.dice["anna", "clara"] == pytest.approx(2 * 32 / (64 + 32))
    assert found.against_others["clara"] == pytest.approx(2 / 3)
    assert found.volumes == {"anna": 64, "ben": 64, "clara": 32}
    assert set(first.agreement) == {1, 2}
    assert second.agreement[1].pairwise_dice.value == 1
    assert not second.mask.data.any()


def test_the_consensus_is_what_most_say(raters):
    first, _ = rate_cases(raters).cases
    expected = np.zeros((8, 8, 8))
    expected[2:6, 2:6, 2:6] = 1
    np.testing.assert_array_equal(first.mask.data, expected)
    assert first.consensus[1].raters["clara"].sensitivity == pytest.approx(0.5, abs=1e-3)
    rows = {(label, rater, measure): value for _, label, rater, measure, value in first.rows()}
    assert rows[1, "anna / clara", "dice"] == pytest.approx(2 / 3)
    assert rows[1, "clara", "staple_sensitivity"] == pytest.approx(0.5, abs=1e-3)


def test_raters_are_called_by_what_tells_their_folders_apart():
    assert rater_names([Path("x/a/masks"), Path("x/b/masks")]) == ["a/masks", "b/masks"]
    with pytest.raises(InputError, match="give each rater once"):
        rater_names([Path("x"), Path("x")])


def test_one_rater_or_no_common_case_is_refused(raters):
    with pytest.raises(InputError, match="give the masks of two or more"):
        rate_cases(raters[:1])
    (raters[1] / "a.nii.gz").unlink()
    (raters[2] / "b.nii.gz").unlink()
    with pytest.raises(InputError, match="no case that every rater has"):
        rate_cases(raters)
    with pytest.raises(InputError, match="nobody: no such folder"):
        rate_cases([raters[0], raters[0].parent / "nobody"])


def test_a_case_that_cannot_be_compared_is_named_and_stops_no_other(raters):
    write_volume(Volume(np.ones((8, 8, 7), np.uint8), np.eye(4)), raters[1] / "c.nii.gz")
    for rater in (raters[0], raters[2]):
        write_volume(Volume(np.ones((8, 8, 8), np.uint8), np.eye(4)), rater / "c.nii.gz")
    rated = rate_cases(raters)
    assert [case.case for case in rated.cases] == ["a", "b"]
    assert [failure.case for failure in rated.failed] == ["c"]
    with pytest.raises(InputError, match=r"has shape .* \(1 of 3 cases failed: c\)"):
        rated.check()
    (raters[0] / "a.nii.gz").unlink()
    (raters[0] / "b.nii.gz").unlink()
    with (
        pytest.raises(InputError, match="has shape"),
        pytest.warns(UserWarning, match="a, b: not of every rater; left out"),
    ):
        rate_cases(raters)


def test_cases_that_one_rater_lacks_are_left_out_whoever_it_is(raters):
    (raters[0] / "a.nii.gz").unlink()
    with pytest.warns(UserWarning, match="a: not of every rater; left out"):
        assert [case.case for case in rate_cases(raters).cases] == ["b"]


def test_classes_of_a_network_are_compared_with_stored_values_of_raters(raters):
    mask = read_label(raters[0] / "a.nii.gz")
    write_volume(mask.with_data(255 * mask.data), raters[0] / "a.nii.gz", overwrite=True)
    text = '{"labels": {"background": 0, "lesion": 255}}'
    (raters[0] / "dataset.json").write_text(text)
    names = [path.name for path in raters[:2]]
    assert rate_cases(raters[:2]).cases[0].agreement[1].dice[tuple(names)] == 1


def test_a_label_that_nobody_marked_is_told_from_one_that_somebody_did(raters):
    first, second = rate_cases(raters).cases
    assert first.held(1)
    assert first.held(2)
    assert not first.held(3)
    assert not second.held(1)
