import pytest

from segjax.errors import InputError
from segjax.train.folds import (
    FoldScore,
    fold_folder,
    mean_and_deviation,
    mean_by_label,
    read_folds,
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


def test_best_epoch_of_every_fold_counts(tmp_path):
    for fold, text in ((0, METRICS), (2, METRICS.replace("0.9", "0.1"))):
        fold_folder(tmp_path, fold).mkdir()
        (fold_folder(tmp_path, fold) / "metrics.csv").write_text(text)
    scores = read_folds(tmp_path, 3)
    assert [(s.fold, s.epoch, s.case, s.dice) for s in scores] == [
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
    fold_folder(tmp_path, 0).mkdir()
    (tmp_path / "fold0" / "metrics.csv").write_text("\n".join(METRICS.splitlines()[:2]))
    assert read_folds(tmp_path, 2) == []
    with pytest.raises(InputError, match="no fold was validated"):
        mean_by_label([])


def test_labels_are_averaged_too_where_there_are_several():
    scores = [FoldScore(0, 1, "a", "front", 0.5), FoldScore(0, 1, "a", "back", 1.0)]
    assert mean_by_label(scores) == {"front": {0: 0.5}, "back": {0: 1.0}, "mean": {0: 0.75}}


def test_deviation_is_that_of_a_sample():
    assert mean_and_deviation({0: 1.0, 1: 3.0}) == (2.0, 2**0.5)
    assert mean_and_deviation({3: 0.5}) == (0.5, 0.0)
