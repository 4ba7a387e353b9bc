import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segjax import workflow
from segjax.data.cache.cache import Outcome, open_cache
from segjax.data.cases import Case
from segjax.data.io.formats import read_volume, write_volume
from segjax.data.layouts import find_data
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import CropOrPad, Reorient, ZScore
from segjax.errors import InputError
from segjax.provenance import read_parts
from segjax.train.plans.plan import plan
from segjax.volume import Volume
from segjax.workflow import (
    Segmentation,
    check_all,
    segment,
)
from segjax_onnx.predict.metadata import ModelMetadata
from segjax_onnx.predict.network import Network


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, count=5, shape=(16, 16, 16))
    return folder


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


def test_a_network_that_cannot_be_exported_gets_its_report(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise InputError("ONNX has no form of fft")

    monkeypatch.setattr("segjax_onnx.write.convert.export_onnx", refuse)
    monkeypatch.setattr("segjax.report.training.write_report", lambda run: run / "report.html")
    with pytest.warns(UserWarning, match=r"no model\.onnx: ONNX has no form of fft"):
        assert workflow.finish(tmp_path, []) == {"report": tmp_path / "report.html"}


class FullGPU:
    """Stands for a session of onnxruntime beside JAX, which has taken the memory of the GPU."""

    providers = ("CUDAExecutionProvider", "CPUExecutionProvider")

    def get_providers(self):
        return list(self.providers)

    def set_providers(self, names: Sequence[str]) -> None:
        self.providers = names

    def run(self, names, feed):
        if self.providers[0].startswith("CUDA"):
            raise RuntimeError("Failed to allocate memory")
        return [np.full_like(feed["image"], 0.75)]


def test_a_gpu_without_memory_costs_a_training_no_picture(data, tmp_path, monkeypatch):
    metadata = ModelMetadata(
        model="full",
        labels=("background", "lesion"),
        activation="sigmoid",
        spatial_dims=3,
        in_channels=1,
        patch_size=(16, 16, 16),
        overlap=0.5,
        batch_size=2,
        size_multiple=4,
        pipeline=[],
        segjax_version="0.1.0",
    )
    network = Network("model.onnx", FullGPU(), metadata, Pipeline(()))
    pictures = []
    monkeypatch.setattr("segjax_onnx.write.convert.export_onnx", lambda run, model, **_: model)
    monkeypatch.setattr("segjax_onnx.predict.predictor.open_network", lambda *_, **__: network)
    monkeypatch.setattr(
        "segjax.report.training.write_report", lambda run, examples: pictures.extend(examples)
    )
    with pytest.warns(UserWarning, match="failed on a batch .* using CPUExecutionProvider"):
        workflow.finish(tmp_path, find_data(data).cases[:2])
    assert [picture.prediction.data.all() for picture in pictures] == [True, True]


def test_one_bad_image_does_not_stop_the_others(tmp_path):
    results = list(segment(StandInPredictor(), cases("bad", "a"), tmp_path))
    assert [bool(result.error) for result in results] == [True, False]
    with pytest.raises(InputError, match=r"bad\.nii\.gz: cannot be read \(1 of 2 images failed\)"):
        check_all(results)


def test_single_bad_image_has_its_message_alone():
    with pytest.raises(InputError, match=r"^broken$"):
        check_all([Segmentation("a", 1.0, error="broken")])


def test_finished_training_is_not_done_again(data, tmp_path, monkeypatch):
    from segjax.train import _fit as fit

    result = fit.FitResult(tmp_path, 3, 2, 0.9, 1.0)

    def finished(*_: object, **__: object) -> None:
        raise fit.RunFinishedError(result)

    monkeypatch.setattr(fit, "fit", finished)
    assert workflow.train(plan(data), tmp_path) == result
    with pytest.warns(UserWarning, match="is finished, and was trained without TensorBoard logs"):
        assert workflow.train(plan(data), tmp_path, tensorboard=True) == result


# Preprocessing


PIPELINE = Pipeline((Reorient("LPS"), CropOrPad((16, 12, 16)), ZScore()))


def test_network_of_a_sweep_is_that_of_its_best_member(tmp_path, monkeypatch):
    from segjax.report import sweep as sweep_report
    from segjax_onnx.write import convert

    calls = []
    monkeypatch.setattr(sweep_report, "write_sweep_report", lambda folder: folder / "report.html")
    monkeypatch.setattr(convert, "export_onnx", lambda *a, **o: calls.append((a, o)) or a[1])
    run = tmp_path / "runs" / "k3-a0.5-s0"
    written = workflow.finish_sweep(SimpleNamespace(folder=tmp_path, run=run))
    assert written == {"report": tmp_path / "report.html", "model": tmp_path / "model.onnx"}
    assert calls == [((run, tmp_path / "model.onnx"), {"overwrite": True})]
    without = workflow.finish_sweep(SimpleNamespace(folder=tmp_path, run=None))
    assert list(without) == ["report"]


@pytest.fixture(scope="module")
def cache(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("caches") / "cache"
    workflow.preprocess(find_data(data), PIPELINE, folder, workers=1)
    return folder


def test_preprocessing_leaves_a_report_and_figures(data, cache):
    assert {"report.csv", "figures", "manifest.json"} <= {path.name for path in cache.iterdir()}
    assert {p.name for p in (cache / "figures").iterdir()} == {"histograms.png", "case.png"}
    with (cache / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [f"ms_{n:03d}" for n in range(5)]
    assert {row["state"] for row in rows} == {"made"}
    again = workflow.preprocess(find_data(data), PIPELINE, cache, workers=1)
    assert {outcome.state for outcome in again.outcomes} == {"unchanged"}
    assert [o.seconds for o in again.outcomes] == [float(row["seconds"]) for row in rows]
    assert again.early_megabytes == 0
    assert all(path.exists() for path in again.written.values())
    first, second = read_parts(cache)
    assert Path(first.data) == data / "images"
    assert first.seconds >= sum(float(row["seconds"]) for row in rows) > second.seconds


def test_cases_of_different_channels_are_named(data, tmp_path):
    image = read_volume(data / "images" / "ms_000.nii.gz")
    (tmp_path / "in").mkdir()
    for name, channels in (("one", 1), ("two", 2)):
        stacked = np.stack([image.data] * channels, axis=-1)
        write_volume(image.with_data(stacked), tmp_path / "in" / f"{name}.nii.gz")
    with pytest.warns(UserWarning, match=r"\('one' has 1, 'two' has 2\); no network takes both"):
        workflow.preprocess(find_data(tmp_path / "in"), PIPELINE, tmp_path / "cache", workers=1)


def test_failed_cases_are_counted_and_the_first_is_explained(tmp_path):
    good, bad = Outcome("a", "made"), Outcome("b", "failed", error="b.nii: broken")
    workflow.check_outcomes([good, good], tmp_path)
    with pytest.raises(InputError, match=r"^b\.nii: broken$"):
        workflow.check_outcomes([bad], tmp_path)
    with pytest.raises(InputError, match=r"b\.nii: broken \(1 of 2 cases failed; the others are"):
        workflow.check_outcomes([good, bad], tmp_path)


def test_cases_are_worth_having_without_figures(data, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.warns(UserWarning, match="no figures: drawing figures needs matplotlib"):
        done = workflow.preprocess(find_data(data), PIPELINE, tmp_path / "cache", workers=1)
    assert set(done.written) == {"cases", "report"}


def test_cache_without_a_single_case_has_no_figures(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no volume")
    done = workflow.preprocess(find_data(tmp_path), PIPELINE, tmp_path / "cache", workers=1)
    assert set(done.written) == {"cases", "report"}


def test_niftis_lie_where_the_processed_image_does(data, tmp_path):
    workflow.preprocess(find_data(data), PIPELINE, tmp_path / "cache", workers=1)
    opened = open_cache(tmp_path / "cache")
    for _ in range(2):  # what is there stays
        workflow.write_niftis(opened)
    case = opened.cases[2]
    image = read_volume(case.folder / "image.nii.gz")
    expected = PIPELINE.apply(read_volume(data / "images" / "ms_002.nii.gz"))
    np.testing.assert_allclose(image.affine, expected.affine, atol=1e-5)
    np.testing.assert_array_equal(image.data, expected.data[..., 0])
    label = read_volume(case.folder / "label.nii.gz")
    np.testing.assert_array_equal(label.data, case.label)


# Going on with a folder of masks


class Counting(StandInPredictor):
    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []

    def predict_files(self, cases, out, **options):
        assert options["overwrite"]
        self.made += [case.name for case in cases]
        (Path(out) / f"{cases[0].name}.nii.gz").unlink(missing_ok=True)
        return super().predict_files(cases, out, **options)


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


# The tables of a folder of masks


def rows_of(folder):
    with (folder / "volumes.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
