"""The models that are installed with segjax: find, list and check them."""

import hashlib
from pathlib import Path

from segjax.errors import InputError
from segjax.files import reading
from segjax.pretrained import card as cards
from segjax.pretrained.card import ModelCard, read_model_card
from segjax.text import unknown

__all__ = ["card_of", "hidden_model", "model_path", "pretrained_model", "pretrained_models"]


def pretrained_models() -> tuple[ModelCard, ...]:
    """Return the cards of all models that come with segjax, by name.

    Raises:
        InputError: A card is damaged.

    Example:
        >>> names = [card.name for card in pretrained_models()]
        >>> names == sorted(names)
        True
    """
    return tuple(map(_card, _names()))


def pretrained_model(name: str) -> ModelCard:
    """Return the card of a model that comes with segjax.

    Args:
        name: Such as ``"ms-flair"``.

    Raises:
        InputError: There is no such model, or its card is damaged.

    Example:
        >>> pretrained_model("brain")
        Traceback (most recent call last):
        segjax.errors.InputError: unknown model 'brain': known are ...
    """
    if name not in (names := _names()):
        raise InputError(unknown("model", name, names))
    return _card(name)


def model_path(path: str | Path) -> Path:
    """Return the file or folder that is meant where a model is asked for.

    Args:
        path: A file or folder, which comes first; or the name of a model that comes with segjax.

    Returns:
        The path itself, or that of the model's ONNX file, whose digest is that of its card.

    Raises:
        InputError: It is a single word, and neither there nor the name of a model; or the
            model's file is damaged.

    Example:
        >>> model_path("run/model.onnx")
        PosixPath('run/model.onnx')
        >>> model_path("no-model")
        Traceback (most recent call last):
        segjax.errors.InputError: no-model: no such file or folder; unknown model 'no-model': ...
    """
    path = Path(path)
    if path.exists() or len(path.parts) != 1:
        return path
    names = _names()
    if path.name in names:
        return _checked(_card(path.name))
    if path.suffix and path.stem not in names:
        return path
    raise InputError(f"{path}: no such file or folder; {unknown('model', path.name, names)}")


def hidden_model(folder: str | Path) -> str:
    """Return the end of a message about a folder: that it hides a model, or nothing.

    Args:
        folder: One that is not what was asked for.

    Example:
        >>> hidden_model("ms-flair")
        "; it hides the model of that name ('segjax models ms-flair' tells its file); call the ..."
        >>> hidden_model("run")
        ''
    """
    if str(folder) not in _names():
        return ""
    name = f"the model of that name ('segjax models {folder}' tells its file)"
    return f"; it hides {name}; call the folder otherwise"


def card_of(path: str | Path) -> ModelCard | None:
    """Return the card of a file; ``None`` where it did not come with segjax.

    Raises:
        InputError: The card is damaged.

    Example:
        >>> card_of("model.onnx") is None
        True
    """
    path = Path(path).absolute()
    known = path.parent == cards.FOLDER and path.suffix == ".onnx" and path.stem in _names()
    return _card(path.stem) if known else None


def _names() -> list[str]:
    return sorted(file.stem for file in cards.FOLDER.glob("*.json"))


def _card(name: str) -> ModelCard:
    return read_model_card(cards.FOLDER / f"{name}.json")


def _checked(card: ModelCard) -> Path:
    with reading(card.path) as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    if digest != card.sha256:
        raise InputError(f"{card.path}: is not what its card tells of: install segjax anew")
    return card.path
