import csv
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segjax.data.cases import Case
from segjax.data.io.formats import write_volume
from segjax.errors import InputError
from segjax.evaluate.measure import LabelMeasures
from segjax.segment import (
    Segmentation,
    check_all,
    segment,
)
from segjax.volume import Volume


class StandInPredictor:
    """Marks 3 voxels as label 1 and 2 voxels as label 2; cannot read cases named ``bad``."""

    metadata = SimpleNamespace(labels=("background", "one", "two"))
    files = ()

    def __init__(self, rank: int = 3):
        self.rank = rank

    def predict_files(self, cases: Sequence[Case], out: Path, **options: bool) -> list[Path]:
        (case,) = cases
        if case.name == "bad":
            raise InputError("bad.nii.gz: cannot be read")
        data = np.zeros((4,) * self.rank, np.uint8)
        data.flat[:5] = (1, 1, 1, 2, 2)
        affine = np.diag([10.0] * self.rank + [1.0])
        path = Path(out) / (case.name + (".nii.gz" if self.rank == 3 else ".png"))
        write_volume(Volume(data, affine), path)
        return [path]


class Counting(StandInPredictor):
    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []

    def predict_files(self, cases, out, **options):
        assert options["overwrite"]
        self.made += [case.name for case in cases]
        (Path(out) / f"{cases[0].name}.nii.gz").unlink(missing_ok=True)
        return super().predict_files(cases, out, **options)


def rows_of(folder):
    with (folder / "volumes.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cases(*names: str) -> list[Case]:
    return [Case(name, (Path(f"{name}.nii.gz"),)) for name in names]


def test_segmented_images_tell_the_millilitres_of_each_label(tmp_path):
    (result,) = segment(StandInPredictor(), cases("a"), tmp_path)
    assert (result.case, result.sizes, result.unit) == ("a", (3.0, 2.0), "ml")
    assert result.seconds > 0
    check_all([result])


def test_segmented_2d_images_tell_pixels(tmp_path):
    (result,) = segment(StandInPredictor(rank=2), cases("a"), tmp_path)
    assert (result.sizes, result.unit) == ((3.0, 2.0), "pixels")


def test_one_bad_image_does_not_stop_the_others(tmp_path):
    results = list(segment(StandInPredictor(), cases("bad", "a"), tmp_path))
    assert [bool(result.error) for result in results] == [True, False]
    with pytest.raises(InputError, match=r"bad\.nii\.gz: cannot be read \(1 of 2 images failed\)"):
        check_all(results)


def test_single_bad_image_has_its_message_alone():
    with pytest.raises(InputError, match=r"^broken$"):
        check_all([Segmentation("a", 1.0, error="broken")])


def test_finished_masks_are_kept_and_the_others_made(tmp_path):
    list(segment(StandInPredictor(), cases("a", "c"), tmp_path))
    before = (tmp_path / "a.nii.gz").stat().st_mtime_ns
    predictor = Counting()
    results = list(segment(predictor, cases("a", "b", "c"), tmp_path, skip_existing=True))
    assert predictor.made == ["b"]
    assert [result.kept for result in results] == [True, False, True]
    assert {result.sizes for result in results} == {(3.0, 2.0)}
    assert (tmp_path / "a.nii.gz").stat().st_mtime_ns == before


def test_mask_without_the_wanted_probabilities_is_made_again(tmp_path):
    list(segment(StandInPredictor(), cases("a"), tmp_path))
    predictor = Counting()
    options = {"skip_existing": True, "probabilities": True}
    list(segment(predictor, cases("a"), tmp_path, **options))
    (tmp_path / "a_probabilities.nii.gz").touch()
    list(segment(predictor, cases("a"), tmp_path, **options))
    assert predictor.made == ["a"]


def test_masks_are_not_both_kept_and_replaced(tmp_path):
    with pytest.raises(InputError, match="not both"):
        list(segment(Counting(), cases("a"), tmp_path, overwrite=True, skip_existing=True))


def test_a_map_is_never_written_over_the_mask_of_another_case(tmp_path):
    with pytest.raises(InputError, match=r"a_probabilities\.nii\.gz: would be written for"):
        list(segment(Counting(), cases("a", "a_probabilities"), tmp_path, probabilities=True))


def test_whatever_fails_stops_no_other_case_and_names_the_file(tmp_path):
    class Odd(StandInPredictor):
        def predict_files(self, some, out, **options):
            if some[0].name == "odd":
                raise KeyError("no such code")
            return super().predict_files(some, out, **options)

    odd, good = segment(Odd(), cases("odd", "a"), tmp_path)
    assert "odd.nii.gz: KeyError" in odd.error
    assert not good.error


def test_the_table_names_every_case_with_digests_warnings_and_errors(tmp_path, monkeypatch):
    class Warner(StandInPredictor):
        def predict_files(self, some, out, **options):
            warnings.warn(f"{some[0].name}: odd\nvoxels", stacklevel=1)
            return super().predict_files(some, out, **options)

    monkeypatch.chdir(tmp_path)
    for name in ("model.onnx", "a.nii.gz", "bad.nii.gz"):
        (tmp_path / name).write_bytes(b"abc")
    predictor = Warner()
    predictor.files = (Path("model.onnx"),) * 2
    with pytest.warns(UserWarning, match="odd"):
        list(segment(predictor, cases("bad", "a"), tmp_path / "out"))
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    bad, one, two = rows_of(tmp_path / "out")
    assert (bad["case"], bad["label"], bad["error"]) == ("bad", "", "bad.nii.gz: cannot be read")
    assert [(r["case"], r["label"], r["volume"]) for r in (one, two)] == [
        ("a", "one", "3.0"),
        ("a", "two", "2.0"),
    ]
    assert {row["network_sha256"] for row in (bad, one, two)} == {f"{abc} {abc}"}
    assert {row["image_sha256"] for row in (bad, one, two)} == {abc}
    assert [row["warnings"] for row in (bad, one)] == ["bad: odd voxels", "a: odd voxels"]


def test_the_table_covers_masks_that_were_kept(tmp_path):
    list(segment(StandInPredictor(), cases("a", "b"), tmp_path))
    before = rows_of(tmp_path)
    list(segment(Counting(), cases("a", "b", "c"), tmp_path, skip_existing=True))
    assert rows_of(tmp_path)[:4] == before
    (tmp_path / "volumes.csv").unlink()
    list(segment(Counting(), cases("b"), tmp_path, skip_existing=True))
    assert [(row["volume"], row["warnings"]) for row in rows_of(tmp_path)] == [
        ("3.0", "the mask was there already"),
        ("2.0", "the mask was there already"),
    ]


def test_a_mask_that_is_not_replaced_keeps_its_row(tmp_path):
    class Refusing(StandInPredictor):
        def predict_files(self, some, out, **options):
            raise InputError("exists already")

    list(segment(StandInPredictor(), cases("a"), tmp_path))
    before = rows_of(tmp_path)
    (result,) = segment(Refusing(), cases("a"), tmp_path)
    assert "exists already" in result.error
    assert rows_of(tmp_path) == before
    (tmp_path / "a.nii.gz").unlink()
    list(segment(Refusing(), cases("a"), tmp_path))
    assert [row["error"] for row in rows_of(tmp_path)] == ["a.nii.gz: exists already"]


def test_a_table_that_cannot_be_written_is_an_error_of_the_case_and_stops_no_other(tmp_path):
    class Blocking(StandInPredictor):
        def predict_files(self, some, out, **options):
            if some[0].name == "a":
                (Path(out) / "volumes.csv").mkdir()
            else:
                (Path(out) / "volumes.csv").rmdir()
            return super().predict_files(some, out, **options)

    first, second = segment(Blocking(), cases("a", "b"), tmp_path)
    assert "volumes.csv: " in first.error
    assert not second.error
    assert [row["case"] for row in rows_of(tmp_path)] == ["a", "a", "b", "b"]


def test_lesions_tell_of_the_maps_that_are_written_too(tmp_path):
    class Uncertain(StandInPredictor):
        def predict_files(self, some, out, **options):
            spread = np.full((4, 4, 4), 0.25, np.float32)
            affine = np.diag([10.0, 10, 10, 1])
            write_volume(Volume(spread, affine), Path(out) / "a_uncertainty.nii.gz")
            maps = np.stack([spread, spread * 2, spread * 3], axis=-1)
            write_volume(Volume(maps, affine), Path(out) / "a_probabilities.nii.gz")
            return super().predict_files(some, out, **options)

    list(segment(Uncertain(), cases("a"), tmp_path, uncertainty=True, probabilities=True))
    assert [row["spread"] for row in rows_of(tmp_path)] == ["0.25", "0.25"]
    with (tmp_path / "lesions.csv").open(newline="", encoding="utf-8") as file:
        lesions = list(csv.DictReader(file))
    assert [(row["probability"], row["spread"]) for row in lesions] == [
        ("0.5", "0.25"),
        ("0.75", "0.25"),
        ("0.75", "0.25"),
    ]


class Notes:
    """Writes how many labels a mask has beside it; fails for cases named ``odd``."""

    def files(self, case: Case, mask: Path) -> list[Path]:
        return [mask.with_name(f"{case.name}.txt")]

    def write(self, case: Case, mask: Path, loads: Sequence[LabelMeasures]) -> None:
        self.files(case, mask)[0].write_text(str(len(loads)))
        if case.name == "odd":
            raise InputError("odd: no room")


def test_companions_write_beside_each_mask_and_are_part_of_a_finished_case(tmp_path):
    run = partial(segment, StandInPredictor(), cases("a"), tmp_path, companions=[Notes()])
    check_all(list(run()))
    assert (tmp_path / "a.txt").read_text() == "2"
    assert [one.kept for one in run(skip_existing=True)] == [True]
    (tmp_path / "a.nii.gz").unlink()
    (done,) = run()
    assert "a.txt: exists already" in done.error
    (tmp_path / "a.txt").unlink()
    check_all(list(run()))
    (tmp_path / "a.txt").unlink()
    assert [one.kept for one in run(skip_existing=True)] == [False]


def test_a_case_whose_companion_fails_leaves_nothing(tmp_path):
    results = list(segment(StandInPredictor(), cases("odd", "a"), tmp_path, companions=[Notes()]))
    assert [bool(result.error) for result in results] == [True, False]
    assert not [file for file in tmp_path.iterdir() if file.name.startswith("odd")]


def test_a_kill_leaves_no_file_of_the_mask_before_beside_a_new_one(tmp_path):
    class Looking(Notes):
        def write(self, case, mask, loads):
            assert not any(file.exists() for file in self.files(case, mask))
            super().write(case, mask, loads)

    (tmp_path / "a.txt").write_text("of another mask")
    check_all(
        list(segment(Counting(), cases("a"), tmp_path, companions=[Looking()], overwrite=True))
    )
    assert (tmp_path / "a.txt").read_text() == "2"
