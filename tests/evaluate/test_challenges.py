"""Tables of challenges against hand counts and the measures that they are made of."""

import numpy as np
import pytest

from segjax.data.io.formats import write_volume
from segjax.errors import InputError
from segjax.evaluate.challenges import CHALLENGES, challenge_table
from segjax.evaluate.compare import Evaluation, compare_cases
from segjax.evaluate.lesions import match_lesions
from segjax.evaluate.lesionwise import LesionwiseRule, lesionwise_scores
from segjax.evaluate.overlap import dice, specificity
from segjax.evaluate.pairs import match_masks
from segjax.registry import registry
from segjax.volume import Volume

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
MEASURES = ("LesionWise_Dice", "LesionWise_Hausdorff95", "Dice", "Hausdorff95", "Sensitivity")
COUNTS = ("Specificity", "Num_TP", "Num_FP", "Num_FN")


def compared(folder, cases, **options):
    """Compare masks, which are written to a folder, and return the evaluation."""
    for side in ("labels", "masks"):
        (folder / side).mkdir()
    for name, pair in cases.items():
        for side, data in zip(("labels", "masks"), pair, strict=True):
            write_volume(
                Volume(np.asarray(data, np.uint8), AFFINE), folder / side / f"{name}.nii.gz"
            )
    return compare_cases(match_masks(folder / "masks", folder / "labels"), **options)


@pytest.fixture(scope="module")
def masks():
    """Three cases: one moved and with a false positive, one missed, one healthy with an alarm."""
    truth, prediction, nothing, alarm = np.zeros((4, 10, 10, 8), np.uint8)
    truth[1:5, 1:5, 1:5] = truth[7, 7, 6] = 1
    prediction[2:6, 1:5, 1:5] = prediction[9, 0, 0] = 1
    alarm[4:6, 4, 4] = 1
    return {"a": (truth, prediction), "b": (truth, nothing), "c": (nothing, alarm)}


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory, masks):
    return compared(tmp_path_factory.mktemp("ms"), masks, names=["lesion"])


@pytest.fixture(scope="module")
def tumours(tmp_path_factory):
    truth = np.zeros((12, 12, 10), np.uint8)
    truth[1:9, 1:9, 1:8], truth[2:8, 2:8, 2:7], truth[3:7, 3:7, 3:6] = 2, 1, 3
    return {"x": (truth, np.roll(truth, 1, 0)), "y": (truth, truth)}


def measured(pair, measure):
    return measure(truth=pair[0], prediction=pair[1])


@pytest.mark.parametrize("name", CHALLENGES)
def test_every_case_has_a_row_of_known_columns(evaluation, name):
    table = challenge_table(name, evaluation)
    cases = [row[table.columns[0]] for row in table.rows]
    assert cases == ["a", "b", "c"] + ["mean"] * (name == "isbi-2015")
    assert all(set(row) <= set(table.columns) for row in table.rows)
    assert all(type(value) in (int, float, str) for row in table.rows for value in row.values())


def test_the_table_of_msseg_has_the_units_of_its_program(evaluation, masks):
    rows = {row["Case"]: row for row in challenge_table("msseg-2016", evaluation).rows}
    rule = registry("lesion-rule").get("msseg-2016")
    match = match_lesions(truth=masks["a"][0], prediction=masks["a"][1], spacing=AFFINE, rule=rule)
    assert rows["a"]["Dice"] == measured(masks["a"], dice)
    assert rows["a"]["Specificity"] == measured(masks["a"], specificity)
    assert rows["a"]["NPV"] == pytest.approx((800 - 65 - 17) / (800 - 65))  # 17 missed voxels
    assert rows["a"]["RelativeVolumeError"] == 0
    assert rows["b"]["RelativeVolumeError"] == -100
    assert (
        (rows["a"]["SensL"], rows["a"]["PPVL"])
        == (match.sensitivity, match.precision)
        == (0.5,) * 2
    )
    assert rows["a"]["F1_score"] == 0.5
    assert rows["a"]["HausdorffDistance"] > rows["a"]["SurfaceDistance"] > 0


def test_a_miss_has_the_worst_rates_and_a_healthy_case_what_was_found_in_it(evaluation):
    _, missed, healthy = challenge_table("msseg-2016", evaluation).rows
    assert [missed[name] for name in ("Dice", "PPV", "SensL", "PPVL", "F1_score")] == [0] * 5
    assert "NbTestedLesions" not in missed
    assert (healthy["NbTestedLesions"], healthy["VolTestedLesions"]) == (1, 4)
    assert healthy["SensL"] == 0
    assert missed["HausdorffDistance"] == pytest.approx(np.sqrt(10**2 + 10**2 + 16**2))


def test_the_score_of_isbi_is_its_weighted_sum(evaluation, masks):
    *rows, mean = challenge_table("isbi-2015", evaluation).rows
    volumes = np.array([[65, 65, 0], [65, 0, 2]]) * 2
    assert mean["Corr"] == pytest.approx(np.corrcoef(volumes)[0, 1])
    assert [row["TrueVol"] for row in rows] == volumes[0].tolist()
    assert [row["SegVol"] for row in rows] == volumes[1].tolist()
    assert [row["LTPR"] for row in rows] == [0.5, 0, 0]
    assert [row["LFPR"] for row in rows] == [0.5, 1, 1]
    overlap = measured(masks["a"], dice) / 3
    parts = 2 * overlap / 8 + (1 - 2.5 / 3 + 0.5 / 3 + mean["Corr"]) / 4
    assert mean["PPV"] == pytest.approx(overlap)  # as many voxels are true as predicted
    assert mean["Score"] == pytest.approx(100 * parts)
    assert "Score" not in rows[0]


def test_a_volume_error_over_nothing_is_left_out_of_rows_and_means(evaluation):
    *rows, mean = challenge_table("isbi-2015", evaluation).rows
    assert [row.get("VD") for row in rows] == [0, 1, None]
    assert mean["VD"] == 0.5
    rows = challenge_table("msseg-2016", evaluation).rows
    assert [row.get("RelativeVolumeError") for row in rows] == [0, -100, None]


def test_perfect_masks_have_a_perfect_score(tmp_path, masks):
    small = np.zeros_like(masks["a"][0])
    small[3:5, 3, 3] = 1
    pairs = {"a": (masks["a"][0],) * 2, "b": (small, small)}
    mean = challenge_table("isbi-2015", compared(tmp_path, pairs)).rows[-1]
    assert mean["Score"] == pytest.approx(100)
    assert (mean["SD"], mean["VD"]) == (0, 0)


def test_one_case_has_no_correlation(tmp_path, masks):
    mean = challenge_table("isbi-2015", compared(tmp_path, {"a": (masks["a"][0],) * 2})).rows[-1]
    assert (mean["Corr"], mean["Score"]) == (0, 75)


def test_the_columns_of_brats_are_those_of_its_result_files(tmp_path, tumours):
    table = challenge_table("brats-2023", compared(tmp_path, tumours), rule="meningioma")
    regions = ("ET", "TC", "WT")
    expected = [f"{one}_{region}" for one in (*MEASURES, *COUNTS) for region in regions]
    assert table.columns == ("scan_id", *expected)
    moved, same = table.rows
    assert [same[f"LesionWise_Dice_{region}"] for region in regions] == [1, 1, 1]
    assert [same[f"Hausdorff95_{region}"] for region in regions] == [0, 0, 0]
    for region, values in (("ET", [3]), ("TC", [1, 3]), ("WT", [1, 2, 3])):
        truth, prediction = (np.isin(mask, values) for mask in tumours["x"])
        found = lesionwise_scores(
            truth=truth, prediction=prediction, spacing=AFFINE, rule="meningioma"
        )
        assert moved[f"LesionWise_Dice_{region}"] == found.dice
        assert moved[f"LesionWise_Hausdorff95_{region}"] == found.hd95_mm
        assert moved[f"Hausdorff95_{region}"] == pytest.approx(found.hd95_mm)
        assert moved[f"Dice_{region}"] == dice(truth=truth, prediction=prediction)
        assert moved[f"Num_TP_{region}"] == 1


def test_regions_of_brats_may_be_given(tmp_path, tumours):
    evaluation = compared(tmp_path, {"x": tumours["x"]})
    table = challenge_table("brats-2023", evaluation, regions={"GTV": (1, 3)})
    assert table.columns[1:3] == ("LesionWise_Dice_GTV", "LesionWise_Hausdorff95_GTV")


def test_labels_that_are_not_those_of_brats_are_compared_by_their_names(evaluation):
    table = challenge_table("brats-2023", evaluation, rule=LesionwiseRule(1, 0))
    assert table.columns[3] == "Dice_lesion"
    found, missed, healthy = table.rows
    assert (missed["Hausdorff95_lesion"], healthy["LesionWise_Hausdorff95_lesion"]) == (374, 374)
    assert (found["Num_TP_lesion"], found["Num_FN_lesion"], found["Num_FP_lesion"]) == (1, 1, 1)


def test_one_of_several_labels_is_named(tmp_path, tumours):
    evaluation = compared(tmp_path, tumours, names=["core", "edema", "enhancing"])
    with pytest.raises(InputError, match="labels core, edema, enhancing: the challenge has one"):
        challenge_table("msseg-2016", evaluation)
    with pytest.raises(InputError, match="did you mean 'edema'"):
        challenge_table("msseg-2016", evaluation, label="edem")
    row = challenge_table("msseg-2016", evaluation, label="edema").rows[0]
    assert row["Dice"] == dice(truth=tumours["x"][0], prediction=tumours["x"][1], label=2)


def test_slices_have_a_row_of_brats_but_none_of_ms_challenges(tmp_path):
    for side in ("labels", "masks"):
        (tmp_path / side).mkdir()
        data = np.eye(6, dtype=np.uint8).repeat(9, 0)
        write_volume(Volume(data, np.eye(3)), tmp_path / side / "flat.png")
    evaluation = compare_cases(match_masks(tmp_path / "masks", tmp_path / "labels"))
    rule = LesionwiseRule(1, 0)
    (row,) = challenge_table("brats-2023", evaluation, rule=rule).rows
    assert row["LesionWise_Dice_1"] == 1
    with pytest.raises(InputError, match="flat: is a slice"):
        challenge_table("msseg-2016", evaluation)


def test_an_unknown_challenge_is_refused(evaluation):
    with pytest.raises(InputError, match="did you mean 'brats-2023'"):
        challenge_table("brats-2032", evaluation)


@pytest.mark.parametrize("name", CHALLENGES)
def test_no_case_has_no_row(name):
    assert challenge_table(name, Evaluation(())).rows == []
