"""Words of messages."""

from collections.abc import Sequence
from typing import Any

_LONGEST = 100  # characters of a value in a message


def plural(count: int, noun: str) -> str:
    """Return a number and the noun that goes with it.

    Example:
        >>> plural(1, "case"), plural(1200, "voxel")
        ('1 case', '1,200 voxels')
    """
    return f"{count:,} {noun if count == 1 else many(noun)}"


def exact(value: float) -> str:
    """Return a number in as few digits as tell it from every other.

    Example:
        >>> exact(0.5), exact(1.0), exact(0.5000001)
        ('0.5', '1', '0.5000001')
    """
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def duration(seconds: float) -> str:
    """Return a time in words, in the units that suit it.

    Example:
        >>> duration(4.21), duration(133), duration(9000)
        ('4.2 s', '2 min 13 s', '2 h 30 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return "{} h {} min".format(*divmod(round(seconds / 60), 60))


def clock(seconds: float) -> str:
    """Return a time as a clock counts it, for lines that change.

    Example:
        >>> clock(4.21), clock(9000)
        ('0:00:04', '2:30:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def many(noun: str) -> str:
    """Return the plural of a noun.

    Example:
        >>> many("epoch"), many("patch"), many("class")
        ('epochs', 'patches', 'classes')
    """
    return f"{noun}es" if noun.endswith(("tch", "s", "x")) else f"{noun}s"


def brief(value: Any) -> str:
    """Return a value as Python writes it, cut where it is long.

    Example:
        >>> brief("a"), len(brief("a" * 1000))
        ("'a'", 100)
    """
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def listed(names: Sequence[object], most: int) -> str:
    """Return the first names, and how many more there are.

    Example:
        >>> listed(["a", "b"], 3), listed(["a", "b", "c", "d"], 2)
        ('a, b', 'a, b and 2 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def unknown(what: str, name: Any, known: Sequence[str]) -> str:
    """Say that a name is unknown, which are known, and which of these is the nearest.

    Example:
        >>> unknown("loss", "dic", ["dice", "focal"])
        "unknown loss 'dic': did you mean 'dice'? Known are dice, focal"
    """
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1) if isinstance(name, str) else []
    start = f"did you mean {near[0]!r}? Known are" if near else "known are"
    return f"unknown {what} {brief(name)}: {start} {', '.join(known) or 'none'}"
