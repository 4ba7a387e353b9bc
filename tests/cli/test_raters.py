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


def test_masks_of_a_rater_are_not_replaced(raters, capsys):
    assert main(["raters", *raters, "-o", raters[0], "--overwrite"]) == 1
    assert "holds the masks of a rater" in capsys.readouterr().err
