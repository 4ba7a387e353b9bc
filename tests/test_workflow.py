import csv
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segjax import workflow
from segjax.data.cache.cache import Outcome, open_cache
from segjax.data.io.formats import read_volume, write_volume
from segjax.data.layouts import find_data
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import CropOrPad, Reorient, ZScore
from segjax.errors import InputError
from segjax.provenance import read_parts
from segjax.train.plans.plan import plan
from segjax_onnx.predict.metadata import ModelMetadata
from segjax_onnx.predict.network import Network


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, count=5, shape=(16, 16, 16))
    return folder


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
    spent = sum(float(row["seconds"]) for row in rows)
    assert first.seconds + 0.05 >= spent > second.seconds  # the first is told in tenths


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
    with pytest.raises(InputError, match=r"b\.nii: broken \(2 of 2 cases failed; none is left"):
        workflow.check_outcomes([bad, bad], tmp_path)
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


# The tables of a folder of masks
