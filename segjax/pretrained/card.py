"""Model cards: what a network is for, what it was made of, and how well it does."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from segjax.codec import Check, Record, check_fields
from segjax.errors import InputError
from segjax.files import read_json_object

__all__ = ["FOLDER", "MeasuredDice", "ModelCard", "read_model_card"]

FOLDER = Path(__file__).parent
"""Holds NAME.onnx and NAME.json of each model that comes with segjax."""

_WARNING = "not for diagnosis"

_Words = Annotated[
    str, Check(lambda text: bool(text.strip()) and "\n" not in text, "one line of text")
]
_Name = Annotated[
    str,
    Check(
        lambda text: re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", text) is not None,
        "lower-case letters and digits, with hyphens between",
    ),
]
_Digest = Annotated[
    str,
    Check(lambda text: re.fullmatch("[0-9a-f]{64}", text) is not None, "64 hexadecimal digits"),
]
_Use = Annotated[
    str,
    Check(
        lambda text: _WARNING in text.lower() and "\n" not in text,
        f"one line of text that says '{_WARNING}'",
    ),
]
_Count = Annotated[int, Check(lambda n: n >= 1, "a whole number from 1 up")]
_Dice = Annotated[float, Check(lambda x: 0 <= x <= 1, "a number from 0 to 1")]


@dataclass(frozen=True)
class MeasuredDice(Record):
    """A mean Dice, and what it was measured on.

    Attributes:
        on: The images, in words.
        split: How they were kept apart from the training, and whether patients repeat.
        value: Mean over the cases, 0 to 1.
        cases: Their number.
        label: Of one label alone; ``None``: of the only one, or the mean of all.

    Raises:
        InputError: A value is not of its type or range.

    Example:
        >>> MeasuredDice("the other patient", "one patient to train on", 0.5, 1).to_json()["cases"]
        1
    """

    on: _Words
    split: _Words
    value: _Dice
    cases: _Count
    label: _Words | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class ModelCard(Record):
    """What people need to know of a network before they use it.

    Every text is one line.

    Attributes:
        name: As people ask for it: lower-case letters, digits, hyphens.
        task: What it segments.
        input: Which images it takes: sequence, orientation, spacing; what its file does itself,
            such as the extraction of the brain.
        labels: Names of the label values 1, 2, ….
        data: What it was trained on.
        citations: What to cite for them.
        data_license: Licence of these images and labels, by preference as SPDX has it.
        license: Licence of the weights.
        attribution: Whom the licences want named.
        recipe: How it was trained.
        command: What rebuilds the file, in a copy of segjax's source.
        dice: How well it does, the row first that says most about new patients.
        limits: What it was never shown, and where it fails.
        intended_use: What it is for; says that this is not diagnosis.
        sha256: Of the file, 64 hexadecimal digits.
        parameters: Their number.
        segjax_version: What made it.

    Raises:
        InputError: A field is not of its type, or empty.

    Example:
        >>> from segjax.pretrained import pretrained_models
        >>> all("not for diagnosis" in one.intended_use.lower() for one in pretrained_models())
        True
    """

    name: _Name
    task: _Words
    input: _Words
    labels: tuple[_Words, ...]
    data: _Words
    citations: tuple[_Words, ...]
    data_license: _Words
    license: _Words
    attribution: _Words
    recipe: _Words
    command: _Words
    dice: tuple[MeasuredDice, ...]
    limits: tuple[_Words, ...]
    intended_use: _Use
    sha256: _Digest
    parameters: _Count
    segjax_version: _Words

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("labels", "citations", "dice", "limits"):
            if not getattr(self, name):
                raise InputError(f"{name} must hold at least one")

    @property
    def path(self) -> Path:
        """The ONNX file of the installed model."""
        return FOLDER / f"{self.name}.onnx"


def read_model_card(path: str | Path) -> ModelCard:
    """Read the card of a model.

    Args:
        path: Its JSON file, which has the name of the model.

    Raises:
        InputError: The file is missing or no JSON; or a field is missing, unknown, or not of its
            type. The message names the file and the field.

    Example:
        >>> read_model_card("missing.json")
        Traceback (most recent call last):
        segjax.errors.InputError: missing.json: there is no such file
    """
    plain = read_json_object(path)
    try:
        card = ModelCard.from_json(plain)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if card.name != Path(path).stem:
        raise InputError(f"{path}: name is {card.name!r}, but must be that of the file")
    return card
