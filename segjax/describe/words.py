"""Words that descriptions share."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from segjax.errors import InputError

__all__ = ["Facts", "span", "steps_in_words", "times"]

Facts = dict[str, str]
"""Names and values in the order to show them, as text with units."""


def steps_in_words(pipeline: Iterable[dict]) -> str:
    """Name the steps of a pipeline with their options.

    Example:
        >>> steps_in_words([{"step": "resample", "spacing": [1, 1, 1]}, {"step": "min-max"}])
        'resample (1 × 1 × 1), then min-max'
    """
    return ", then ".join(_step(step) for step in pipeline) or "none"


def _step(step: dict) -> str:
    told = {name: step[name] for name in _in_order(step) if name != "step"}
    tolerance = told.pop("tolerance", 0)
    near = [f"±{tolerance:.0%}"] if tolerance else []
    options = ", ".join([*map(_option, told.values()), *near])
    return f"{step['step']} ({options})" if options else step["step"]


def _in_order(step: dict) -> list[str]:
    """Name the options that are given in the order of the step's fields: files sort them."""
    from segjax.data.prepare.steps import Step

    with suppress(InputError):
        return [name for name in Step.from_json(step).to_json() if name in step]
    return list(step)


def _option(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return str(value)
    if value and isinstance(value[0], list | tuple):
        return f"{len(value)} × {len(value[0])} numbers"
    return times(value)


def times(numbers: Sequence[float]) -> str:
    """Return the numbers with a cross between them.

    Example:
        >>> times((0.5, 0.5, 3.0))
        '0.5 × 0.5 × 3'
    """
    return " × ".join(f"{number:.4g}" for number in numbers)


def span(rows: Sequence[Sequence[float]]) -> str:
    """Return the lowest and the highest number of each column, once where all are equal.

    Example:
        >>> span([(4, 5), (6, 5)])
        '4 × 5 to 6 × 5'
    """
    low, high = (
        times([min(axis) for axis in zip(*rows, strict=True)]),
        times([max(a) for a in zip(*rows, strict=True)]),
    )
    return low if low == high else f"{low} to {high}"
