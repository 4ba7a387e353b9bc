"""What the stored values of label maps stand for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Integer

from segjax.errors import InputError

__all__ = ["IGNORED", "LabelCoding"]

IGNORED = 255
"""Value, in label maps in memory, of voxels that count for nothing, neither loss nor metric."""

_LISTED = 8


@dataclass(frozen=True)
class LabelCoding:
    """Map what files store to classes 0, 1, 2, …

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
            table[self.ignored] = IGNORED
        if odd := [value for value in found.tolist() if value not in table]:
            more = ", …" if len(odd) > _LISTED else ""
            known = ", ".join(map(str, self.values))
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
