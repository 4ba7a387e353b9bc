"""Groups of measures: which there are, and that tables have what they tell."""

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.evaluate.compare import score
from segjax.evaluate.further import further
from segjax.registry import registry
from segjax.volume import Volume


def masks():
    truth, found = np.zeros((2, 12, 12, 12), np.uint8)
    truth[2:6, 2:6, 2:6] = 1
    found[2:6, 2:6, 3:7] = 1
    return {"truth": Volume(truth, np.eye(4)), "prediction": Volume(found, np.eye(4))}


def test_overlap_measures_are_columns():
    (row,) = score(**masks(), also=["overlap"])
    assert row["jaccard"] == pytest.approx(48 / 80)
    assert row["specificity"] == pytest.approx(1 - 16 / (12**3 - 64))
    assert row["volume_error"] == 0


@pytest.mark.parametrize("tolerance", [-1.0, float("nan")])
def test_a_tolerance_that_is_no_distance_is_refused(tolerance):
    with pytest.raises(InputError, match=r"tolerance is .*: give the distance in mm"):
        further(["surfaces"], tolerance=tolerance)


def test_all_stands_for_several_groups():
    (row,) = score(**masks(), also=further(["all"]))
    assert row["panoptic_quality"] == pytest.approx(0.6)
    assert row["lesionwise_dice"] == pytest.approx(row["dice"])
    assert row["hd95_mm"] > 0
    assert row["surface_dice"] == 1  # nothing is farther off than 1 mm
    (strict,) = score(**masks(), also=further(["surfaces"], tolerance=0.5))
    assert strict["surface_dice"] < 1


def test_surfaces_of_pictures_are_in_pixels():
    mask = Volume(np.eye(9, dtype=np.uint8), np.eye(3))
    (row,) = score(truth=mask, prediction=mask, also=["surfaces"])
    assert row["hd95_pixels"] == 0
    assert not [name for name in row if name.endswith("_mm")]


def test_every_task_of_brats_has_its_rule():
    names = [name for name in registry("measures").names() if name.startswith("brats-2023-")]
    assert len(names) == 5
    for name in names:
        (row,) = score(**masks(), also=[name])
        assert 0 < row["lesionwise_dice"] <= 1


def test_a_group_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="surfaces"):
        further(["surface"])
