"""Deal groups of cases, of which none is parted."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from segjax.errors import InputError

__all__ = ["nearest_share", "shuffled_groups"]

Group = Sequence[str]


def shuffled_groups(
    names: Iterable[str], groups: Mapping[str, str] | None, *, seed: int, where: str
) -> list[Group]:
    """Return the cases of every group, sorted by name, and the groups in random order.

    The groups, every case alone by default, are sorted by name and then permuted by
    ``numpy.random.default_rng(seed)``.

    Raises:
        InputError: A name occurs twice or has no group; ``where`` begins the message.

    Example:
        >>> shuffled_groups(["b2", "a1", "b1"], {"a1": "a", "b1": "b", "b2": "b"}, seed=0, where="")
        [['a1'], ['b1', 'b2']]
    """
    ordered = sorted(names)
    members: dict[str, list[str]] = {}
    for name, following in pairwise(ordered):
        if name == following:
            raise InputError(f"{where}: case '{name}' occurs more than once")
    for name in ordered:
        if groups is not None and name not in groups:
            raise InputError(f"{where}: case '{name}' belongs to no group")
        members.setdefault(name if groups is None else groups[name], []).append(name)
    listed = [cases for _, cases in sorted(members.items())]
    return [listed[i] for i in np.random.default_rng(seed).permutation(len(listed))]


def nearest_share(groups: Sequence[Group], wanted: int) -> list[int]:
    """Choose groups that hold as nearly as can be so many cases, but not all groups.

    Of the choices that come equally near, those of fewer cases win, and then those of the groups
    that come first.

    Args:
        groups: The cases of every group.
        wanted: Number of cases; 0 chooses none, more than 0 at least one group.

    Returns:
        Where the chosen groups stand, in rising order; none where all but one are too few.

    Example:
        >>> nearest_share([["a1", "a2", "a3"], ["b1"], ["c1", "c2"]], 2)
        [2]
    """
    sizes = [len(group) for group in groups]
    if set(sizes) <= {1}:
        return list(range(min(wanted, len(sizes))))
    limit = min(sum(sizes), 2 * wanted + max(sizes))  # no sum beyond it comes nearest
    sums = _possible_sums(sizes, limit)
    possible = [n for n in range(1, limit + 1) if sums[0] >> n & 1 and n < sum(sizes)]
    if wanted == 0 or not possible:
        return []
    left = min(possible, key=lambda n: abs(n - wanted))
    chosen = []
    for place, size in enumerate(sizes):
        if size <= left and sums[place + 1] >> (left - size) & 1:
            chosen.append(place)
            left -= size
    return chosen


def _possible_sums(sizes: Sequence[int], limit: int) -> list[int]:
    """Return, for every place, the sums of some of the sizes from there on: bit n is sum n."""
    mask, sums = (1 << (limit + 1)) - 1, [1]
    for size in reversed(sizes):
        sums.append((sums[-1] | sums[-1] << size) & mask)
    return sums[::-1]
