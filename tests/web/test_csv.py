"""The page writes the tables of segjax predict, and text in them runs nothing."""

import csv
import io

import numpy as np
import pytest

from segjax.evaluate.measure import measure_mask
from segjax.evaluate.volumes import CaseTables
from segjax.volume import Volume
from tests.geometry import rigid


def page_tables(page_modules, case, mask, affine, labels):
    loads = page_modules.call(
        "measure/lesions.measure", mask.ravel(), mask.shape, affine.tolist(), labels
    )
    return [
        page_modules.call(f"io/csv.{name}", case, loads) for name in ("volumesCsv", "lesionsCsv")
    ]


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("seed", range(20))
def test_cells_are_those_of_segjax_predict(page_modules, tmp_path, seed):
    rng = np.random.default_rng(seed)
    spacing = [rng.uniform(0.3, 4, 3), (0.5, 0.5, 0.03125), (1.25, 1.25, 5)][seed % 3]
    affine = rigid(rng.choice([0, 33]) * np.ones(3), spacing, rng.choice([0, -12.345, 0.125], 3))
    mask = rng.integers(0, 4, (7, 8, 9), np.uint8) * (rng.random((7, 8, 9)) < 0.3)
    labels = ["background", 'a "b", c', "d\ne", "empty"]
    with CaseTables(tmp_path) as tables:
        tables.put("case, 1", measure_mask(Volume(mask, affine), labels=labels))
    made = page_tables(page_modules, "case, 1", mask, affine, labels)
    for text, name in zip(made, ("volumes.csv", "lesions.csv"), strict=True):
        expected = rows_of((tmp_path / name).read_text())
        rows = rows_of(text)
        assert len(rows) == len(expected) > 0
        columns = [c for c in rows[0] if c != "diameter"]
        assert columns == [c for c in expected[0] if c in rows[0]]
        for row, other in zip(rows, expected, strict=True):
            assert {c: row[c] for c in columns} == {c: other[c] for c in columns}
        assert ("diameter" in rows[0]) == (name == "lesions.csv")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_spreadsheets_would_run_is_made_harmless(page_modules, start):
    mask = np.ones((1, 1, 1), np.uint8)
    affine = np.diag([1, 1, 1, 1.0])
    affine[:3, 3] = -5
    text = f'{start}HYPERLINK("http://x","y")'
    for table in page_tables(page_modules, text, mask, affine, ["background", text]):
        (row,) = rows_of(table)
        assert row["case"] == row["label"] == f"'{text}"
        assert row.get("x", "-5.0") == "-5.0"
