"""What people, and not trainings, decide about an exported network."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from segjax.codec import Record, check_fields
from segjax.errors import InputError
from segjax.files import read_json_object
from segjax.text import unknown
from segjax_onnx.predict.metadata import About, ModelMetadata, Structure
from segjax_onnx.predict.postprocess import LabelRule

__all__ = ["Card", "read_card"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Card(Record):
    """What a file says of a network beyond what its training knows.

    Attributes:
        channels: Names of the channels of the input, in order; by default those it has.
        optional_channels: Those of them that may be missing.
        postprocessing: Rules by the names of labels; labels that are left out have none.
        structures: Colours and codes by the names of labels; others keep theirs.
        about: Licence, citation, intended use and the like; by default what the file says.

    Raises:
        InputError: A value is not of its type or range.

    Example:
        >>> card = Card.from_json({"postprocessing": {"lesion": {"minimum_volume": 3}}})
        >>> card.postprocessing["lesion"].minimum_volume
        3
    """

    channels: tuple[str, ...] = ()
    optional_channels: tuple[str, ...] = ()
    postprocessing: Mapping[str, LabelRule] = field(default_factory=dict)
    structures: Mapping[str, Structure] = field(default_factory=dict)
    about: About | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def fill(self, metadata: ModelMetadata) -> ModelMetadata:
        """Return metadata with what the card decides.

        Raises:
            InputError: A name is that of no label or channel, or the number of channels differs.
        """
        names = metadata.labels[1:]
        rules = {name: LabelRule() for name in names} if self.postprocessing else {}
        structures = dict(zip(names, metadata.structures, strict=True))
        return dataclasses.replace(
            metadata,
            channels=self.channels or metadata.channels,
            optional_channels=self.optional_channels or metadata.optional_channels,
            postprocessing=_updated(rules, self.postprocessing, names) or metadata.postprocessing,
            structures=_updated(structures, self.structures, names),
            about=self.about or metadata.about,
        )


def _updated(
    values: Mapping[str, _T], given: Mapping[str, _T], names: tuple[str, ...]
) -> tuple[_T, ...]:
    if others := [name for name in given if name not in names]:
        raise InputError(f"the card of the network: {unknown('label', others[0], names)}")
    return tuple({**values, **given}.values())


def read_card(path: str | Path) -> Card:
    """Read a card from a JSON file.

    Raises:
        InputError: The file cannot be read or holds no card; the message names the field.

    Example:
        >>> read_card("missing.json")
        Traceback (most recent call last):
        segjax.errors.InputError: missing.json: there is no such file
    """
    content = read_json_object(path)
    try:
        return Card.from_json(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
