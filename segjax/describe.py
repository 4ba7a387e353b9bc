"""Say in words what a file or folder holds: a volume, a data set, a run or an exported network."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from segjax.data.labels import PLAIN, LabelCoding, classes_of
from segjax.errors import InputError
from segjax.files import read_json, reading
from segjax.text import plural
from segjax.volume import Volume

if TYPE_CHECKING:
    from segjax.data.cache.cache import Cache
    from segjax.data.cases import Split
    from segjax.data.io.dicom.series import Series
    from segjax.grid import Grid
    from segjax.train.config import TrainConfig
    from segjax.workflow import Plan

Facts = dict[str, str]
_WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
_MOST_VALUES = 32  # more different values than that, and it is no label map


def describe(path: str | Path, *, series: str | None = None) -> Facts:
    """Describe a volume, a data folder, a DICOM folder, a run, a sweep, an ONNX file or weights.

    Args:
        path: A volume (NIfTI, NRRD, MetaImage, PNG, NPY, DICOM), a DICOM segmentation or structure
            set, an ONNX file, weights of PyTorch, a run's or a sweep's folder, a cache, a folder of
            labelled images or a folder of DICOM files.
        series: Name, number or UID of the DICOM series to describe, where there are several.

    Returns:
        Names and values in the order to show them, as text with units.

    Raises:
        InputError: There is no such file, or it cannot be read.

    Example:
        >>> describe("run/model.onnx")["labels"]  # doctest: +SKIP
        'background, lesion'
    """
    from segjax.data.io.dicom.segmentation import is_label_object
    from segjax.data.io.dicom.series import choose_series

    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if series is not None:
        return describe_series(choose_series(path, series))
    if path.is_dir():
        return _describe_folder(path)
    if is_label_object(path):
        return describe_segments(path)
    if path.suffix == ".onnx":
        return describe_model(path)
    return describe_weights(path) if path.suffix in _WEIGHTS else describe_volume(path)


def _describe_folder(path: Path) -> Facts:
    from segjax.data.cache.cache import is_cache
    from segjax.data.cases import is_dataset
    from segjax.data.io.dicom.series import holds_dicom

    if is_cache(path):
        return describe_cache(path)
    if (path / "config.json").is_file():
        return describe_run(path)
    if (path / "sweep.json").is_file():
        return describe_sweep(path)
    labelled = is_dataset(path)
    return describe_dicom(path) if not labelled and holds_dicom(path) else describe_dataset(path)


def describe_dicom(folder: Path) -> Facts:
    """Describe a folder of DICOM files: the one volume, or each series in a line."""
    from segjax.data.io.dicom.series import find_series

    found = find_series(folder)
    if len(found) > 1:
        return {"kind": f"{len(found)} DICOM series"} | {
            f"series {one.name}": f"{one.description or one.modality}, {_slices(one)}"
            for one in found
        }
    return describe_series(found[0])


def describe_series(series: "Series") -> Facts:
    """Describe one DICOM series: its grid, its values, and how it was acquired."""
    from segjax.data.io.dicom.series import sidecar

    facts = sidecar(series)
    texts = {
        "MagneticFieldStrength": "{:g} T",
        "RepetitionTime": "TR {:g} s",
        "EchoTime": "TE {:g} s",
        "InversionTime": "TI {:g} s",
        "FlipAngle": "flip angle {:g}°",
    }
    made = [text.format(facts[name]) for name, text in texts.items() if name in facts]
    kind = {"kind": f"DICOM series {series.name}, {series.modality}"}
    return describe_volume(series) | kind | {"acquisition": ", ".join(made) or "unknown"}


def _slices(series: "Series") -> str:
    rows, columns = series.frames[0].pixels.shape
    wrong = f"; {series.problems[0]}" if series.problems else ""
    return f"{columns} × {rows}, {plural(len(series.frames), 'slice')}{wrong}"


def describe_volume(path: "Path | Series") -> Facts:
    """Describe one volume: its grid, its values and, for a label map, the size of each label."""
    from segjax.data.io.formats import read_volume

    volume = read_volume(path)
    kind = "3D volume" if volume.spatial_dims == 3 else "2D image"
    facts = {"kind": kind, "shape": _shape(volume)}
    if volume.channels > 1:
        facts["channels"] = str(volume.channels)
    return facts | _position(volume) | {"type": str(volume.data.dtype)} | _values(volume)


def describe_segments(path: Path) -> Facts:
    """Describe a DICOM segmentation or structure set: what it is, and its segments by name."""
    from segjax.data.io.dicom.segmentation import is_label_object, segment_names

    kinds = {"SEG": "DICOM segmentation (SEG)", "RTSTRUCT": "DICOM structure set (RTSTRUCT)"}
    names = ", ".join(segment_names(path)) or "none"
    return {"kind": kinds[is_label_object(path) or "SEG"], "segments": names}


def describe_dataset(folder: Path) -> Facts:
    """Describe a folder of labelled images: how many, how large, which labels."""
    from segjax.data.cases import find_cases, read_case_label
    from segjax.data.io.formats import read_grid
    from segjax.progress import track

    dataset = find_cases(folder)
    counts: Counter[int] = Counter()
    sizes: defaultdict[int, list[float]] = defaultdict(list)
    channels, volumes = [], []
    for case in track(dataset.cases, "Reading labels"):
        volume = read_case_label(case)
        for value, size in _label_volumes(volume, case.coding).items():
            counts[value] += 1
            sizes[value].append(size)
        channels.append([sum(read_grid(image)[1] for image in case.images)])
        volumes.append(volume.with_data(np.broadcast_to(np.uint8(0), volume.spatial_shape)))
    names = dataset.labels or {}
    facts = {
        "kind": "labelled data set",
        "cases": str(len(dataset.cases)),
        "channels": ", ".join(dataset.channels or ()) or _range(channels),
        **_places(volumes),
    }
    unit = _unit(volumes[0])
    for value in sorted(counts):
        facts[f"label {value}"] = (
            f"{names.get(value, '')} in {plural(counts[value], 'case')}, "
            f"mean {fmean(sizes[value]):.4g} {unit}"
        ).strip()
    return facts


def _places(volumes: Sequence[Volume]) -> Facts:
    """Describe the grids of label maps; pictures have no place."""
    from segjax.grid import grid

    extent = _extent([grid(volume) for volume in volumes])
    if volumes[0].spatial_dims == 2:
        return extent
    return extent | {"orientation": ", ".join(sorted({_orientation(volume) for volume in volumes}))}


def _extent(grids: Sequence["Grid"]) -> Facts:
    """Describe shapes and spacings; pictures have no size but in pixels."""
    shape = _range([grid.shape for grid in grids])
    if len(grids[0].shape) == 2:
        return {"shape": f"{shape} pixels"}
    spacing = _range([grid.spacing for grid in grids])
    return {"shape": f"{shape} voxels", "spacing": f"{spacing} mm"}


def _unit(volume: Volume) -> str:
    return "ml" if volume.spatial_dims == 3 else "pixels"


def describe_cache(folder: Path) -> Facts:
    """Describe preprocessed cases: how many, how large, by which steps; no array is read."""
    from segjax.data.cache.cache import open_cache

    cache = open_cache(folder)
    grids = [case.grids[-1] for case in cache.cases]
    size = sum(file.stat().st_size for file in (folder / "cases").glob("*/*.npy"))
    facts = {"kind": "cache made by segjax preprocess", "cases": str(len(cache.cases))}
    if cache.cases:
        channels = ", ".join(cache.channels or ()) or str(cache.cases[0].image.shape[-1])
        facts |= {
            "channels": channels,
            **_extent(grids),
            "labels": _cached_labels(cache),
        }
    learned = f" (learned from {plural(len(cache.learned_from), 'case')})"
    steps = _steps(cache.pipeline.to_json()) + (learned if cache.learned_from else "")
    return facts | {"preprocessing": steps, "size": f"{size / 1e6:.4g} MB"}


def _cached_labels(cache: "Cache") -> str:
    """Name the labels, or list their values where they have no names."""
    values = sorted({value for case in cache.cases for value in case.values})
    names = cache.labels or {}
    return ", ".join(names.get(value, str(value)) for value in values) or "none"


def describe_run(run: Path) -> Facts:
    """Describe a run: its network and settings, how far it got and how well it did."""
    from segjax.data.cases import read_split
    from segjax.train.config import read_config

    config = read_config(run)
    split = read_split(run / "split.json")
    facts = {
        "kind": "run of segjax train",
        "model": config.model,
        "labels": _labels(config.labels, config.label_values),
        "preprocessing": _steps(config.pipeline.to_json()),
        "patch": f"{_times(config.patch_size)}, {config.batch_size} in a step",
        "cases": _split(split),
    }
    facts |= _progress(run / "metrics.csv", config.epochs)
    made = [name for name in ("model.onnx", "report.html") if (run / name).is_file()]
    return facts | {"made": ", ".join(made) or "no model.onnx yet: segjax export"}


def describe_sweep(sweep: Path) -> Facts:
    """Describe a sweep: its grid, how many of its trainings are finished, and the best."""
    from segjax.data.cases import read_split

    plan = read_json(sweep / "sweep.json")
    try:
        grid = {name: plan[name] for name in ("kernels", "alphas", "seeds")}
        labels = plan["base"]["labels"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{sweep / 'sweep.json'}: cannot be read as a sweep ({error})") from error
    done = _results(sweep / "results.csv")
    made = [name for name in ("model.onnx", "report.html") if (sweep / name).is_file()]
    return {
        "kind": "sweep of segjax sweep",
        **{name: ", ".join(map(str, values)) for name, values in grid.items()},
        "labels": ", ".join(labels),
        "cases": _split(read_split(sweep / "split.json")),
        "finished": f"{len(done)} of {prod(map(len, grid.values()))} trainings",
        **_best_member(sweep, done),
        "made": ", ".join(made) or "nothing yet: segjax sweep",
    }


def _results(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with reading(path) as stream:
        return list(csv.DictReader(stream.read().decode("utf-8").splitlines()))


def _best_member(sweep: Path, done: Sequence[dict[str, str]]) -> Facts:
    measured = [row for row in done if row.get("validation_dice")]
    if not measured:
        return {}
    best = max(measured, key=lambda row: float(row["validation_dice"]))
    dice = f"{float(best['validation_dice']):.4f} (validation, {best['run']})"
    return {"best Dice": dice, "its run": str(sweep / "runs" / best["run"])}


def describe_plan(plan: "Plan") -> Facts:
    """Describe what a training is about to do."""
    config, split = plan.config, plan.split
    steps = -(-len(split.train) * config.patches_per_case // config.batch_size)
    return {
        "cases": f"{len(plan.dataset.cases)}: {_split(split)}{_kept(plan)} (seed {config.seed})",
        "labels": _labels(config.labels, plan.dataset.coding),
        "network": f"{config.model}, {_count_parameters(config):,} parameters",
        "input": f"{plural(config.in_channels, 'channel')}, {_steps(config.pipeline.to_json())}",
        "patch": f"{_times(config.patch_size)}, {config.batch_size} in a step",
        "training": f"{plural(config.epochs, 'epoch')} of {plural(steps, 'step')}, "
        f"{config.optimizer.schedule} learning rate {config.optimizer.learning_rate:g}",
        "loss": " + ".join(_term(term) for term in config.loss.to_json()),
        **_start(config),
    }


def _labels(names: Sequence[str], coding: LabelCoding | None) -> str:
    """Name the classes, with the stored values of each where these are others."""
    if coding is None or coding.plain or not coding.names:
        return ", ".join(names)
    return str(coding)


def _start(config: "TrainConfig") -> Facts:
    if config.init is None:
        return {}
    head = ", with a new head" if config.init.new_head else ""
    frozen = f", {' and '.join(config.freeze)} frozen" if config.freeze else ""
    digest = f" (SHA-256 {config.init.digest[:12]}…)" if config.init.digest else ""
    return {"start": f"{config.init.source}{digest}{head}{frozen}"}


def _split(split: "Split") -> str:
    parts = ("train", "training"), ("validation", "validation"), ("test", "test")
    sizes = [(len(getattr(split, name)), text) for name, text in parts]
    return ", ".join(f"{size} {text}" for size, text in sizes if size or text != "test")


def _kept(plan: "Plan") -> str:
    """Say how many of the test cases the dataset itself keeps for testing."""
    from segjax.data.cases import Case

    test = set(plan.split.test)
    files = [case for case in plan.dataset.cases if isinstance(case, Case) and case.name in test]
    kept = sum(case.label is not None and case.label.parent.name == "labelsTs" for case in files)
    return f", {kept} of them in labelsTs" if kept else ""


def _term(term: Mapping[str, Any]) -> str:
    weight = "" if term["weight"] == 1 else f"{term['weight']:g} × "
    alpha = f" (alpha {term['alpha']:g})" if "alpha" in term else ""
    return f"{weight}{term['name']}{alpha}"


def _count_parameters(config: "TrainConfig") -> int:
    """Count without computing: JAX only follows the shapes."""
    import jax

    from segjax import models
    from segjax.train.config import create_model

    model = create_model(
        config.model, in_channels=config.in_channels, out_channels=config.out_channels
    )
    size = (model.size_multiple,) * model.spatial_dims
    image = jax.ShapeDtypeStruct((1, *size, config.in_channels), "float32")
    return models.count_parameters(jax.eval_shape(model.init, jax.random.key(0), image))


def describe_model(path: Path) -> Facts:
    """Describe an exported network by what its file says of itself."""
    from segjax_onnx.predict.metadata import read_metadata

    metadata = read_metadata(path)
    return {
        "kind": f"{metadata.spatial_dims}D network exported by segjax {metadata.segjax_version}",
        "model": metadata.model,
        "labels": ", ".join(metadata.labels),
        "output": f"{metadata.activation} probabilities",
        "channels": str(metadata.in_channels),
        "preprocessing": _steps(metadata.pipeline),
        "patch": f"{_times(metadata.patch_size)}, overlap {metadata.overlap:g}, "
        f"{metadata.batch_size} at a time",
        "size": f"{path.stat().st_size / 1e6:.3g} MB",
        "training": _training(metadata.training),
    }


def describe_weights(path: Path) -> Facts:
    """Describe weights that others trained, where the network is known that they belong to."""
    from segjax.models import count_parameters
    from segjax_onnx.adopt.foreign import read_network

    name, network, variables = read_network(path)
    levels = getattr(network, "channels", None) or network.features
    return {
        "kind": f"weights of a {network.spatial_dims}D network, as PyTorch has them",
        "model": f"{name}, {count_parameters(variables):,} parameters",
        "channels": str(network.in_channels),
        "outputs": str(network.out_channels),
        "levels": f"{', '.join(map(str, levels))} channels",
        "use": "segjax export makes an ONNX file of it",
    }


def _training(values: Mapping[str, Any]) -> str:
    if "ensemble" in values:
        return f"ensemble of {plural(len(values['ensemble']), 'network')}"
    told = {name: value for name, value in values.items() if isinstance(value, str | int | float)}
    return ", ".join(f"{name} {value}" for name, value in told.items())


def _shape(volume: Volume) -> str:
    return f"{_times(volume.spatial_shape)} {'pixels' if volume.spatial_dims == 2 else 'voxels'}"


def _position(volume: Volume) -> Facts:
    if volume.spatial_dims == 2:
        return {}
    return {
        "spacing": f"{_times(volume.spacing)} mm",
        **_tilt(volume),
        "orientation": _orientation(volume),
        "origin": f"{', '.join(f'{x:.4g}' for x in volume.affine[:-1, -1])} mm (RAS+)",
    }


def _tilt(volume: Volume) -> Facts:
    from segjax.data.prepare.tilt import STRAIGHT, tilt

    angle = tilt(volume.affine)
    return {} if angle < STRAIGHT else {"tilt": f"{angle:.1f}° from right angles"}


def _orientation(volume: Volume) -> str:
    from segjax.grid import orientation

    return orientation(volume.affine) if volume.spatial_dims == 3 else "none (2D)"


def _values(volume: Volume) -> Facts:
    data = volume.data
    finite = np.isfinite(data)
    if not finite.any():
        return {"values": "none is finite"}
    known = data[finite]
    facts = {"range": f"{known.min():g} to {known.max():g}, mean {known.mean():.4g}"}
    if wrong := data.size - known.size:
        facts["not finite"] = f"{wrong} values are NaN or infinite"
    sizes = _label_volumes(volume) if not wrong else {}
    if sizes:
        facts["labels"] = ", ".join(f"{v}: {size:.4g} {_unit(volume)}" for v, size in sizes.items())
    return facts


def _label_volumes(volume: Volume, coding: LabelCoding = PLAIN) -> dict[int, float]:
    """Return the millilitres (2D: pixels) of each label; nothing for what is no label map."""
    if volume.channels > 1 or volume.data.dtype.kind not in "iu":
        return {}
    values, counts = np.unique(volume.data, return_counts=True)
    if len(values) > _MOST_VALUES or values[0] < 0:
        return {}
    unit = volume.voxel_size / 1000 if volume.spatial_dims == 3 else 1.0
    sizes = {int(v): float(n * unit) for v, n in zip(values, counts, strict=True)}
    return {value: sizes[value] for value in classes_of(values, coding) if value != 0}


def _progress(metrics: Path, epochs: int) -> Facts:
    """Return the last epoch and the best mean validation Dice of a run's ``metrics.csv``."""
    from segjax.evaluate.metrics import best_epoch, read_metrics, validation_dice

    if not metrics.is_file():
        return {"trained": "not yet"}
    table = read_metrics(metrics)
    facts = {"trained": f"{table.epoch.max()} of {plural(epochs, 'epoch')}"}
    if (best := best_epoch(table)) is not None:
        dice = validation_dice(table).groupby("epoch").value.mean()[best]
        facts["best Dice"] = f"{dice:.4f} (validation, epoch {best})"
    return facts


def _steps(pipeline: Iterable[dict]) -> str:
    return ", then ".join(_step(step) for step in pipeline) or "none"


def _step(step: dict) -> str:
    told = {name: value for name, value in step.items() if name != "step"}
    tolerance = told.pop("tolerance", 0)
    near = [f"±{tolerance:.0%}"] if tolerance else []
    options = ", ".join([*map(_option, told.values()), *near])
    return f"{step['step']} ({options})" if options else step["step"]


def _option(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return str(value)
    if value and isinstance(value[0], list | tuple):
        return f"{len(value)} × {len(value[0])} numbers"
    return _times(value)


def _times(numbers: Sequence[float]) -> str:
    return " × ".join(f"{number:.4g}" for number in numbers)


def _range(rows: Sequence[Sequence[float]]) -> str:
    low, high = (
        _times([min(axis) for axis in zip(*rows, strict=True)]),
        _times([max(a) for a in zip(*rows, strict=True)]),
    )
    return low if low == high else f"{low} to {high}"
