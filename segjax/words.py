"""Words of messages."""


def plural(count: int, noun: str) -> str:
    """Return a number and the noun that goes with it.

    Example:
        >>> plural(1, "case"), plural(1200, "voxel")
        ('1 case', '1,200 voxels')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
