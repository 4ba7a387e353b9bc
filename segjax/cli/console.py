"""Tables and lines on the terminal."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from segjax.text import plural

if TYPE_CHECKING:
    from pathlib import Path

    from segjax.evaluate.scores import Score, Scores
    from segjax.evaluate.summary import Summary
    from segjax.runs.folds import FoldScore
    from segjax.segment import Segmentation

_NONE = "–"  # where there is nothing to measure
_WIDE = 200  # columns where the output goes into a file or a pipe: nothing to wrap for


def console() -> Console:
    """Return a console on standard output, which keeps lines whole where nobody watches."""
    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=_WIDE)


def say(line: str) -> None:
    """Print a line at once."""
    console().print(line, markup=False)


def print_facts(facts: Mapping[str, object], *, title: str | None = None) -> None:
    """Print names and values as two columns."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(escape(name), escape(str(value)))
    if title:
        console().print(Text(title, "bold"), soft_wrap=True)
    console().print(table)


def print_notices(files: Iterable["Path"]) -> None:
    """Print a line for each network that came with segjax: its licence, and what it is not for."""
    from segjax.pretrained.shipped import card_of

    for card in filter(None, map(card_of, files)):
        say(f"{card.name}: {card.license}; not for diagnosis; its card: segjax models {card.name}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose first column is text and whose others are numbers, flushed right."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(escape(name), justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console().print(table)
    console().print()


def print_words(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table of text."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(escape(name), overflow="fold", style="" if index else "bold")
    for row in rows:
        table.add_row(*map(escape, row))
    console().print(table)
    console().print()


def print_segmentations(results: Sequence["Segmentation"], labels: Sequence[str]) -> None:
    """Print the size of every label and the time of every image that was segmented."""
    print_table(
        ["case", *labels, "seconds"],
        [
            [r.case, *_sizes(r, len(labels)), "kept" if r.kept else f"{r.seconds:.1f}"]
            for r in results
        ],
    )


def _sizes(result: "Segmentation", count: int) -> list[str]:
    if result.error:
        return ["failed"] * count
    digits = 3 if result.unit == "ml" else 0
    return [f"{size:.{digits}f} {result.unit}" for size in result.sizes]


def print_scores(
    rows: Sequence[Mapping[str, Any]], *, groups: Mapping[str, Hashable] | None = None
) -> None:
    """Print what :func:`segjax.evaluate.compare.score` measured, and the mean Dice.

    The Dice of each case; then a table for each label of what its measures come to over the cases
    that hold it; and what was found in the others.

    Args:
        rows: What was measured.
        groups: Patient of each case, for the intervals of means.
    """
    from segjax.evaluate.scores import DICE, by_label, mean_dice, score_of_row, scores_of_rows
    from segjax.evaluate.summary import held_labels, summarise

    scores = scores_of_rows(rows)
    by_case = [[case, *map(_dice, own.values())] for case, own in scores.items()]
    print_table(["case", *(f"Dice {label}" for label in by_label(scores))], by_case)
    for label, own in held_labels(summarise(rows, groups=groups)):
        print_table([label, *_SUMMARY], [_cells(one) for one in own])
    held = {row["case"] for row in rows if score_of_row(row).metric == DICE}
    mean, cases = mean_dice(scores), plural(len(held), "case")
    shown = "unknown: no case holds a label" if mean is None else f"{mean:.4f} of {cases}"
    print_facts({"mean Dice": shown, **_absent(scores)})


def print_folds(scores: Sequence["FoldScore"]) -> None:
    """Print the mean Dice of every label in every fold, its mean and its standard deviation.

    Means are over the cases that hold the label; what was found in the others is told after it.
    """
    from segjax.evaluate.scores import Score
    from segjax.runs.folds import mean_and_deviation, mean_by_label

    table = mean_by_label(scores)
    folds = sorted({score.fold for score in scores})
    rows = [
        [
            label,
            *(f"{values[fold]:.4f}" if fold in values else _NONE for fold in folds),
            "{:.4f} ± {:.4f}".format(*mean_and_deviation(values)) if values else _NONE,
        ]
        for label, values in table.items()
    ]
    print_table(["Dice", *(f"fold {fold}" for fold in folds), "mean ± std"], rows)
    by_case: dict[str, dict[str, Score]] = {}
    for one in scores:
        by_case.setdefault(one.case, {})[one.label] = Score(one.metric, one.value)
    if absent := _absent(by_case):
        print_facts(absent)


def _absent(scores: "Scores") -> dict[str, str]:
    """Return, for each label that some cases lack, how many, and what was found in them."""
    from segjax.evaluate.scores import absent_in_words, by_label

    told = {label: absent_in_words(own) for label, own in by_label(scores).items()}
    return {f"without {label}": words for label, words in told.items() if words}


def _dice(score: "Score") -> str:
    from segjax.evaluate.scores import DICE

    return f"{score.value:.4f}" if score.metric == DICE else _NONE


_SUMMARY = ("mean", "95 % interval", "median", "lowest", "highest", "n")


def _cells(summary: "Summary") -> list[str]:
    from segjax.evaluate.summary import interval_in_words

    digits = 3 if summary.measure.endswith(("_ml", "_voxels", "_mm")) else 4
    numbers = (summary.mean.value, summary.median, summary.lowest, summary.highest)
    mean, *spread = (_NONE if math.isnan(n) else f"{n:.{digits}f}" for n in numbers)
    interval = interval_in_words(summary.mean, digits)
    return [_heading(summary.measure), mean, interval, *spread, str(summary.cases)]


def _heading(metric: str) -> str:
    """Return ``Dice`` for ``dice``, ``truth ml`` for ``truth_ml``."""
    return {"dice": "Dice", "positive_predictive_value": "pred. value"}.get(
        metric,
        metric.replace("_", " ").replace("voxels", "pixels").replace("lesionwise", "lesion-wise"),
    )
