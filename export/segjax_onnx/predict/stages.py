"""Parts of a network's graph that run one after another, each in tiles of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from segjax.codec import Check, Record, check_fields

__all__ = ["Stage"]

_Count = Annotated[int, Check(lambda n: 1 <= n < 2**31, "a whole number from 1 up")]
_Reach = Annotated[int, Check(lambda n: 0 <= n < 2**31, "a whole number from 0 up")]
_Bytes = Annotated[float, Check(lambda x: 0 <= x < 2**31, "a number from 0 up")]


@dataclass(frozen=True)
class Stage(Record):
    """A part of a graph.

    Attributes:
        inputs: Names of the arrays that it takes, and of how many voxels of the image one of their
            elements is, along each axis.
        outputs: The same of what it gives.
        halo: How many voxels of the image away from an output its inputs matter, along each axis.
        multiple: Of how many voxels its tiles are multiples.
        bytes_per_voxel: Memory that it takes while it runs, by voxels of the image.
        bytes_kept: Memory of its outputs, by voxels of the image.

    Raises:
        InputError: A field has a wrong type or range.

    Example:
        >>> Stage({"image": 1}, {"probabilities": 1}, (4, 4), 1, 64.0, 8.0).halo
        (4, 4)
    """

    inputs: Mapping[str, _Count]
    outputs: Mapping[str, _Count]
    halo: tuple[_Reach, ...]
    multiple: _Count
    bytes_per_voxel: _Bytes
    bytes_kept: _Bytes

    def __post_init__(self) -> None:
        check_fields(self)
