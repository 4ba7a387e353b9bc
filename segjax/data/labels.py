"""What the stored values of label maps stand for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from segjax.errors import InputError

__all__ = ["IGNORED", "PLAIN", "LabelCoding", "classes_of", "foreground"]

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
            table.pop(IGNORED, None)  # a class of that number would count for nothing
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
