import pytest

from segjax.errors import InputError
from segjax.runs.folder import RunFolder
from segjax.runs.folds import (
    FoldScore,
    mean_and_deviation,
    mean_by_label,
    read_folds,
    read_scores,
    write_folds,
)

METRICS = """run,epoch,split,case,label,metric,value
run,1,train,,,loss,0.5
run,1,validation,a,lesion,dice,0.2
run,1,validation,b,lesion,dice,0.4
run,2,validation,a,lesion,dice,0.9
run,2,validation,b,lesion,dice,0.5
run,3,validation,a,lesion,dice,0.8
run,3,validation,b,lesion,dice,0.5
run,3,train,,,seconds,12
"""


def fold_score(fold, case, value, label="lesion", metric="dice"):
    return FoldScore(fold, 1, case, label, metric, value)


def test_best_epoch_of_every_fold_counts(tmp_path):
    for fold, text in ((0, METRICS), (2, METRICS.replace("0.9", "0.1"))):
        RunFolder(tmp_path).fold(fold).path.mkdir()
        RunFolder(tmp_path).fold(fold).metrics.write_text(text)
    scores = read_folds(tmp_path, 3)
    assert [(s.fold, s.epoch, s.case, s.value) for s in scores] == [
        (0, 2, "a", 0.9),
        (0, 2, "b", 0.5),
        (2, 3, "a", 0.8),
        (2, 3, "b", 0.5),
    ]
    path = write_folds(scores, tmp_path)
    write_folds(scores, tmp_path)
    assert path.read_text().splitlines()[:2] == [
        "fold,epoch,case,label,metric,value",
        "0,2,a,lesion,dice,0.9",
    ]
    assert mean_by_label(scores) == {"lesion": {0: 0.7, 2: 0.65}}


def test_fold_without_a_validation_yet_is_left_out(tmp_path):
    (tmp_path / "fold0").mkdir()
    (tmp_path / "fold0" / "metrics.csv").write_text("\n".join(METRICS.splitlines()[:2]))
    assert read_folds(tmp_path, 2) == []
    with pytest.raises(InputError, match="no fold was validated"):
        mean_by_label([])


def test_labels_are_averaged_too_where_there_are_several():
    scores = [fold_score(0, "a", 0.5, "front"), fold_score(0, "a", 1.0, "back")]
    assert mean_by_label(scores) == {"front": {0: 0.5}, "back": {0: 1.0}, "mean": {0: 0.75}}


def test_deviation_is_that_of_a_sample():
    assert mean_and_deviation({0: 1.0, 1: 3.0}) == (2.0, 2**0.5)
    assert mean_and_deviation({3: 0.5}) == (0.5, 0.0)


def test_cases_without_a_label_are_in_no_mean_but_in_the_table(tmp_path):
    healthy = METRICS + "run,2,validation,c,lesion,false_positive_ml,1.5\n"
    only = "run,epoch,split,case,label,metric,value\n" + "".join(
        f"run,{epoch},validation,d,lesion,false_positive_ml,{epoch}\n" for epoch in (1, 2)
    )
    for fold, text in enumerate((healthy, only)):
        RunFolder(tmp_path).fold(fold).path.mkdir()
        RunFolder(tmp_path).fold(fold).metrics.write_text(text)
    scores = read_folds(tmp_path, 2)
    assert mean_by_label(scores) == {"lesion": {0: 0.7}}
    assert read_scores(write_folds(scores, tmp_path)) == scores
    assert write_folds(scores, tmp_path).read_text().splitlines()[-2:] == [
        "0,2,c,lesion,false_positive_ml,1.5",
        "1,2,d,lesion,false_positive_ml,2.0",  # of the newest network
    ]


def test_a_label_that_a_fold_lacks_is_not_in_its_mean():
    scores = [
        fold_score(0, "a", 0.5, "front"),
        fold_score(0, "a", 0.0, "back", "false_positive_ml"),
        fold_score(1, "b", 1.0, "back"),
    ]
    assert mean_by_label(scores) == {
        "front": {0: 0.5},
        "back": {1: 1.0},
        "mean": {0: 0.5, 1: 1.0},
    }
