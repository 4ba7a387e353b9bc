"""Several raters' files: which belong together, and what the consensus of each case is."""

from pathlib import Path

import numpy as np
import pytest

from segjax.data.io.formats import write_volume
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
    first, second = rate_cases(raters)
    found = first.agreement[1]
    assert found.dice["anna", "ben"] == 1
    assert found.dice["anna", "clara"] == pytest.approx(2 * 32 / (64 + 32))
    assert found.against_others["clara"] == pytest.approx(2 / 3)
    assert found.volumes == {"anna": 64, "ben": 64, "clara": 32}
    assert set(first.agreement) == {1, 2}
    assert second.agreement[1].pairwise_dice.value == 1
    assert not second.mask.data.any()


def test_the_consensus_is_what_most_say(raters):
    first, _ = rate_cases(raters)
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
    with (
        pytest.raises(InputError, match="no case that every rater has"),
        pytest.warns(UserWarning, match="left out"),
    ):
        rate_cases(raters)
