"""Words of messages."""


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


def many(noun: str) -> str:
    """Return the plural of a noun.

    Example:
        >>> many("epoch"), many("patch"), many("class")
        ('epochs', 'patches', 'classes')
    """
    return f"{noun}es" if noun.endswith(("tch", "s", "x")) else f"{noun}s"
