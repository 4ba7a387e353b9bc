"""Whether a configuration can be stored in a run, and read back as what it was."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from numbers import Number
from typing import Any

from segjax.data.prepare.pipeline import Pipeline
from segjax.errors import InputError
from segjax.train.config import CONFIG_FILE, TrainConfig, field_from_json, field_to_json
from segjax.train.losses import Loss

__all__ = ["check_storable"]


def check_storable(config: TrainConfig) -> None:
    """Refuse a configuration that ``config.json`` would not give back as it is.

    Args:
        config: What is to be trained.

    Raises:
        InputError: A part of it, such as a loss, a transform or a step of another package, has no
            name that segjax knows, or is read back as something else; the message names the
            field and the class.

    Example:
        >>> check_storable(TrainConfig("mpunet++", (64, 64, 64)))
    """
    if type(config) is not TrainConfig:
        raise InputError(f"{_class(config)}: would be read back as TrainConfig: give one of these")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        try:
            back = _stored(field.name, value)
        except Exception as error:  # whatever a class of others raises
            odd = _culprit(field.name, value)
            raise InputError(f"{field.name}: {_refusal(odd)} ({error}); {_REMEDY}") from error
        if change := _change(value, back):
            was, now = map(_class, change)
            read = f"reads as {now}" if was != now else f"reads as {change[1]!r}"
            raise InputError(f"{field.name}: {_refusal(change[0])}, which {read}; {_REMEDY}")


_REMEDY = "nothing could open the run, so take what segjax knows by name"


def _refusal(value: Any) -> str:
    return f"{_class(value)} cannot be stored in {CONFIG_FILE}"


def _stored(name: str, value: Any) -> Any:
    return field_from_json(name, json.loads(json.dumps(field_to_json(name, value))))


_PARTS: dict[str, tuple[Callable[[Any], Iterable[Any]], Callable[[Any], Any]]] = {
    "augment": (tuple, lambda part: (part,)),
    "pipeline": (lambda pipeline: pipeline.steps, lambda part: Pipeline((part,))),
    "loss": (lambda loss: loss.terms, lambda part: Loss((part,))),
}


def _culprit(name: str, value: Any) -> Any:
    """Return the transform, step or term of a field that cannot be stored, or the whole value."""
    if name not in _PARTS:
        return value
    parts, alone = _PARTS[name]
    try:
        return next(part for part in parts(value) if not _is_stored(name, alone(part)))
    except (AttributeError, TypeError, StopIteration):
        return value


def _is_stored(name: str, value: Any) -> bool:
    try:
        _stored(name, value)
    except Exception:  # whatever a class of others raises
        return False
    return True


def _change(value: Any, back: Any) -> tuple[Any, Any] | None:
    """Return the first part that came back as something else, and as what; ``None``: none did."""
    if isinstance(value, Number) and isinstance(back, Number):
        return None if value == back else (value, back)
    if type(value) is not type(back):
        return value, back
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        pairs = [(getattr(value, name), getattr(back, name)) for name in names]
    elif isinstance(value, tuple) and len(value) == len(back):
        pairs = list(zip(value, back, strict=True))
    else:
        return None if value == back else (value, back)
    return next((change for pair in pairs if (change := _change(*pair))), None)


def _class(value: Any) -> str:
    return type(value).__name__
