"""Read which cases belong together from a CSV file."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segjax.data.io.formats import IMAGE_SUFFIXES, normal_name, stem
from segjax.errors import InputError
from segjax.files import reading
from segjax.text import plural

__all__ = ["FOLD", "GroupTable", "read_group_table"]

FOLD = "fold"
"""Column of ready-made folds."""

_NAMES = ("case", "name", "image", "file")
_GROUPS = ("group", "patient", "subject", FOLD)
_DELIMITERS = ",;\t"


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
            InputError: A case is not in the table.
        """
        said = self.folds if folds else self.groups
        if missing := [name for name in names if name not in said]:
            more = f", nor for {len(missing) - 1} more" if len(missing) > 1 else ""
            raise InputError(f"{self.path}: has no row for case '{missing[0]}'{more}")
        return {name: said[name] for name in names}


def read_group_table(path: str | Path) -> GroupTable:
    r"""Read a CSV file with a heading, a column of cases and one of their groups.

    Cases stand in the column ``case``, ``name``, ``image`` or ``file``, or in the first one; with
    folders and suffixes or without. Groups stand in the column ``group``, ``patient``,
    ``subject`` or ``fold``, or in the second one. Commas, semicolons or tabulators part the
    columns.

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
    if len(columns) < 2:
        raise InputError(f"{path}: has one column: give one of cases and one of their groups")
    case = _column(columns, _NAMES, apart=[n for n, c in enumerate(columns) if c in _GROUPS])
    group = _column(columns, _GROUPS, apart=[case])
    folds = _named(path, rows, case, columns.index(FOLD)) if FOLD in columns else {}
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
        for name in {file, stem(file) if file.lower().endswith(IMAGE_SUFFIXES) else file}:
            if found.setdefault(name, value) != value:
                raise InputError(f"{path}: case '{name}' is in group {found[name]} and in {value}")
    return found
