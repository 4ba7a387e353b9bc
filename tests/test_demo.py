import csv
import os
import time
from pathlib import Path

import pytest

from segjax.demo import run_demo
from segjax.errors import InputError


def test_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_demo_learns_to_find_lesions_in_heads_it_never_saw(tmp_path):
    said: list[str] = []
    start = time.process_time()
    result = run_demo(tmp_path / "demo", say=said.append)
    used = time.process_time() - start
    assert result.dice > 0.8
    assert used < 180 * min(2, os.cpu_count() or 1)  # three minutes of two cores
    assert [line.split()[0] for line in said] == ["1/4", "2/4", "3/4", "4/4"]
    assert all(Path(path).exists() for path in result.paths.values())
    assert result.paths["picture"].read_bytes().startswith(b"\x89PNG")
    _check_that_test_heads_were_unseen(tmp_path / "demo")


def _check_that_test_heads_were_unseen(demo: Path) -> None:
    with (demo / "test_metrics.csv").open(newline="") as file:
        tested = {row["case"] for row in csv.DictReader(file)}
    with (demo / "run" / "metrics.csv").open(newline="") as file:
        validated = {row["case"] for row in csv.DictReader(file)} - {""}
    assert len(tested) == 6
    assert len(validated) == 4
    assert not tested & validated
