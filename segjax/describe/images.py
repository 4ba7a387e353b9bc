"""Say in words what volumes, DICOM series and DICOM segments hold."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segjax.data.labels import PLAIN, LabelCoding, classes_of
from segjax.describe.words import Facts, times
from segjax.grid import orientation
from segjax.text import plural
from segjax.volume import Volume

if TYPE_CHECKING:
    from segjax.data.io.dicom.series import Series

__all__ = [
    "describe_dicom",
    "describe_segments",
    "describe_series",
    "describe_volume",
    "label_sizes",
    "size_unit",
]

_MOST_VALUES = 32  # more different values than that, and it is no label map


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


def label_sizes(volume: Volume, coding: LabelCoding = PLAIN) -> dict[int, float]:
    """Return the millilitres (2D: pixels) of each label; nothing for what is no label map."""
    if volume.channels > 1 or volume.data.dtype.kind not in "iu":
        return {}
    values, counts = np.unique(volume.data, return_counts=True)
    if len(values) > _MOST_VALUES or values[0] < 0:
        return {}
    unit = volume.voxel_size / 1000 if volume.spatial_dims == 3 else 1.0
    sizes = {int(v): float(n * unit) for v, n in zip(values, counts, strict=True)}
    return {value: sizes[value] for value in classes_of(values, coding) if value != 0}


def size_unit(volume: Volume) -> str:
    """Return the unit of :func:`label_sizes`."""
    return "ml" if volume.spatial_dims == 3 else "pixels"


def _shape(volume: Volume) -> str:
    return f"{times(volume.spatial_shape)} {'pixels' if volume.spatial_dims == 2 else 'voxels'}"


def _position(volume: Volume) -> Facts:
    if volume.spatial_dims == 2:
        return {}
    return {
        "spacing": f"{times(volume.spacing)} mm",
        **_tilt(volume),
        "orientation": orientation(volume.affine),
        "origin": f"{', '.join(f'{x:.4g}' for x in volume.affine[:-1, -1])} mm (RAS+)",
    }


def _tilt(volume: Volume) -> Facts:
    from segjax.data.prepare.tilt import STRAIGHT, tilt

    angle = tilt(volume.affine)
    return {} if angle < STRAIGHT else {"tilt": f"{angle:.1f}° from right angles"}


def _values(volume: Volume) -> Facts:
    data = volume.data
    finite = np.isfinite(data)
    if not finite.any():
        return {"values": "none is finite"}
    known = data[finite]
    facts = {"range": f"{known.min():g} to {known.max():g}, mean {known.mean():.4g}"}
    if wrong := data.size - known.size:
        facts["not finite"] = f"{wrong} values are NaN or infinite"
    sizes = label_sizes(volume) if not wrong else {}
    if sizes:
        facts["labels"] = ", ".join(
            f"{v}: {size:.4g} {size_unit(volume)}" for v, size in sizes.items()
        )
    return facts
