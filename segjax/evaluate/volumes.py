"""The tables of a folder of masks: what each holds of each label, and its lesions."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segjax.errors import InputError
from segjax.evaluate.measure import LabelMeasures, LesionMeasures
from segjax.files import check_target, read_csv, write_csv

__all__ = ["CaseTables"]

_VOLUMES = (
    "case", "label", "volume", "unit", "lesions", "largest", "longest_mm", "perpendicular_mm",
    "spread", "network_sha256", "image_sha256", "warnings", "error",
)  # fmt: skip
_LESIONS = (
    "case", "label", "lesion", "voxels", "volume", "unit", "x", "y", "z", "longest_mm",
    "perpendicular_mm", "feret_mm", "probability", "spread",
)  # fmt: skip
_SINCE = ("longest_mm", "perpendicular_mm", "feret_mm")  # columns that earlier tables lack
_PATIENCE = 1.0  # seconds between two writings, at least; more where they last long


@dataclass
class _Table:
    """A CSV whose rows belong to cases; rows of a case are replaced together."""

    path: Path
    columns: tuple[str, ...]
    fresh: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)

    def read(self) -> dict[str, list[Mapping[str, Any]]]:
        """Return the rows of the file by case; none where there is no file."""
        rows: dict[str, list[Mapping[str, Any]]] = {}
        known = (self.columns, tuple(name for name in self.columns if name not in _SINCE))
        for row in read_csv(self.path) if self.path.exists() else []:
            if tuple(row) not in known:
                raise InputError(
                    f"{self.path}: is no table of segjax predict, as its columns show; move it, "
                    "or write to another folder"
                )
            rows.setdefault(row["case"], []).append(row)
        return rows

    def write(self) -> None:
        """Write the rows of the file and the fresh ones."""
        rows = [row for own in {**self.read(), **self.fresh}.values() for row in own]
        lines = ([row.get(name, "") for name in self.columns] for row in rows)
        write_csv([self.columns, *lines], self.path, overwrite=True)
        self.fresh.clear()


class CaseTables:
    """``volumes.csv`` and ``lesions.csv`` of a folder of masks, of all its cases.

    Columns of the first: ``case``, ``label``, ``volume`` and ``largest`` in ``unit`` (ml, or pixels
    of pictures), ``lesions`` (their number), ``longest_mm`` and ``perpendicular_mm`` (diameters of
    the largest lesion, see :func:`segjax.evaluate.diameters.axial_diameters`), ``spread`` (mean
    uncertainty over the label), ``network_sha256`` and ``image_sha256`` (of the files, those of
    several with a space between), ``warnings``, and ``error``: a case that failed has one row,
    without a label. Of the second: ``case``, ``label``, ``lesion`` (1 is the largest), ``voxels``,
    ``volume`` in ``unit`` (mm3, or mm2 of pictures), its centre ``x``, ``y``, ``z`` in mm,
    ``longest_mm``, ``perpendicular_mm``, ``feret_mm`` (its longest diameter of all), and means of
    ``probability`` and ``spread``.

    Rows of cases that are not put in stay as they are; those of earlier versions of segjax, which
    told no diameters, have none. The files are written whole, after the first case and then every
    second or less often, and at the end of a ``with`` block.

    Args:
        folder: Of the masks.

    Raises:
        InputError: A file of one of these names is there and holds something else.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> import numpy as np
        >>> from segjax import Volume
        >>> from segjax.evaluate.measure import measure_mask
        >>> mask = Volume(np.ones((10, 10, 10), np.uint8), np.eye(4))
        >>> with CaseTables(folder) as tables:
        ...     tables.put("p1", measure_mask(mask, labels=["background", "lesion"]))
        >>> (folder / "volumes.csv").read_text().splitlines()[1]
        'p1,lesion,1.0,ml,1,1.0,13.45,13.45,,,,,'
    """

    def __init__(self, folder: str | Path) -> None:
        self._volumes = _Table(Path(folder) / "volumes.csv", _VOLUMES)
        self._lesions = _Table(Path(folder) / "lesions.csv", _LESIONS)
        self._next = 0.0
        for table in (self._volumes, self._lesions):
            if table.path.parent.is_dir():
                check_target(table.path, overwrite=True)
        self._done = {
            case for case, rows in self._volumes.read().items() if not any(r["error"] for r in rows)
        }
        self._lesions.read()

    def __enter__(self) -> "CaseTables":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(InputError):  # which `put` or `flush` have told
            self.flush()

    def __contains__(self, case: str) -> bool:
        """Say whether the files had rows of a case that did not fail."""
        return case in self._done

    def put(self, case: str, measures: Iterable[LabelMeasures] = (), **about: str) -> None:
        """Replace the rows of a case.

        Args:
            case: Its name.
            measures: What its mask holds; nothing of a case that failed.
            about: Values of the columns of ``volumes.csv`` from ``network_sha256`` on.

        Raises:
            InputError: The files cannot be written.
        """
        measures = list(measures)
        rows = [{"case": case, **about, **_volume_row(one)} for one in measures]
        self._volumes.fresh[case] = [*rows] or [{"case": case, **about}]
        self._lesions.fresh[case] = [
            {"case": case, "label": one.label, **row}
            for one in measures
            for row in _lesion_rows(one)
        ]
        if time.monotonic() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet.

        Raises:
            InputError: The files cannot be written.
        """
        start = time.monotonic()
        for table in (self._volumes, self._lesions):
            if table.fresh:
                table.write()
        end = time.monotonic()
        self._next = end + max(_PATIENCE, 20 * (end - start))


def _volume_row(one: LabelMeasures) -> dict[str, object]:
    return {
        "label": one.label,
        "volume": round(one.size, 6),
        "unit": one.unit,
        "lesions": len(one.lesions),
        "largest": round(one.largest, 6),
        **(_diameters(one.lesions[0]) if one.lesions else {}),
        **{name: round(value, 6) for name, value in one.means.items()},
    }


def _lesion_rows(one: LabelMeasures) -> Iterator[dict[str, object]]:
    for lesion in one.lesions:
        yield {
            "lesion": lesion.number,
            "voxels": lesion.voxels,
            "volume": round(lesion.size, 4),
            "unit": "mm2" if one.unit == "pixels" else "mm3",
            **dict(zip("xyz", (round(place, 2) for place in lesion.centre_ras), strict=False)),
            **_diameters(lesion),
            "feret_mm": round(lesion.feret.mm, 2),
            **{name: round(value, 6) for name, value in lesion.means.items()},
        }


def _diameters(lesion: LesionMeasures) -> dict[str, float]:
    longest, perpendicular = lesion.longest.mm, lesion.perpendicular.mm
    return {"longest_mm": round(longest, 2), "perpendicular_mm": round(perpendicular, 2)}
