"""The page about a sweep: that its numbers are those of the tables, and that it stands alone."""

import json
import re

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.provenance import Provenance, write_part
from segjax.report.sweep import write_sweep_report

MEMBERS = [
    ("k3-a0.5-s0", 3, 0.5, 0, 0.70, 0.60, ""),
    ("k3-a0.5-s1", 3, 0.5, 1, 0.74, 0.70, ""),
    ("k3-a0.5000001-s0", 3, 0.5000001, 0, 0.50, 0.40, "the loss became nan at step 9"),
    ("k5-a0.5-s0", 5, 0.5, 0, None, None, "the loss became <nan> at step 1"),
]


def write_sweep(folder, members=MEMBERS):
    results = ["kernel,alpha,seed,run,validation_dice,epoch,seconds,test_dice,error"]
    images = ["kernel,alpha,seed,case,label,dice"]
    for run, k, a, s, validation, test, error in members:
        known = ("", "", "") if validation is None else (validation, 2, test)
        results.append(f"{k},{a},{s},{run},{known[0]},{known[1]},1800,{known[2]},{error}")
        if test is not None:
            images += [f"{k},{a},{s},NA,lesion,{test - 0.1}", f"{k},{a},{s},b,lesion,{test + 0.1}"]
        path = folder / "runs" / run / "metrics.csv"
        path.parent.mkdir(parents=True)
        rows = [f"{run},1,train,,,loss,0.5", f"{run},1,validation,c,lesion,dice,{validation}"]
        header = "run,epoch,split,case,label,metric,value"
        path.write_text("\n".join([header, *(rows if validation else [])]) + "\n")
        (path.parent / "config.json").write_text(json.dumps({"model": f"unet2d-k{k}", "seed": s}))
    (folder / "results.csv").write_text("\n".join(results) + "\n")
    (folder / "images.csv").write_text("\n".join(images) + "\n")
    (folder / "sweep.json").write_text(json.dumps({"base": {"labels": ["background", "lesion"]}}))
    (folder / "examples").mkdir()
    half = np.tri(16, dtype=np.uint8)
    masks = {"truth": half, "mask": half.T}
    arrays = {"image": np.ones((16, 16, 1), np.float32), "affine": np.eye(3), **masks}
    np.savez(folder / "examples" / "k3-a0.5-s1-b.npz", **arrays)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = write_sweep(tmp_path_factory.mktemp("sweep") / "grid")
    (folder / "split.json").write_text(json.dumps({"train": ["t", "u"], "validation": ["c"]}))
    versions = {"segjax": "0.1.0"}
    made = Provenance("2026-03-01T09:30:00+01:00", "segjax sweep", "/a", 7200, "Debian", versions)
    write_part(folder, made)
    path = write_sweep_report(folder)
    return path.read_text(encoding="utf-8")


def rows(page):
    """Return the text of every row of every table."""
    found = re.findall(r"<tr>(.*?)</tr>", page)
    return [tuple(re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)) for row in found]


def test_combinations_have_mean_and_spread_over_their_seeds(page):
    spread = np.std([0.60, 0.70], ddof=1)
    first = ("3", "0.5", "2", "0.720 ± 0.028", f"0.650 ± {spread:.3f}")
    assert first in rows(page)
    assert ("3", "0.5000001", "1", "0.500", "0.400") in rows(page)
    assert ("5", "0.5", "1", "–", "–") in rows(page)


def test_best_member_is_told_with_its_dice_and_settings(page):
    tiles = {name: value for value, name in re.findall(r"<b>(.*?)</b><span>(.*?)</span>", page)}
    assert tiles == {
        "best by validation": "k3-a0.5-s1",
        "its mean validation Dice": "0.740",
        "its mean test Dice": "0.700",
        "its best epoch": "2",
        "finished trainings": "4",
        "of them failed": "2",
        "time of training": "2 h 0 min",  # four of half an hour
    }
    row = ("lesion", "0.700", "0.600 to 0.800", "0.100", "0.700", "0.600", "0.800", "2")
    assert row in rows(page)
    assert ("seed", "1") in rows(page)


def test_page_says_how_the_sweep_came_about_and_on_which_cases(page):
    told = rows(page)
    for row in (
        ("date", "2026-03-01 09:30:00+01:00"),
        ("command", "segjax sweep"),
        ("data", "/a"),
        ("time", "2 h 0 min"),
        ("machine", "Debian"),
        ("versions", "segjax 0.1.0"),
        ("training", "2", "t, u"),
        ("validation", "1", "c"),
    ):
        assert row in told


def test_failed_members_are_named_with_their_reason(page):
    assert ("k5-a0.5-s0", "the loss became &lt;nan&gt; at step 1") in rows(page)
    assert "grid: sweep of 4 trainings" in page


def test_page_holds_its_pictures(page):
    sources = re.findall(r'src="(.{20})', page)
    assert len(sources) == 6  # curves of two kernels, boxes, heat maps, images, one overlay
    assert set(sources) == {"data:image/png;base6"}
    assert "<script" not in page
    assert "http" not in page


def test_sweep_whose_members_all_failed_says_why(tmp_path):
    write_sweep(tmp_path / "grid", MEMBERS[3:])
    (tmp_path / "grid" / "images.csv").write_text("\n")  # as pandas writes an empty table
    with pytest.raises(InputError, match=r"all failed .k5-a0\.5-s0: the loss became <nan>"):
        write_sweep_report(tmp_path / "grid")
