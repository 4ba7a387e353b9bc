"""Volumes as 3D Slicer holds them in, labels on the grid of the first one out.

Nothing here knows Slicer. Its arrays are indexed ``[k, j, i]``; its matrices lead from
``(i, j, k)`` to mm, to the right, front and head of the patient (RAS).
"""

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Real, UInt8

from segjax.data.description import describe_dataset
from segjax.data.io.formats import write_volume
from segjax.data.prepare.spatial import resample
from segjax.errors import InputError
from segjax.evaluate.measure import measure_mask
from segjax.files import check_new, write_json
from segjax.grid import Grid, grid
from segjax.volume import Volume
from segjax_onnx.predict.metadata import Code
from segjax_onnx.predict.outputs import make_folder, removed_on_error
from segjax_onnx.predict.predictor import Predictor

__all__ = ["Channel", "Placed", "Result", "Row", "Segment", "Segmenter", "next_case", "terminology"]

_CATEGORIES = "Segmentation category and type - 3D Slicer General Anatomy list"
_REGIONS = "Anatomic codes - DICOM master list"
_ANATOMY = Code("SCT", "123037004", "Anatomical Structure")
_ALTERED = Code("SCT", "49755003", "Morphologically Altered Structure")
_ALTERATIONS = {  # codes of lesion, mass, neoplasm, cyst, necrosis, edema, hemorrhage, infarct
    "52988006", "4147007", "108369006", "3415004", "6574001", "79654002", "50960005", "55641003",
}  # fmt: skip
_NONE = "^^"
_Where = Bool[np.ndarray, "k j i"]


class Placed(NamedTuple):
    """Voxels, and where they lie.

    Attributes:
        kji: Array ``(k, j, i)``.
        ijk_to_ras: Matrix ``(4, 4)``, mm.
    """

    kji: Real[np.ndarray, "k j i"]
    ijk_to_ras: Real[np.ndarray, "4 4"]


class Channel(NamedTuple):
    """What a network takes, and whether it does without."""

    name: str
    optional: bool


class Segment(NamedTuple):
    """How a label is shown: its color from 0 to 1, its meaning as Slicer writes terminology."""

    value: int
    name: str
    color: tuple[float, float, float]
    terminology: str


class Row(NamedTuple):
    """What there is of a label: its volume and that of its largest lesion in ml."""

    name: str
    volume: float
    lesions: int
    largest: float


@dataclass(frozen=True)
class Result:
    """Labels on the grid of the first volume, what they measure, and what was doubted."""

    labels: UInt8[np.ndarray, "k j i"]
    rows: list[Row]
    warnings: list[str]


class Segmenter:
    """Segments volumes with a network that ``segjax export`` wrote.

    Args:
        file: The ONNX file.

    Raises:
        InputError: It is no network of segjax.
    """

    def __init__(self, file: str | Path) -> None:
        self._predictor = Predictor(file)
        self._metadata = self._predictor.metadata

    @property
    def channels(self) -> list[Channel]:
        """The channels of the network, in order."""
        optional = self._metadata.optional_channels
        return [Channel(name, name in optional) for name in self._metadata.channels]

    @property
    def segments(self) -> list[Segment]:
        """The labels but the background."""
        named = zip(self._metadata.labels[1:], self._metadata.structures, strict=True)
        return [
            Segment(value, name, tuple(n / 255 for n in about.color), terminology(about.code))
            for value, (name, about) in enumerate(named, start=1)
        ]

    def segment(self, volumes: Sequence[Placed | None]) -> Result:
        """Segment the volumes of a patient.

        Args:
            volumes: One for each channel, None where it is missing; those on other grids than the
                first are resampled to it, linearly.

        Raises:
            InputError: A channel is missing that must not, volumes lie apart, or hold NaN.
        """
        channels = [volume.with_data(volume.data.astype(np.float32)) for volume in _on_one(volumes)]
        self._predictor.missing = self._missing(volumes)
        image = channels[0].with_data(np.stack([c.data for c in channels], axis=-1))
        with _heard() as said:
            mask = self._predictor.predict(image)
        labels = np.ascontiguousarray(mask.data.T)
        return Result(labels, self.measure(Placed(labels, mask.affine)), said)

    def _missing(self, volumes: Sequence[Placed | None]) -> list[str]:
        pairs = list(zip(self.channels, volumes, strict=True))
        for channel, volume in pairs:
            if volume is None and not channel.optional:
                raise InputError(f"channel {channel.name}: choose a volume; it may not be missing")
        return [channel.name for channel, volume in pairs if volume is None]

    def measure(self, labels: Placed) -> list[Row]:
        """Measure each label but the background."""
        loads = measure_mask(_volume(labels), labels=self._metadata.labels)
        return [Row(load.label, load.size, len(load.lesions), load.largest) for load in loads]

    def merge(self, segments: Mapping[str, _Where]) -> UInt8[np.ndarray, "k j i"]:
        """Return one label map of segments by name; of those that overlap, the later label holds.

        Raises:
            InputError: A segment has the name of no label, or there is none.
        """
        values = {segment.name: segment.value for segment in self.segments}
        if others := [name for name in segments if name not in values]:
            raise InputError(
                f"segment {others[0]!r} is no label of the network, which has "
                f"{', '.join(values)}: rename it, or remove it"
            )
        if not segments:
            raise InputError("the segmentation has no segment")
        labels = np.zeros(next(iter(segments.values())).shape, np.uint8)
        for name, where in sorted(segments.items(), key=lambda item: values[item[0]]):
            labels[where] = values[name]
        return labels

    def save(
        self, volumes: Sequence[Placed | None], labels: np.ndarray, folder: str | Path, case: str
    ) -> list[Path]:
        """Write volumes and labels into a dataset that ``segjax train --data`` takes.

        Args:
            volumes: As for :meth:`segment`, none missing; they are written on the first one's grid.
            labels: On the grid of the first, ``(k, j, i)``.
            folder: Of the dataset; it is made, with a ``dataset.json``, where there is none.
            case: Name of its files.

        Returns:
            The files: those of the channels, then the label map.

        Raises:
            InputError: A volume is missing, a file exists, or the dataset has other labels.
        """
        if any(volume is None for volume in volumes):
            raise InputError("a training case needs all channels: choose a volume for each")
        _check_case(case)
        channels = _on_one(volumes)
        label = channels[0].with_data(labels.T)
        files = self._files(Path(folder), case)
        for file in files:
            check_new(file)
        self._describe(Path(folder))
        with removed_on_error() as written:
            for volume, file in zip((*channels, label), files, strict=True):
                make_folder(file.parent)
                write_volume(volume, file)
                written.append(file)
        return files

    def _files(self, folder: Path, case: str) -> list[Path]:
        images, labels = _folders(folder)
        count = self._metadata.in_channels
        endings = [f"_{n:04d}" for n in range(count)] if count > 1 else [""]
        channels = [images / f"{case}{ending}.nii.gz" for ending in endings]
        return [*channels, labels / f"{case}.nii.gz"]

    def _describe(self, folder: Path) -> None:
        """Write what the labels are called, or hold it against what a dataset says already."""
        names = dict(enumerate(self._metadata.labels))
        told = describe_dataset(folder)
        if told.labels not in (None, names) or not told.coding.plain:
            raise InputError(
                f"{folder / 'dataset.json'}: its labels are {told.coding}, those of the network "
                f"{', '.join(self._metadata.labels)}: choose another folder"
            )
        if not (folder / "dataset.json").exists():
            channels = {str(n): name for n, name in enumerate(self._metadata.channels)}
            labels = {name: value for value, name in names.items()}
            make_folder(folder)
            write_json({"channel_names": channels, "labels": labels}, folder / "dataset.json")


def terminology(code: Code | None) -> str:
    """Return a code as Slicer writes it in a segment; nothing where there is none.

    Example:
        >>> terminology(Code("SCT", "52988006", "Lesion")).split("~")[2]
        'SCT^52988006^Lesion'
    """
    if code is None:
        return ""
    category = _ALTERED if code.value in _ALTERATIONS else _ANATOMY
    both = ("^".join((each.scheme, each.value, each.meaning)) for each in (category, code))
    return "~".join((_CATEGORIES, *both, _NONE, _REGIONS, _NONE, _NONE))


def next_case(folder: str | Path) -> str:
    """Return a name that no case of a dataset has; it tells nothing of the patient.

    Example:
        >>> next_case("new dataset")
        'case001'
    """
    _, labels = _folders(Path(folder))
    names = (f"case{number:03d}" for number in itertools.count(1))
    return next(name for name in names if not (labels / f"{name}.nii.gz").exists())


def _folders(folder: Path) -> tuple[Path, Path]:
    """Return where the images and labels of a dataset lie."""
    names = ("imagesTr", "labelsTr") if (folder / "imagesTr").is_dir() else ("images", "labels")
    return folder / names[0], folder / names[1]


def _check_case(case: str) -> None:
    if not case or case != Path(case).name or case.startswith("."):
        raise InputError(f"case {case!r}: give a name that a file can have")


def _volume(placed: Placed) -> Volume:
    return Volume(placed.kji.T, np.asarray(placed.ijk_to_ras, np.float64))


def _on_one(volumes: Sequence[Placed | None]) -> list[Volume]:
    """Return the volumes that there are, on the grid of the first."""
    given = [_volume(volume) for volume in volumes if volume is not None]
    if not given:
        raise InputError("choose a volume")
    first = grid(given[0])
    for volume in given[1:]:
        _check_overlap(grid(volume), first)
    return [given[0], *(resample(volume, first) for volume in given[1:])]


def _check_overlap(other: Grid, first: Grid) -> None:
    index = np.linalg.solve(other.affine, first.affine)  # index in first -> index in other
    corners = np.array(list(itertools.product(*((0, size - 1) for size in first.shape))))
    places = corners @ index[:3, :3].T + index[:3, 3]
    if (places.max(axis=0) < 0).any() or (places.min(axis=0) > np.array(other.shape) - 1).any():
        raise InputError("the volumes do not overlap: register them to the first one")


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Yield the texts of the warnings of the block."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield said
    said += dict.fromkeys(" ".join(str(warning.message).split()) for warning in heard)
