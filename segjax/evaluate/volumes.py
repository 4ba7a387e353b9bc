"""What masks hold where nobody knows the truth: volume and lesions of each label, as tables."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from segjax.components import box_of, label_components
from segjax.errors import InputError
from segjax.files import check_target, read_csv, write_csv
from segjax.volume import Volume

__all__ = ["CaseTables", "Load", "Piece", "loads_of"]

_VOLUMES = (
    "case", "label", "volume", "unit", "lesions", "largest", "spread", "network_sha256",
    "image_sha256", "warnings", "error",
)  # fmt: skip
_LESIONS = (
    "case", "label", "lesion", "voxels", "volume", "unit", "x", "y", "z", "probability", "spread",
)  # fmt: skip
_PATIENCE = 1.0  # seconds between two writings, at least; more where they last long


@dataclass(frozen=True)
class Piece:
    """A lesion: a connected component of a label, all voxels that touch.

    Attributes:
        voxels: Number of its voxels.
        size: In mm³; in mm² in a picture.
        centre: Mean of its voxels' places, in mm: to the patient's right, front and head.
        means: Of each map, its mean over the voxels.
    """

    voxels: int
    size: float
    centre: tuple[float, ...]
    means: Mapping[str, float]


@dataclass(frozen=True)
class Load:
    """What a mask holds of a label.

    Attributes:
        label: Its name.
        size: In ml; in pixels in a picture.
        pieces: Its lesions, the largest first.
        means: Of each map, its mean over the label's voxels; empty where there are none.
        unit: ``"ml"`` or ``"pixels"``.
    """

    label: str
    size: float
    pieces: tuple[Piece, ...]
    means: Mapping[str, float]
    unit: str

    @property
    def largest(self) -> float:
        """Size of the largest lesion, in the same unit; 0 where there is none."""
        if not self.pieces:
            return 0.0
        return float(self.pieces[0].voxels) if self.unit == "pixels" else self.pieces[0].size / 1e3


def loads_of(
    mask: Volume,
    labels: Sequence[str],
    maps: Mapping[str, Shaped[np.ndarray, "*spatial map"]] | None = None,
) -> tuple[Load, ...]:
    """Measure each label of a mask but the background.

    Args:
        mask: Values 0, 1, 2, … ``(*spatial)``.
        labels: Their names, the background first.
        maps: What to average over each lesion, by name: one value a voxel, or one a label, the
            background first where there are as many as labels.

    Example:
        >>> mask = Volume(np.array([[1, 1, 0, 0, 1]], np.uint8)[None], np.diag([10, 10, 10, 1.0]))
        >>> (lesions,) = loads_of(mask, ["background", "lesion"])
        >>> lesions.size, len(lesions.pieces), lesions.largest, lesions.pieces[0].centre
        (3.0, 2, 2.0, (0.0, 0.0, 5.0))
    """
    loads = []
    for value, label in enumerate(labels[1:], start=1):
        where = mask.data == value
        own = {name: _of_label(map_, value, len(labels)) for name, map_ in (maps or {}).items()}
        pieces = _pieces(where, mask, own)
        voxels = sum(piece.voxels for piece in pieces)
        flat = mask.spatial_dims == 2
        size = float(voxels) if flat else voxels * mask.voxel_size / 1e3
        means = {name: float(map_[where].mean()) for name, map_ in own.items() if voxels}
        loads.append(Load(label, size, pieces, means, "pixels" if flat else "ml"))
    return tuple(loads)


def _of_label(
    map_: Shaped[np.ndarray, "*spatial map"], value: int, labels: int
) -> Shaped[np.ndarray, "*spatial"]:
    return map_[..., value if map_.shape[-1] == labels else -1]


def _pieces(
    where: Bool[np.ndarray, "*spatial"],
    mask: Volume,
    maps: Mapping[str, Shaped[np.ndarray, "*spatial"]],
) -> tuple[Piece, ...]:
    box = box_of(where)
    numbers, count = label_components(where[box])
    places = np.nonzero(numbers)
    own = numbers[places] - 1
    sizes = np.bincount(own, minlength=count)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(own, values, minlength=count) / sizes

    indices = [mean(place + edge.start) for place, edge in zip(places, box, strict=True)]
    centres = (mask.affine[:-1] @ np.array([*indices, np.ones(count)])).T
    means = {name: mean(map_[box][places]) for name, map_ in maps.items()}
    return tuple(
        Piece(
            int(sizes[n]),
            float(sizes[n] * mask.voxel_size),
            tuple(centres[n].tolist()),
            {name: float(values[n]) for name, values in means.items()},
        )
        for n in np.argsort(-sizes, kind="stable")
    )


@dataclass
class _Table:
    """A CSV whose rows belong to cases; rows of a case are replaced together."""

    path: Path
    columns: Collection[str]
    fresh: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)

    def read(self) -> dict[str, list[Mapping[str, Any]]]:
        """Return the rows of the file by case; none where there is no file."""
        rows: dict[str, list[Mapping[str, Any]]] = {}
        for row in read_csv(self.path) if self.path.exists() else []:
            if tuple(row) != tuple(self.columns):
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
        write_csv([tuple(self.columns), *lines], self.path, overwrite=True)
        self.fresh.clear()


class CaseTables:
    """``volumes.csv`` and ``lesions.csv`` of a folder of masks, of all its cases.

    Columns of the first: ``case``, ``label``, ``volume`` and ``largest`` in ``unit`` (ml, or pixels
    of pictures), ``lesions`` (their number), ``spread`` (mean uncertainty over the label),
    ``network_sha256`` and ``image_sha256`` (of the files, those of several with a space between),
    ``warnings``, and ``error``: a case that failed has one row, without a label. Of the second:
    ``case``, ``label``, ``lesion`` (1 is the largest), ``voxels``, ``volume`` in ``unit`` (mm3, or
    mm2 of pictures), its centre ``x``, ``y``, ``z`` in mm, and means of ``probability`` and
    ``spread``.

    Rows of cases that are not put in stay as they are. The files are written whole, after the
    first case and then every second or less often, and at the end of a ``with`` block.

    Args:
        folder: Of the masks.

    Raises:
        InputError: A file of one of these names is there and holds something else.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> mask = Volume(np.ones((10, 10, 10), np.uint8), np.eye(4))
        >>> with CaseTables(folder) as tables:
        ...     tables.put("p1", loads_of(mask, ["background", "lesion"]))
        >>> (folder / "volumes.csv").read_text().splitlines()[1]
        'p1,lesion,1.0,ml,1,1.0,,,,,'
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

    def put(self, case: str, loads: Iterable[Load] = (), **about: str) -> None:
        """Replace the rows of a case.

        Args:
            case: Its name.
            loads: What its mask holds; nothing of a case that failed.
            about: Values of the columns of ``volumes.csv`` from ``network_sha256`` on.

        Raises:
            InputError: The files cannot be written.
        """
        loads = list(loads)
        rows = [{"case": case, **about, **_volume_row(load)} for load in loads]
        self._volumes.fresh[case] = [*rows] or [{"case": case, **about}]
        self._lesions.fresh[case] = [
            {"case": case, "label": load.label, **row}
            for load in loads
            for row in _lesion_rows(load)
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


def _volume_row(load: Load) -> dict[str, object]:
    return {
        "label": load.label,
        "volume": round(load.size, 6),
        "unit": load.unit,
        "lesions": len(load.pieces),
        "largest": round(load.largest, 6),
        **{name: round(value, 6) for name, value in load.means.items()},
    }


def _lesion_rows(load: Load) -> Iterator[dict[str, object]]:
    for number, piece in enumerate(load.pieces, 1):
        yield {
            "lesion": number,
            "voxels": piece.voxels,
            "volume": round(piece.size, 4),
            "unit": "mm2" if load.unit == "pixels" else "mm3",
            **dict(zip("xyz", (round(place, 2) for place in piece.centre), strict=False)),
            **{name: round(value, 6) for name, value in piece.means.items()},
        }
