"""What cases were for: to train a network on, to validate it on, or to test it on."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from segjax.data.splits import Split, read_split
from segjax.runs.folder import RunFolder
from segjax.text import plural

__all__ = ["NOT_KNOWN", "by_role", "read_roles", "role_in_words", "roles_in_words", "roles_of"]

NOT_KNOWN = "not known"
_PARTS = {"train": "training", "validation": "validation", "test": "test"}


def roles_of(split: Split) -> dict[str, str]:
    """Return what each case of a split is for.

    Example:
        >>> roles_of(Split(train=("a",), validation=("b",)))
        {'a': 'training', 'b': 'validation'}
    """
    return {case: role for part, role in _PARTS.items() for case in getattr(split, part)}


def read_roles(run: str | os.PathLike[str]) -> dict[str, str]:
    """Read from the split of a run what each case was for; nothing where it has no split.

    Args:
        run: Folder of a training or of a sweep.

    Raises:
        InputError: ``split.json`` cannot be read.
    """
    path = RunFolder(Path(run)).split
    return roles_of(read_split(path)) if path.exists() else {}


def by_role(roles: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the cases of each role, as of :func:`roles_of`.

    Example:
        >>> by_role({"a": "training", "b": "test", "c": "training"})
        {'training': ['a', 'c'], 'test': ['b']}
    """
    found: dict[str, list[str]] = {}
    for case, role in roles.items():
        found.setdefault(role, []).append(case)
    return found


def role_in_words(role: str) -> str:
    """Say what one case is for.

    Example:
        >>> role_in_words("test")
        'test case'
    """
    return "whether it was trained on is not known" if role == NOT_KNOWN else f"{role} case"


def roles_in_words(cases: Iterable[str], roles: Mapping[str, str]) -> str:
    """Say how many of some cases are for what.

    Args:
        cases: Their names.
        roles: As of :func:`roles_of`.

    Example:
        >>> roles_in_words(["a", "b", "c"], {"a": "test", "b": "test"})
        '2 test cases, 1 case not known'
    """
    own = [roles.get(case, NOT_KNOWN) for case in cases]
    counts = {role: own.count(role) for role in (*_PARTS.values(), NOT_KNOWN)}
    words = [
        f"{plural(count, 'case')} {role}" if role == NOT_KNOWN else plural(count, f"{role} case")
        for role, count in counts.items()
        if count
    ]
    return ", ".join(words)
