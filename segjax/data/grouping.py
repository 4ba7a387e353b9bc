"""Which cases belong together, such as the slices of one patient."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segjax.data.io.formats import image_suffixes, normal_name, stem
from segjax.errors import InputError
from segjax.files import reading
from segjax.text import plural

__all__ = [
    "GroupTable",
    "Grouping",
    "group_by_pattern",
    "group_neighbours",
    "read_group_table",
]

_FOLD = "fold"
_NAMES = ("case", "name", "image", "file")
_GROUPS = ("group", "patient", "subject", _FOLD)
_DELIMITERS = ",;\t"
_PARTICIPANT = "participant_id"
_SUBJECT = re.compile(r"sub-[A-Za-z0-9+]+(?=_|$)")


@dataclass(frozen=True)
class Grouping:
    """Which cases belong together, such as the slices of one patient; at most one way of three.

    Where none is asked for, and every case is called as BIDS calls subjects and their sessions
    (``sub-01_ses-02``), those of a subject are a group.

    Attributes:
        pattern: Regular expression on the names of the cases: those in which it finds the same
            text are a group, as :func:`group_by_pattern` makes them.
        neighbours: So many cases that follow one another by name are a group.
        table: CSV file with a heading, a column of cases (``case``, ``name``, ``image``, ``file``
            or the first one) and one of their groups (``group``, ``patient``, ``subject``,
            ``fold`` or the second one); or ``participants.tsv`` of a BIDS data set, by subject.

    Raises:
        InputError: More than one way of grouping is asked for.

    Example:
        >>> Grouping(pattern="^[a-z]+").groups(["anna_1", "anna_2", "ben_1"])
        {'anna_1': 'anna', 'anna_2': 'anna', 'ben_1': 'ben'}
        >>> Grouping().groups(["sub-1_ses-1", "sub-1_ses-2", "sub-2_ses-1"])
        {'sub-1_ses-1': 'sub-1', 'sub-1_ses-2': 'sub-1', 'sub-2_ses-1': 'sub-2'}
    """

    pattern: str | None = None
    neighbours: int | None = None
    table: str | Path | None = None

    def __post_init__(self) -> None:
        if sum(way is not None for way in (self.pattern, self.neighbours, self.table)) > 1:
            raise InputError("group cases by a pattern, by neighbours or by a table: by one only")

    def groups(self, names: Iterable[str]) -> dict[str, str] | None:
        """Return the group of every case; None where every case stands alone.

        Raises:
            InputError: The cases cannot be grouped so, or the table cannot be read or lacks one.
        """
        if self.pattern is not None:
            return group_by_pattern(names, self.pattern)
        if self.neighbours is not None:
            return group_neighbours(names, self.neighbours)
        if self.table is not None:
            return read_group_table(self.table).of(list(names))
        return _subjects(names)

    def ready_folds(self, names: Sequence[str], folds: int) -> list[list[str]]:
        """Return the cases of every fold of the table, in order; none if there are others.

        Raises:
            InputError: The table cannot be read, lacks a case, or parts a group.
        """
        table = None if self.table is None else read_group_table(self.table)
        if table is None or not table.folds:
            return []
        fold_of = table.of(names, folds=True)
        values = sorted(set(fold_of.values()), key=_natural)
        if len(values) != folds:
            return []
        _check_whole(table.path, table.of(names), fold_of)
        return [[name for name in names if fold_of[name] == value] for value in values]


def _subjects(names: Iterable[str]) -> dict[str, str] | None:
    """Group sessions by subject; None where that is all one, or no subject has several."""
    groups = {name: _subject_of(name) for name in names}
    subjects = {*groups.values()}
    return groups if all(subjects) and 1 < len(subjects) < len(groups) else None


def _subject_of(name: str) -> str:
    match = _SUBJECT.match(name)
    return match[0] if match else ""


def _check_whole(path: Path, groups: Mapping[str, str], folds: Mapping[str, str]) -> None:
    """Refuse folds that part a group."""
    fold_of: dict[str, str] = {}
    for name, group in groups.items():
        if (first := fold_of.setdefault(group, folds[name])) != folds[name]:
            raise InputError(
                f"{path}: has {group} in the folds {first} and {folds[name]}; put all cases of a "
                "group into one, or leave out the column of folds or that of groups"
            )


def group_by_pattern(names: Iterable[str], pattern: str) -> dict[str, str]:
    """Group cases by what a regular expression finds in their names.

    Args:
        names: Names of the cases.
        pattern: The expression. Its groups in round brackets make the name of the group; without
            any, all that it finds does.

    Returns:
        Name of a case -> name of its group.

    Raises:
        InputError: The expression is none, or finds nothing in a name.

    Example:
        >>> group_by_pattern(["sub-07_a", "sub-07_b", "sub-12_a"], "sub-([0-9]+)")
        {'sub-07_a': '07', 'sub-07_b': '07', 'sub-12_a': '12'}
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"'{pattern}': not a regular expression ({error})") from error
    groups = {}
    for name in names:
        if not (match := expression.search(name)) or not match[0]:
            raise InputError(f"case '{name}': '{pattern}' finds nothing in its name")
        groups[name] = " ".join(text or "" for text in match.groups() or (match[0],))
    return groups


def group_neighbours(names: Iterable[str], size: int) -> dict[str, str]:
    """Group cases that follow one another by name, such as the slices of a patient.

    Numbers in names count as numbers, so that ``slice_9`` comes before ``slice_10``.

    Args:
        names: Names of the cases, in any order.
        size: Cases in a group; the last one may have fewer.

    Returns:
        Name of a case -> name of its group, that of the first of its cases.

    Raises:
        InputError: The size is below 1.

    Example:
        >>> group_neighbours(["s10", "s9", "s8"], 2)
        {'s8': 's8', 's9': 's8', 's10': 's10'}
    """
    if size < 1:
        raise InputError(f"groups of {size} neighbours: give at least 1")
    ordered = sorted(names, key=_natural)
    return {name: ordered[index - index % size] for index, name in enumerate(ordered)}


def _natural(name: str) -> tuple[list[tuple[str, int]], str]:
    parts = re.findall(r"([^0-9]*)([0-9]*)", name)
    return [(text, int(digits or 0)) for text, digits in parts], name


@dataclass(frozen=True)
class GroupTable:
    """What a table says of cases.

    Attributes:
        path: The file.
        groups: Case -> its group.
        folds: Case -> the fold that the table deals it into; empty where it has no such column.
    """

    path: Path
    groups: Mapping[str, str]
    folds: Mapping[str, str]

    def of(self, names: Sequence[str], *, folds: bool = False) -> dict[str, str]:
        """Return the group of every case, or its fold.

        Raises:
            InputError: A case is not in the table, nor the subject that it is a session of.
        """
        said = self.folds if folds else self.groups
        rows = {name: name if name in said else _subject_of(name) for name in names}
        if missing := [name for name in names if rows[name] not in said]:
            more = f", nor for {len(missing) - 1} more" if len(missing) > 1 else ""
            raise InputError(f"{self.path}: has no row for case '{missing[0]}'{more}")
        return {name: said[rows[name]] for name in names}


def read_group_table(path: str | Path) -> GroupTable:
    r"""Read a CSV file with a heading, a column of cases and one of their groups.

    Cases stand in the column ``case``, ``name``, ``image`` or ``file``, or in the first one; with
    folders and suffixes or without. Groups stand in the column ``group``, ``patient``,
    ``subject`` or ``fold``, or in the second one. Commas, semicolons or tabulators part the
    columns. In ``participants.tsv`` of a BIDS data set every ``participant_id`` is a group, and
    stands for all sessions.

    Args:
        path: The file, in UTF-8 with or without a byte-order mark.

    Raises:
        InputError: The file cannot be read, lacks a column or a value, or gives a case two groups.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "patients.csv"
        >>> _ = path.write_text("image,patient\na_1.png,anna\na_2.png,anna\n")
        >>> read_group_table(path).of(["a_2"])
        {'a_2': 'anna'}
    """
    heading, *rows = _rows(Path(path))
    columns = [cell.strip().lower() for cell in heading]
    if _PARTICIPANT in columns:
        case = group = columns.index(_PARTICIPANT)
    elif len(columns) < 2:
        raise InputError(f"{path}: has one column: give one of cases and one of their groups")
    else:
        case = _column(columns, _NAMES, apart=[n for n, c in enumerate(columns) if c in _GROUPS])
        group = _column(columns, _GROUPS, apart=[case])
    folds = _named(path, rows, case, columns.index(_FOLD)) if _FOLD in columns else {}
    return GroupTable(Path(path), _named(path, rows, case, group), folds)


def _column(columns: Sequence[str], wanted: Sequence[str], *, apart: Sequence[int]) -> int:
    """Return the column of a wanted name, or else the first one that is not among those apart."""
    named = [columns.index(name) for name in wanted if name in columns]
    return [*named, *(n for n in range(len(columns)) if n not in apart), 0][0]


def _rows(path: Path) -> list[list[str]]:
    with reading(path) as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig").strip()
        delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
        stream = io.StringIO(text, newline="")
        lines = csv.reader(stream, delimiter=delimiter, skipinitialspace=True, strict=True)
        rows = [row for row in lines if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: is no CSV in UTF-8 ({error})") from error
    if len(rows) < 2:
        raise InputError(f"{path}: holds {plural(len(rows), 'row')}: give a heading and cases")
    return rows


def _named(
    path: str | Path, rows: Sequence[Sequence[str]], case: int, column: int
) -> dict[str, str]:
    """Return the values of a column by case."""
    found: dict[str, str] = {}
    for row in rows:
        if len(row) <= max(case, column) or not (row[case].strip() and row[column].strip()):
            raise InputError(f"{path}: the row '{', '.join(row)}' lacks a case or its group")
        value = row[column].strip()
        file = normal_name(Path(row[case].strip().replace("\\", "/")).name)
        for name in {file, stem(file) if file.lower().endswith(image_suffixes()) else file}:
            if found.setdefault(name, value) != value:
                raise InputError(f"{path}: case '{name}' is in group {found[name]} and in {value}")
    return found
