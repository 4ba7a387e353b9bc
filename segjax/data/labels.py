"""What the stored values of label maps stand for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from segjax.errors import InputError

__all__ = [
    "IGNORED",
    "PLAIN",
    "LabelCoding",
    "check_names",
    "classes_of",
    "coding_of_segments",
    "foreground",
]

IGNORED = 255
"""Value, in label maps in memory, of voxels that count for nothing, neither loss nor metric."""

_LISTED = 8


@dataclass(frozen=True)
class LabelCoding:
    """Map what files store to classes, which count from 0.

    Attributes:
        values: Stored value of each class, in the order of the classes; empty where the values
            are the classes.
        names: Name of each class, by which the segments of files that name them are found;
            empty where nothing is named.
        ignored: Stored value of voxels that count for nothing; they become :data:`IGNORED`.

    Raises:
        InputError: A value occurs twice.

    Example:
        >>> coding = LabelCoding(values=(0, 255), names=("background", "lesion"))
        >>> coding.decode(np.array([0, 255, 255], np.uint8), "mask.png").tolist()
        [0, 1, 1]
    """

    values: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    ignored: int | None = None

    def __post_init__(self) -> None:
        listed = [*self.values, *([] if self.ignored is None else [self.ignored])]
        if len(set(listed)) < len(listed):
            raise InputError(f"label values {listed}: give each class a value of its own")

    @property
    def plain(self) -> bool:
        """Whether stored values are the classes, and none is ignored."""
        return self.ignored is None and self.values in ((), tuple(range(len(self.values))))

    def decode(
        self, stored: Integer[np.ndarray, "*spatial"], name: str
    ) -> Integer[np.ndarray, "*spatial"]:
        """Return the class of each voxel, :data:`IGNORED` where it counts for nothing.

        Args:
            stored: Values as a file stores them.
            name: The file, for messages.

        Raises:
            InputError: A value stands for no class.
        """
        if self.plain:
            return stored
        found, inverse = np.unique(stored, return_inverse=True)
        classes = self.values or tuple(v for v in found.tolist() if v != self.ignored)
        table = dict(zip(classes, range(len(classes)) if self.values else classes, strict=True))
        if self.ignored is not None:
            if not self.values:  # a class of that number would count for nothing
                table.pop(IGNORED, None)
            table[self.ignored] = IGNORED
        if odd := [value for value in found.tolist() if value not in table]:
            more = ", …" if len(odd) > _LISTED else ""
            known = ", ".join(map(str, self.values)) or f"0 to {IGNORED - 1}"
            raise InputError(
                f"{name}: has labels {', '.join(map(str, odd[:_LISTED]))}{more}, but the labels "
                f"are {known}; name every value in dataset.json"
            )
        kind = np.uint8 if max(table.values()) <= IGNORED else np.int64
        codes = np.array([table[value] for value in found.tolist()], kind)
        return codes[inverse].reshape(stored.shape)

    def to_json(self) -> dict[str, Any]:
        """Return the coding as plain data."""
        return {"values": list(self.values), "names": list(self.names), "ignored": self.ignored}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "LabelCoding":
        """Return the coding that :meth:`to_json` wrote."""
        values: Sequence[int] = content["values"]
        return cls(tuple(values), tuple(content["names"]), content["ignored"])


PLAIN = LabelCoding()
"""What is stored are the classes."""


def check_names(names: Mapping[int, str], name: str) -> None:
    """Refuse names of label values that do not say what each value is.

    Args:
        names: Stored value -> its name.
        name: The file that says so, for messages.

    Raises:
        InputError: A value is negative, a name is empty or that of two values, or a value other
            than 0 is called background.

    Example:
        >>> check_names({0: "background", 255: "lesion", 128: "ignore"}, "dataset.json")
    """
    counts = Counter(called.strip().casefold() for called in names.values())
    for value, called in names.items():
        plain = called.strip().casefold()
        if value < 0:
            raise InputError(f"{name}: the label {called!r} has the value {value}; give one over 0")
        if not plain:
            raise InputError(f"{name}: the label of value {value} has no name; give it one")
        if counts[plain] > 1:
            raise InputError(f"{name}: two labels are called {called!r}; give each its own name")
        if value and plain == "background":
            raise InputError(
                f"{name}: the value {value} is called {called!r}, which 0 is; give it another "
                "name, or write the label maps with 0 there"
            )


def coding_of_segments(segments: Mapping[str, Sequence[str] | None]) -> LabelCoding:
    """Name the classes by the segments of label files, in the order in which they first occur.

    Names are one without regard to case and to space around them. A segment called ``ignore`` is
    no class: its voxels count for nothing.

    Args:
        segments: Names of the segments in each file; None for a file whose values have no names.

    Returns:
        The coding; :data:`PLAIN` where no file names a segment.

    Raises:
        InputError: Some files name segments and others do not, a segment is called background, or
            none is called anything but ignore.

    Example:
        >>> coding_of_segments({"a.dcm": ["Lesion", "ignore"], "b.dcm": ["lesion "]}).names
        ('background', 'Lesion')
    """
    first: dict[str, tuple[str, str]] = {}
    for file, names in segments.items():
        for name in names or ():
            first.setdefault(name.strip().casefold(), (name.strip(), file))
    if not first:
        return PLAIN
    if plain := [file for file, names in segments.items() if names is None]:
        raise InputError(
            f"{plain[0]}: holds no segments with names, as other labels do; name the labels in "
            "dataset.json"
        )
    if "background" in first:
        name, file = first["background"]
        raise InputError(
            f"{file}: has a segment called {name!r}, which is what lies in no segment; remove it, "
            "or name the labels in dataset.json"
        )
    ignored = first.pop("ignore", None)
    if ignored and not first:
        raise InputError(
            f"{ignored[1]}: has no segment but {ignored[0]!r}, nor have others; nothing is labelled"
        )
    classes = ("background", *(name for name, _ in first.values()))
    return LabelCoding(tuple(range(len(classes))), classes, IGNORED if ignored else None)


def classes_of(label: Integer[np.ndarray, "*spatial"], coding: LabelCoding) -> list[int]:
    """Return the classes in a label map, in rising order, without what the coding ignores.

    Example:
        >>> classes_of(np.array([0, 2, IGNORED]), LabelCoding(ignored=3))
        [0, 2]
    """
    found: list[int] = np.unique(label).tolist()
    return [value for value in found if coding.ignored is None or value != IGNORED]


def foreground(label: Integer[np.ndarray, "*spatial"]) -> Bool[np.ndarray, "*spatial"]:
    """Say where a label map for training holds a class other than the background.

    Example:
        >>> foreground(np.array([0, 1, IGNORED])).tolist()
        [False, True, False]
    """
    return (label != 0) & (label != IGNORED)
