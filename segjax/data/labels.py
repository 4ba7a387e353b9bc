"""What the stored values of label maps stand for."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from segjax.codec import Record, to_json
from segjax.errors import InputError
from segjax.files import read_json

__all__ = [
    "IGNORED",
    "PLAIN",
    "LabelCoding",
    "Stored",
    "asked_coding",
    "classes_of",
    "coding_of_labels",
    "coding_of_segments",
    "foreground",
    "read_coding",
]

Stored = int | tuple[int, ...]
"""What files store for a class: a value, or several that are one class."""

IGNORED = 255
"""Value, in label maps in memory, of voxels that count for nothing, neither loss nor metric."""

_LISTED = 8
_BACKGROUND, _IGNORE = "background", "ignore"


@dataclass(frozen=True)
class LabelCoding(Record):
    """Map what files store to classes, which count from 0.

    Attributes:
        values: Stored value of each class, or its stored values, in the order of the classes;
            empty where the values are the classes.
        names: Name of each class, by which the segments of files that name them are found;
            empty where nothing is named.
        ignored: Stored values of voxels that count for nothing; they become :data:`IGNORED`.

    Raises:
        InputError: A value occurs twice, or there are more than 255 classes.

    Example:
        >>> coding = LabelCoding(values=(0, (1, 4)), names=("background", "core"), ignored=2)
        >>> coding.decode(np.array([0, 1, 2, 4], np.uint8), "mask.png").tolist()
        [0, 1, 255, 1]
    """

    values: tuple[Stored, ...] = ()
    names: tuple[str, ...] = ()
    ignored: Stored | None = None

    def __post_init__(self) -> None:
        listed = [value for stored in (*self.values, self.ignored) for value in _each(stored)]
        if len(set(listed)) < len(listed):
            raise InputError(f"label values {listed}: give each class a value of its own")
        if len(self.values) > IGNORED:
            raise InputError(
                f"{len(self.values)} classes: masks hold {IGNORED} at most; merge some"
            )

    @property
    def plain(self) -> bool:
        """Whether stored values are the classes, and none is ignored."""
        return self.ignored is None and self.values in ((), tuple(range(len(self.values))))

    @property
    def classes(self) -> dict[int, int]:
        """Class of each stored value that is not ignored; empty where the values are classes."""
        return {value: number for number, s in enumerate(self.values) for value in _each(s)}

    @property
    def ignored_values(self) -> tuple[int, ...]:
        """Stored values of voxels that count for nothing."""
        return _each(self.ignored)

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
        # without values, a class of the number IGNORED would count for nothing
        table = self.classes or {value: value for value in found.tolist() if value != IGNORED}
        table |= dict.fromkeys(self.ignored_values, IGNORED)
        if odd := [value for value in found.tolist() if value not in table]:
            raise self._unknown(odd, name)
        kind = np.uint8 if max(table.values()) <= IGNORED else np.int64
        codes = np.array([table[value] for value in found.tolist()], kind)
        return codes[inverse].reshape(stored.shape)

    def _unknown(self, odd: Sequence[int], name: str) -> InputError:
        more = ", …" if len(odd) > _LISTED else ""
        known = ", ".join(map(str, self.classes)) or f"0 to {IGNORED - 1}"
        return InputError(
            f"{name}: has labels {', '.join(map(str, odd[:_LISTED]))}{more}, but the labels are "
            f"{known}; name every value in dataset.json or with --labels: {odd[0]}=NAME, or "
            f"{odd[0]}=background to leave it out"
        )

    def as_labels(self) -> dict[str, Any]:
        """Return what :func:`coding_of_labels` reads: names and stored values, as plain data.

        Example:
            >>> asked_coding(["1,4=core", "2=edema"]).as_labels()
            {'background': 0, 'core': [1, 4], 'edema': 2}
        """
        return {called: to_json(stored) for called, stored in self._stored().items()}

    def _stored(self) -> dict[str, Stored]:
        ignored = {} if self.ignored is None else {_IGNORE: self.ignored}
        values = self.values or range(len(self.names))
        return dict(zip(self.names, values, strict=True)) | ignored

    def __str__(self) -> str:
        """Name the classes, each with its stored values: ``background (0), core (1, 4)``."""
        if not self.names:
            return "themselves"
        labels = self._stored().items()
        return ", ".join(f"{name} ({', '.join(map(str, _each(s)))})" for name, s in labels)

    def as_options(self) -> str:
        """Return what :func:`asked_coding` reads, as a shell takes it.

        Example:
            >>> asked_coding(["1,4=core", "2=small edema"]).as_options()
            "1,4=core '2=small edema'"
        """
        labels = [(name, stored) for name, stored in self._stored().items() if stored != 0]
        options = (f"{','.join(map(str, _each(stored)))}={name}" for name, stored in labels)
        return " ".join(map(shlex.quote, options))


def _each(stored: Stored | None) -> tuple[int, ...]:
    if stored is None:
        return ()
    return stored if isinstance(stored, tuple) else (stored,)


PLAIN = LabelCoding()
"""What is stored are the classes."""


def asked_coding(labels: Sequence[str] = (), *, names: Sequence[str] = ()) -> LabelCoding | None:
    """Read the options ``--labels`` and ``--names`` of the commands.

    Args:
        labels: ``VALUE[,VALUE…]=NAME`` each, in the order of the classes: see
            :func:`coding_of_labels`. Values of one name are one class.
        names: Names of the values 1, 2, …, where these are the classes already.

    Returns:
        The coding; None where both are empty.

    Raises:
        InputError: Both are given, or either cannot be understood.

    Example:
        >>> asked_coding(["1,4=core", "2=edema", "3=ignore"])
        LabelCoding(values=(0, (1, 4), 2), names=('background', 'core', 'edema'), ignored=3)
        >>> asked_coding(names=["lesion"]) == asked_coding(["1=lesion"])
        True
    """
    if labels and names:
        raise InputError("--labels names the classes already: leave out --names")
    values: dict[str, list[int]] = {}
    for text in _numbered(names) or labels:
        stored, name = _read_option(text)
        values.setdefault(name, []).extend(stored)
    return coding_of_labels(values, "--names" if names else "--labels") if values else None


def _numbered(names: Sequence[str]) -> list[str]:
    """Return what says by ``--labels`` the same as names of 1, 2, … by ``--names``."""
    if any(name.strip().casefold() == _BACKGROUND for name in names):
        raise InputError("--names: the background is 0, and has its name; name 1, 2, … alone")
    if len(set(map(str.strip, names))) < len(names):
        raise InputError(f"--names {' '.join(names)}: give each label its own name")
    return [f"{value}={name}" for value, name in enumerate(names, 1)]


def _read_option(text: str) -> tuple[list[int], str]:
    listed, equals, name = text.partition("=")
    values = [value.strip() for value in listed.split(",")]
    if not equals or not all(value.isdecimal() for value in values):
        raise InputError(
            f"--labels {text}: write VALUE=NAME, such as 255=lesion, or VALUE,VALUE=NAME"
        )
    return [int(value) for value in values], name.strip()


def coding_of_labels(labels: object, name: str = "labels") -> LabelCoding:
    """Read which stored values are of each class, in the order of the classes.

    The label of 0 is the background, unless another one is called ``background``; where none has
    the 0, the background has it too. Values that are left out are given to the background. A
    label called ``ignore`` is no class: its voxels count for nothing.

    Args:
        labels: Mapping of names to a stored value, or a list of some; whole numbers from 0 up.
        name: Where they were written, for messages.

    Returns:
        The coding, with names.

    Raises:
        InputError: A value has two labels, labels have one name or none, or nothing is labelled;
            or these are no names and values.

    Example:
        >>> coding_of_labels({"tumour": [1, 4], "background": 2}).values
        ((0, 2), (1, 4))
    """
    stored = _read_labels(labels, name)
    known = {called.casefold(): called for called in stored}
    owners = {value: called for called, values in stored.items() for value in values}
    ignore = known.get(_IGNORE, "")
    background = known.get(_BACKGROUND) or owners.get(0, _BACKGROUND)
    if background == ignore:
        raise InputError(f"{name}: 0 is ignored; say which value is the background")
    ignored = stored.pop(ignore, ())
    values = stored.pop(background, ()) + (() if 0 in owners else (0,))
    if not stored:
        raise InputError(f"{name}: nothing is labelled but the background; name another value")
    return LabelCoding(
        tuple(map(_single, (values, *stored.values()))),
        (background, *stored),
        _single(ignored) if ignored else None,
    )


def _read_labels(labels: object, name: str) -> dict[str, tuple[int, ...]]:
    """Return the stored values of each label."""
    if not isinstance(labels, Mapping):
        raise InputError(f"{name}: must be an object of names and values, not {labels!r}")
    stored = {called: _read_values(content, called, name) for called, content in labels.items()}
    _check_apart(stored, name)
    return {called.strip(): values for called, values in stored.items()}


def _read_values(content: Any, called: str, name: str) -> tuple[int, ...]:
    values = tuple(content) if isinstance(content, list | tuple) else (content,)
    if not values or not all(map(_is_value, values)):
        raise InputError(
            f"{name}: the label {called!r} has the value {content}; give whole numbers from 0 up"
        )
    return tuple(dict.fromkeys(map(int, values)))


def _is_value(value: Any) -> bool:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool) and value >= 0


def _check_apart(stored: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Refuse labels of one name or of none, and values of two labels."""
    counts = Counter(called.strip().casefold() for called in stored)
    for called in stored:
        if not called.strip():
            raise InputError(f"{name}: a label has no name; give it one")
        if counts[called.strip().casefold()] > 1:
            raise InputError(f"{name}: two labels are called {called!r}; give each its own name")
    owners: dict[int, str] = {}
    for called, values in stored.items():
        if taken := [value for value in values if value in owners]:
            raise InputError(
                f"{name}: the value {taken[0]} is of {owners[taken[0]]!r} and of {called!r}, but "
                "classes cannot overlap; give every value one label, as --labels 1,3=core 2=edema "
                "does"
            )
        owners |= dict.fromkeys(values, called)


def _single(values: Sequence[int]) -> Stored:
    return values[0] if len(values) == 1 else tuple(sorted(values))


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
    first = _first_called(segments)
    if not first:
        return PLAIN
    if plain := [file for file, names in segments.items() if names is None]:
        raise InputError(
            f"{plain[0]}: holds no segments with names, as other labels do; name the labels in "
            "dataset.json"
        )
    if _BACKGROUND in first:
        name, file = first[_BACKGROUND]
        raise InputError(
            f"{file}: has a segment called {name!r}, which is what lies in no segment; remove it, "
            "or name the labels in dataset.json"
        )
    ignored = first.pop(_IGNORE, None)
    if ignored and not first:
        raise InputError(
            f"{ignored[1]}: has no segment but {ignored[0]!r}, nor have others; nothing is labelled"
        )
    classes = (_BACKGROUND, *(name for name, _ in first.values()))
    return LabelCoding(tuple(range(len(classes))), classes, IGNORED if ignored else None)


def _first_called(segments: Mapping[str, Sequence[str] | None]) -> dict[str, tuple[str, str]]:
    """Return under each name, without regard to case, how and in which file it is first written."""
    first: dict[str, tuple[str, str]] = {}
    for file, names in segments.items():
        for name in names or ():
            first.setdefault(name.strip().casefold(), (name.strip(), file))
    return first


def read_coding(path: str | Path) -> LabelCoding | None:
    """Read what label values stand for from a run's ``config.json``; None where it does not say.

    Args:
        path: As for :func:`segjax.data.prepare.pipeline.read_pipeline`.

    Raises:
        InputError: The file is none of these; the message names the file.
    """
    values = read_json(path)
    found = values.get("label_values") if isinstance(values, dict) else None
    return None if found is None else coding_of_labels(found, f"{path}: label_values")


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
