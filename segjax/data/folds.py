"""Cross-validation: every case is validated once, by a network that never saw its neighbours."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segjax.data._dealing import shuffled_groups
from segjax.data._group_table import read_group_table
from segjax.data.cases import Split
from segjax.errors import InputError
from segjax.text import plural

__all__ = [
    "Folding",
    "Grouping",
    "fold_splits",
    "group_by_pattern",
    "group_neighbours",
]


@dataclass(frozen=True)
class Grouping:
    """Which cases belong together, such as the slices of one patient; at most one way of three.

    Attributes:
        pattern: Regular expression on the names of the cases: those in which it finds the same
            text are a group, as :func:`group_by_pattern` makes them.
        neighbours: So many cases that follow one another by name are a group.
        table: CSV file with a heading, a column of cases (``case``, ``name``, ``image``, ``file``
            or the first one) and one of their groups (``group``, ``patient``, ``subject``,
            ``fold`` or the second one).

    Raises:
        InputError: More than one way of grouping is asked for.

    Example:
        >>> Grouping(pattern="^[a-z]+").groups(["anna_1", "anna_2", "ben_1"])
        {'anna_1': 'anna', 'anna_2': 'anna', 'ben_1': 'ben'}
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
        return None


@dataclass(frozen=True)
class Folding:
    """How the cases of a dataset are dealt into folds.

    Attributes:
        folds: Number of folds, at least 2.
        grouping: Which cases stay in one fold. Where a table has a column ``fold`` of so many
            values, these are the folds, in order; nothing is dealt then.

    Raises:
        InputError: There are too few folds.

    Example:
        >>> names = ["anna_1", "anna_2", "ben_1", "ben_2"]
        >>> Folding(2, Grouping(pattern="^[a-z]+")).splits(names, seed=1)[0].validation
        ('anna_1', 'anna_2')
    """

    folds: int
    grouping: Grouping = Grouping()

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise InputError(f"{plural(self.folds, 'fold')}: give at least 2")

    def splits(self, names: Iterable[str], *, seed: int = 0) -> tuple[Split, ...]:
        """Return the split of every fold, as :func:`fold_splits` does.

        Raises:
            InputError: As :func:`fold_splits` and the way of grouping.
        """
        listed = list(names)
        ready = self._ready(listed)
        if ready:
            return _splits(ready)
        return fold_splits(listed, self.folds, seed=seed, groups=self.grouping.groups(listed))

    def _ready(self, names: Sequence[str]) -> list[list[str]]:
        """Return the cases of every fold of the table, in order; none if there are others."""
        table = None if self.grouping.table is None else read_group_table(self.grouping.table)
        if table is None or not table.folds:
            return []
        folds = table.of(names, folds=True)
        values = sorted(set(folds.values()), key=_natural)
        if len(values) != self.folds:
            return []
        _check_whole(table.path, table.of(names), folds)
        return [[name for name in names if folds[name] == value] for value in values]


def _check_whole(path: Path, groups: Mapping[str, str], folds: Mapping[str, str]) -> None:
    """Refuse folds that part a group."""
    fold_of: dict[str, str] = {}
    for name, group in groups.items():
        if (first := fold_of.setdefault(group, folds[name])) != folds[name]:
            raise InputError(
                f"{path}: has {group} in the folds {first} and {folds[name]}; put all cases of a "
                "group into one, or leave out the column of folds or that of groups"
            )


def fold_splits(
    names: Iterable[str], folds: int, *, seed: int = 0, groups: Mapping[str, str] | None = None
) -> tuple[Split, ...]:
    """Deal cases into folds; each fold is validated once and trained on in all other splits.

    The groups (every case alone, by default) are permuted by ``numpy.random.default_rng(seed)``,
    sorted by falling size, and dealt one after another to the fold with the fewest cases. Sizes
    of folds differ by at most the size of the largest group.

    Args:
        names: Names of the cases, in any order.
        folds: Number of folds, at least 2.
        seed: Seed of the permutation.
        groups: Name of a case -> name of its group; cases of one group are never parted.

    Returns:
        One split for each fold, its parts sorted by name and without a test set.

    Raises:
        InputError: A name occurs twice or has no group, or there are fewer groups than folds.

    Example:
        >>> [split.validation for split in fold_splits(["a", "b", "c", "d"], 2)]
        [('b', 'c'), ('a', 'd')]
    """
    shuffled = shuffled_groups(names, groups, seed=seed, where="folds")
    if not 2 <= folds <= len(shuffled):
        there = plural(len(shuffled), "case" if groups is None else "group")
        raise InputError(f"{plural(folds, 'fold')} of {there}: {_possible(len(shuffled))}")
    dealt: list[list[str]] = [[] for _ in range(folds)]
    for group in sorted(shuffled, key=len, reverse=True):
        min(dealt, key=len).extend(group)
    return _splits(dealt)


def _splits(dealt: Sequence[Sequence[str]]) -> tuple[Split, ...]:
    """Validate each fold by a network that is trained on the others."""
    everything = {name for fold in dealt for name in fold}
    return tuple(
        Split(train=tuple(sorted(everything - set(fold))), validation=tuple(sorted(fold)))
        for fold in dealt
    )


def _possible(most: int) -> str:
    return f"give from 2 to {most}" if most > 1 else "there must be 2 at least"


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
