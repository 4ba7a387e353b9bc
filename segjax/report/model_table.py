"""Two models on the same cases, as a table."""

import math
from collections.abc import Mapping

from segjax.evaluate.statistics import ModelComparison, holm
from segjax.evaluate.summary import interval_in_words
from segjax.report.page import headings

__all__ = ["ABOUT_MODELS", "model_table"]

ABOUT_MODELS = """Of the same cases: the mean of the first model's value minus the second one's,
with the bias-corrected bootstrap interval of the pairs; in how many cases the first one has the
higher, the same and the lower value; Wilcoxon's signed-rank test, its p-values adjusted for the
number of measures (Holm); matched-pairs rank-biserial correlation (−1 to 1) and Cohen's d of the
differences."""

_HEADINGS = (
    "label", "measure", "n", "first", "second", "difference", "95 % interval",
    "higher / same / lower", "p", "rank-biserial", "Cohen's d",
)  # fmt: skip


def model_table(
    compared: Mapping[tuple[str, str], ModelComparison],
) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of text, one for each label and measure.

    Args:
        compared: From :func:`segjax.evaluate.summary.compare_rows`.

    Example:
        >>> from segjax.evaluate.statistics import compare_models
        >>> same = compare_models({"a": 0.5, "b": 0.7}, {"a": 0.5, "b": 0.7})
        >>> model_table({("lesion", "dice"): same})[1][0][:6]
        ['lesion', 'Dice', '2', '0.600', '0.600', '0.000']
    """
    tested = {
        f"{label} {name}": one.p_value
        for (label, name), one in compared.items()
        if not math.isnan(one.p_value)
    }
    p_values = holm(tested)
    rows = [
        [
            label,
            *headings([name]),
            str(one.cases),
            _number(one.one.value),
            _number(one.other.value),
            _number(one.difference.value),
            interval_in_words(one.difference),
            f"{one.wins} / {one.ties} / {one.cases - one.wins - one.ties}",
            _p_value(p_values.get(f"{label} {name}", math.nan)),
            _number(one.rank_biserial),
            _number(one.cohens_dz),
        ]
        for (label, name), one in compared.items()
    ]
    return list(_HEADINGS), rows


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else _number(value)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
