"""``segjax raters``: what it prints and writes, and what it refuses."""

import csv

import numpy as np
import pytest

from segjax.cli import main
from segjax.data.io.formats import read_label, write_volume
from segjax.volume import Volume


@pytest.fixture
def raters(tmp_path):
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[1:4, 1:4, 1:4] = 1
    for name in ("anna", "ben", "clara"):
        (tmp_path / name).mkdir()
        write_volume(Volume(mask, np.eye(4)), tmp_path / name / "a.nii.gz")
        mask[1, 1, 1] = 0
    return [str(tmp_path / name) for name in ("anna", "ben", "clara")]


def test_agreement_is_printed_and_the_consensus_written(raters, tmp_path, capsys):
    out = tmp_path / "consensus"
    assert main(["raters", *raters, "-o", str(out)]) == 0
    told = capsys.readouterr().out
    assert "ben / clara" in told
    line = next(row.split() for row in told.splitlines() if row.startswith("a "))
    assert line[1:4] == ["0.981", "0.981", "1.000"]  # 2 · 26 / 53
    assert read_label(out / "a.nii.gz").data.sum() == 26
    with (out / "raters.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["measure"] for row in rows} >= {"dice", "fleiss_kappa", "staple_sensitivity"}
    assert main(["raters", *raters, "-o", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_case_that_fails_is_named_and_the_others_are_written(raters, tmp_path, capsys):
    for rater, size in zip(raters, (6, 6, 7), strict=True):
        write_volume(Volume(np.ones((6, 6, size), np.uint8), np.eye(4)), f"{rater}/b.nii.gz")
    out = tmp_path / "consensus"
    assert main(["raters", *raters, "-o", str(out)]) == 1
    said = capsys.readouterr()
    assert "failed, in no mean" in said.out
    assert "1 of 2 cases failed: b" in said.err
    assert {file.name for file in out.iterdir()} == {"a.nii.gz", "raters.csv"}


def test_a_case_in_which_nobody_marked_anything_counts_in_no_mean(raters, capsys):
    assert main(["raters", *raters]) == 0
    alone = capsys.readouterr().out
    for rater in raters:
        write_volume(Volume(np.zeros((6, 6, 6), np.uint8), np.eye(4)), f"{rater}/b.nii.gz")
    assert main(["raters", *raters]) == 0
    both = capsys.readouterr().out
    table = alone[alone.index("mean of") :]
    assert both[both.index("mean of") :] == table


def test_files_in_the_way_are_told_before_anything_is_written(raters, tmp_path, capsys):
    out = tmp_path / "consensus"
    out.mkdir()
    (out / "a.nii.gz").write_text("mine")
    assert main(["raters", *raters, "-o", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert [file.name for file in out.iterdir()] == ["a.nii.gz"]
    for folder, fault in (("no/consensus", "there is no folder"), ("consensus/a.nii.gz", "a file")):
        assert main(["raters", *raters, "-o", str(tmp_path / folder)]) == 1
        assert fault in capsys.readouterr().err


def test_masks_of_a_rater_are_not_replaced(raters, capsys):
    files = [f"{rater}/a.nii.gz" for rater in raters]
    for masks in (raters, files):
        assert main(["raters", *masks, "-o", raters[0], "--overwrite"]) == 1
        assert "holds the masks of a rater" in capsys.readouterr().err
