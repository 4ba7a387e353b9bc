"""Two models as a table."""

from segjax.evaluate.statistics import compare_models
from segjax.report.model_table import model_table


def test_differences_and_adjusted_p_values_are_told():
    one = dict(zip("abcdefgh", (0.7, 0.6, 0.8, 0.6, 0.7, 0.9, 0.8, 0.7), strict=True))
    other = {case: dice - 0.1 - 0.01 * n for n, (case, dice) in enumerate(one.items())}
    better = compare_models(one, other)
    headings, rows = model_table(
        {
            ("lesion", "dice"): better,
            ("lesion", "jaccard"): better,
            ("cyst", "dice"): compare_models({"a": 1.0}, {"a": 0.5}),
        }
    )
    told = [dict(zip(headings, row, strict=True)) for row in rows]
    assert told[0]["difference"] == "0.135"
    assert told[0]["higher / same / lower"] == "8 / 0 / 0"
    assert told[0]["p"] == "0.016"  # Wilcoxon: 2 / 2⁸, twice by Holm
    assert told[0]["rank-biserial"] == "1.000"
    assert told[2]["p"] == "–"


def test_a_small_p_value_is_not_nothing():
    one = {str(n): 0.5 + 0.01 * n for n in range(20)}
    found = compare_models(one, {case: dice - 0.1 for case, dice in one.items()})
    headings, (row,) = model_table({("lesion", "dice"): found})
    assert dict(zip(headings, row, strict=True))["p"] == "< 0.001"  # 2 / 2²⁰
