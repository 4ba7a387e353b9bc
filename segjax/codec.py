"""The one way of settings to JSON and back: dataclasses, whose fields are checked."""

import dataclasses
import functools
import json
import math
import re
from collections import abc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from numbers import Integral, Number, Real
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from segjax.errors import InputError
from segjax.registry import dotted_name, registry
from segjax.text import brief, unknown

__all__ = [
    "Check",
    "Named",
    "Record",
    "check_fields",
    "check_survives",
    "from_json",
    "to_json",
]

_STORED = "JSON holds finite numbers, text, tuples, mappings by text, and dataclasses of these"
_Made = TypeVar("_Made", bound="Record")
_Own = TypeVar("_Own", bound="Named")


def _at(path: str, rest: str) -> InputError:
    """Say where in nested values something is wrong: a path, and what follows it."""
    error = InputError(f"{path or 'value'}{rest}")
    vars(error)["at"] = path, rest
    return error


@contextmanager
def _inside(piece: str, *, apart: bool = False) -> Iterator[None]:
    """Put a piece of the path before an error; or, apart from it, what the path belongs to."""
    try:
        yield
    except InputError as error:
        if not piece:
            raise
        if apart:
            raise InputError(f"{piece}: {error}") from error
        path, rest = getattr(error, "at", ("", f": {error}"))
        dot = "." if path and not path.startswith("[") else ""
        cause = error.__cause__ if hasattr(error, "at") else error
        raise _at(f"{piece}{dot}{path}", rest) from cause


@dataclass(frozen=True)
class Check:
    """What a field has to hold besides its type: ``Annotated[int, Check(…)]``.

    Attributes:
        holds: Whether a value of the type is right.
        words: What is right, after "must be".

    Example:
        >>> Count = Annotated[int, Check(lambda n: n >= 1, "a whole number from 1 up")]
        >>> from_json(Count, 0, where="epochs")
        Traceback (most recent call last):
        segjax.errors.InputError: epochs must be a whole number from 1 up, not 0
    """

    holds: Callable[[Any], bool] = dataclasses.field(repr=False)
    words: str


class Record:
    """A frozen dataclass that goes to JSON and back, field by field.

    Fields are numbers, bool, text, None, ``Literal``, tuples, ``Mapping[str, …]``, other
    dataclasses, unions of these, and classes that have ``to_json`` and ``from_json``.

    Example:
        >>> @dataclass(frozen=True)
        ... class Window(Record):
        ...     size: tuple[int, ...]
        ...     overlap: float = 0.5
        >>> Window((64, 64)).to_json()
        {'size': [64, 64], 'overlap': 0.5}
        >>> Window.from_json({"size": [8, 8]})
        Window(size=(8, 8), overlap=0.5)
    """

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return _write_parts(self)

    @classmethod
    def from_json(cls: type[_Made], plain: Any) -> _Made:
        """Return what :meth:`to_json` wrote; fields left out have their defaults.

        Raises:
            InputError: A field is unknown, missing or out of range; the message names it.
        """
        made: _Made = _read_fields(cls, plain)
        return made


class Named(Record):
    """Base of the classes of a kind: each registers itself under its attribute ``name``.

    A class without a name of its own is not registered. In JSON the name stands first, under the
    kind.

    Class keywords:
        kind: Of the registry, for the base of a kind alone.
        overwrite: Take the name of another class.

    Example:
        >>> class Metric(Named, kind="metric"): ...
        >>> @dataclass(frozen=True)
        ... class Power(Metric):
        ...     name: ClassVar[str] = "power-example"
        ...     exponent: float = 2.0
        >>> Power().to_json()
        {'metric': 'power-example', 'exponent': 2.0}
        >>> Metric.from_json({"metric": "power-example", "exponent": 3})
        Power(exponent=3)
    """

    name: ClassVar[str] = ""
    registry_kind: ClassVar[str] = ""

    def __init_subclass__(cls, *, kind: str = "", overwrite: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        if kind:
            cls.registry_kind = kind
        elif isinstance(name := vars(cls).get("name"), str) and name:
            registry(cls.registry_kind).register(name, cls, overwrite=overwrite)

    def to_json(self) -> dict[str, Any]:
        """Return the name and the fields as JSON values.

        Raises:
            InputError: The class is not registered, or a field cannot be stored.
        """
        cls, kind = type(self), self.registry_kind
        name = registry(kind).name_of(cls)
        if name is None and "name" in vars(cls):
            raise InputError(f"{kind} {cls.name!r} is another class by now: make this one anew")
        if name is None:
            hint = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()
            raise InputError(f"{kind} {cls.__name__} has no name: give the class name = {hint!r}")
        with _inside(f"{kind} {name!r}", apart=True):
            return {kind: name, **_write_parts(self)}

    @classmethod
    def from_json(cls: type[_Own], plain: Any) -> _Own:
        """Return the object, of the class that is named, that :meth:`to_json` wrote.

        Raises:
            InputError: The name is unknown; or a field is unknown, missing or out of range.
        """
        kind = cls.registry_kind
        if not isinstance(plain, Mapping):
            raise _must(cls, plain)
        name = plain.get(kind)
        found = registry(kind).get(plain if name is None else name)
        with _inside(f"{kind} {name!r}", apart=True):
            if not isinstance(found, type) or not issubclass(found, cls):
                raise InputError(f"{dotted_name(found)} is no class derived from {cls.__name__}")
            return _read_fields(found, {k: v for k, v in plain.items() if k != kind})


def to_json(value: Any, *, where: str = "") -> Any:
    """Turn a value into what ``json`` can write.

    Args:
        value: Numbers (NumPy's too), text, tuples, mappings, dataclasses, and objects that have
            a method ``to_json``.
        where: What the value is, for messages.

    Raises:
        InputError: A part cannot be stored, or is NaN or infinite; the message names it.

    Example:
        >>> to_json({"spacing": (1.0, 2), "model": None})
        {'spacing': [1.0, 2], 'model': None}
    """
    with _inside(where):
        value = _without_numpy(value)
        if _is_scalar(value):
            return value
        if isinstance(value, tuple | list):
            return [to_json(part, where=piece) for piece, part in _parts(value).items()]
        if hasattr(value, "to_json") and not isinstance(value, type):
            return value.to_json()
        if _has_names(value):
            return _write_parts(value)
        raise InputError(f"{brief(value)} cannot be stored: {_STORED}")


def from_json(kind: Any, plain: Any, *, where: str = "") -> Any:
    """Turn what ``json`` read into a value of a type.

    Args:
        kind: Type as annotations write it: see :class:`Record`. An int is accepted for a float.
        plain: JSON values; parts that are of their type already stay as they are.
        where: What the value is, for messages.

    Raises:
        InputError: A part is not of its type; the message names it.

    Example:
        >>> from_json(tuple[float, ...] | None, [1.0, 2])
        (1.0, 2)
        >>> from_json(tuple[float, ...], [1.0, "2"], where="spacing")
        Traceback (most recent call last):
        segjax.errors.InputError: spacing[1] must be a number, not '2'
    """
    with _inside(where):
        return _decode(kind, plain)


def check_fields(value: Any) -> None:
    """Check the fields of a frozen dataclass by their annotations, in its ``__post_init__``.

    Lists become tuples, and NumPy's numbers plain ones.

    Raises:
        InputError: A field is not of its type, or a :class:`Check` does not hold.

    Example:
        >>> @dataclass(frozen=True)
        ... class Blur:
        ...     std: tuple[float, float]
        ...     def __post_init__(self):
        ...         check_fields(self)
        >>> Blur([0, 1.5]).std
        (0, 1.5)
    """
    cls: Any = type(value)
    for field in _fields(cls):
        checked = from_json(_hints(cls)[field.name], getattr(value, field.name), where=field.name)
        object.__setattr__(value, field.name, checked)


def check_survives(value: Any, where: str = "", *, kind: Any = None) -> None:
    """Refuse a value that JSON would not give back as it is.

    Args:
        value: Such as a configuration.
        where: What it is, for messages.
        kind: Type that it will be read as; its own by default.

    Raises:
        InputError: A part has no registered name, cannot be stored, or reads as something else;
            the message names the part.

    Example:
        >>> check_survives((1.0, 2.0), kind=tuple[float, ...])
    """
    with _inside(where):
        try:
            text = json.dumps(to_json(value), allow_nan=False)
            back = _decode(type(value) if kind is None else kind, json.loads(text))
        except InputError:
            raise
        except Exception as error:  # whatever a class of others raises
            raise InputError(f"{brief(value)} cannot be stored: {error!r}") from error
        _check_same(value, back)


def _check_same(value: Any, back: Any) -> None:
    value = _without_numpy(value)
    parts, others = _parts(value), _parts(back)
    numbers = isinstance(value, Number) and isinstance(back, Number)
    if not numbers and type(value) is not type(back):
        both = type(value).__name__, type(back).__name__
        raise InputError("{} would be read back as {}".format(*both))
    if parts.keys() != others.keys() or (not parts and _is_leaf(value) and value != back):
        raise InputError(f"{brief(value)} would be read back as {brief(back)}")
    for piece, part in parts.items():
        with _inside(piece):
            _check_same(part, others[piece])


def _parts(value: Any) -> dict[str, Any]:
    if isinstance(value, tuple | list):
        return {f"[{number}]": part for number, part in enumerate(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if _is_leaf(value):
        return {}
    return {field.name: getattr(value, field.name) for field in _fields(type(value))}


def _is_leaf(value: Any) -> bool:
    return not isinstance(value, Record) and not dataclasses.is_dataclass(value)


def _without_numpy(value: Any) -> Any:
    of_numpy = type(value).__module__ == "numpy" and hasattr(value, "tolist")
    return value.tolist() if of_numpy else value


def _is_scalar(value: Any) -> bool:
    finite = not isinstance(value, float) or math.isfinite(value)
    return finite and isinstance(value, bool | int | float | str | NoneType)


def _has_names(value: Any) -> bool:
    """Say whether the parts of a value are named by text."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) for key in value)
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _write_parts(value: Any) -> dict[str, Any]:
    return {name: to_json(part, where=name) for name, part in _parts(value).items()}


def _read_fields(cls: Any, plain: Any) -> Any:
    if not isinstance(plain, Mapping):
        raise _must(cls, plain)
    _check_names(plain, _fields(cls))
    hints = _hints(cls)
    values = {name: from_json(hints[name], part, where=name) for name, part in plain.items()}
    return _build(cls, plain, lambda: cls(**values))


def _check_names(plain: Mapping[str, Any], fields: tuple[dataclasses.Field[Any], ...]) -> None:
    known = tuple(field.name for field in fields)
    if others := [name for name in plain if name not in known]:
        raise InputError(unknown("field", others[0], known))
    needed = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if name not in plain]:
        raise InputError(f"field {', '.join(missing)} is missing")


def _build(cls: Any, plain: Any, make: Callable[[], Any]) -> Any:
    """Make an object; errors of other kinds than ``InputError`` name the class."""
    try:
        return make()
    except InputError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        text = f"{error}" if isinstance(error, ValueError) else repr(error)
        raise InputError(f"{cls.__name__} cannot be made of {brief(plain)}: {text}") from error


def _fields(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    """Return the fields that the constructor of a frozen dataclass takes; none of a plain class."""
    maker = next(base for base in cls.__mro__ if "__init__" in vars(base))
    made = vars(maker).get("__dataclass_params__")
    if made is not None and made.frozen:
        return tuple(field for field in dataclasses.fields(cls) if field.init)
    if maker is object or (made is None and len(signature(maker.__init__).parameters) == 1):
        return ()
    raise InputError(
        f"class {dotted_name(cls)} is no frozen dataclass, so its settings cannot be stored: put "
        "@dataclass(frozen=True) above it"
    )


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    try:
        return get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise InputError(
            f"a type in class {dotted_name(cls)} is not known where it stands: {error}"
        ) from error


def _decode(kind: Any, plain: Any) -> Any:
    """Return a value of a type; what is one already stays."""
    plain = _without_numpy(plain)
    if form := _FORMS.get(get_origin(kind)):
        return form.decode(kind, plain)
    if kind is Any:
        return _frozen(plain)
    if kind in _SCALARS:
        return _scalar(kind, plain)
    if isinstance(kind, type) and isinstance(plain, kind):
        return plain
    if hasattr(kind, "from_json"):
        return _build(kind, plain, lambda: kind.from_json(plain))
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, plain)
    raise _must(kind, plain)


def _frozen(plain: Any) -> Any:
    """Turn lists into tuples, all the way down."""
    if isinstance(plain, Mapping):
        return {key: _frozen(part) for key, part in plain.items()}
    return tuple(map(_frozen, plain)) if isinstance(plain, tuple | list) else plain


def _scalar(kind: Any, plain: Any) -> Any:
    right = isinstance(plain, _SCALARS[kind][0]) and isinstance(plain, bool) == (kind is bool)
    if not right or (isinstance(plain, float) and not math.isfinite(plain)):
        raise _must(kind, plain)
    return plain


def _checked(kind: Any, plain: Any) -> Any:
    inner, *others = get_args(kind)
    checks = [other for other in others if isinstance(other, Check)]
    if not checks:
        return _decode(inner, plain)
    try:
        value = _decode(inner, plain)
    except InputError as error:
        raise _must(kind, plain) from error
    if not all(check.holds(value) for check in checks):
        raise _must(kind, plain)
    return value


def _any_of(kind: Any, plain: Any) -> Any:
    """Return the first member that it can be; else raise the error of what it nearly was."""
    near: list[InputError] = []
    for member in get_args(kind):
        try:
            return _decode(member, plain)
        except InputError as error:
            near += [error] if getattr(error, "at", ("plain",))[0] else []
    raise near[0] if near else _must(kind, plain)


def _choice(kind: Any, plain: Any) -> Any:
    if not any(plain == each and type(plain) is type(each) for each in get_args(kind)):
        raise _must(kind, plain)
    return plain


def _tuple(kind: Any, plain: Any) -> Any:
    kinds = get_args(kind)
    if kinds[-1] is ... and isinstance(plain, tuple | list):
        kinds = kinds[:1] * len(plain)
    if not isinstance(plain, tuple | list) or len(kinds) != len(plain):
        raise _must(kind, plain)
    parts = enumerate(zip(kinds, plain, strict=True))
    return tuple(from_json(each, part, where=f"[{number}]") for number, (each, part) in parts)


def _mapping(kind: Any, plain: Any) -> Any:
    if not isinstance(plain, Mapping) or not all(isinstance(key, str) for key in plain):
        raise _must(kind, plain)
    return {key: from_json(get_args(kind)[1], part, where=key) for key, part in plain.items()}


def _words_of_checked(kind: Any, *notes: Any) -> str:
    return next((note.words for note in notes if isinstance(note, Check)), _words(kind))


def _words_of_union(*kinds: Any) -> str:
    words = dict.fromkeys(_words(k) for k in kinds if not (k is int and float in kinds))
    return ", or ".join(filter(None, words))


class _Form(NamedTuple):
    """How values of a type that takes others are read, and what they are called, by those."""

    decode: Callable[[Any, Any], Any]
    words: Callable[..., str]


_FORMS: dict[Any, _Form] = {
    Annotated: _Form(_checked, _words_of_checked),
    **dict.fromkeys((Union, UnionType), _Form(_any_of, _words_of_union)),
    Literal: _Form(_choice, lambda *values: f"one of {', '.join(map(str, values))}"),
    tuple: _Form(_tuple, lambda *kinds: "a list" if ... in kinds else f"a list of {len(kinds)}"),
    **dict.fromkeys((abc.Mapping, dict), _Form(_mapping, lambda *kinds: "an object")),
}
_SCALARS: dict[Any, tuple[type, str]] = {
    bool: (bool, "true or false"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "text"),
    NoneType: (NoneType, "null"),
}


def _must(kind: Any, plain: Any) -> InputError:
    unknown = f"of a type that is stored ({getattr(kind, '__name__', kind)} is none; {_STORED})"
    return _at("", f" must be {_words(kind) or unknown}, not {brief(plain)}")


def _words(kind: Any) -> str:
    """Describe the values of a type; empty where JSON has none."""
    if form := _FORMS.get(get_origin(kind)):
        return form.words(*get_args(kind))
    if kind in _SCALARS:
        return _SCALARS[kind][1]
    if key := getattr(kind, "registry_kind", ""):
        return f"an object with {key!r}"
    record = hasattr(kind, "from_json") or dataclasses.is_dataclass(kind)
    return "an object" if record or kind in (dict, abc.Mapping) else ""
