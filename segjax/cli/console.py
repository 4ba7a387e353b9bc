"""Tables and lines on the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from segjax.words import plural

if TYPE_CHECKING:
    from segjax.train.folds import FoldScore
    from segjax.workflow import Segmentation

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


def print_scores(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what :func:`segjax.evaluate.folders.compare_masks` measured, and the mean Dice.

    Two tables: the mean over the cases for each label, and the Dice of each case.
    """
    labels = list(dict.fromkeys(row["label"] for row in rows))
    metrics = [name for name in rows[0] if name not in ("case", "label")]
    by_case: dict[str, list[str]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(f"{row['dice']:.4f}")
    print_table(["case", *(f"Dice {label}" for label in labels)], _rows(by_case))
    means = {
        label: [
            _mean(metric, [r[metric] for r in rows if r["label"] == label]) for metric in metrics
        ]
        for label in labels
    }
    print_table(["mean of label", *(_heading(metric) for metric in metrics)], _rows(means))
    mean = fmean(row["dice"] for row in rows)
    print_facts({"mean Dice": f"{mean:.4f} of {plural(len(by_case), 'case')}"})


def print_folds(scores: Sequence["FoldScore"]) -> None:
    """Print the mean Dice of every label in every fold, its mean and its standard deviation."""
    from segjax.train.folds import mean_and_deviation, mean_by_label

    table = mean_by_label(scores)
    folds = next(iter(table.values()))
    rows = [
        [
            label,
            *(f"{value:.4f}" for value in values.values()),
            "{:.4f} ± {:.4f}".format(*mean_and_deviation(values)),
        ]
        for label, values in table.items()
    ]
    print_table(["Dice", *(f"fold {fold}" for fold in folds), "mean ± std"], rows)


def _rows(cells: Mapping[str, Sequence[str]]) -> list[list[str]]:
    return [[name, *values] for name, values in cells.items()]


def _mean(metric: str, values: Sequence[float]) -> str:
    return f"{fmean(values):{'.3f' if metric.endswith(('_ml', '_voxels')) else '.4f'}}"


def _heading(metric: str) -> str:
    """Return ``Dice`` for ``dice``, ``truth ml`` for ``truth_ml``."""
    return {"dice": "Dice", "positive_predictive_value": "pred. value"}.get(
        metric, metric.replace("_", " ")
    )
