"""One HTML page that shows a whole sweep: its combinations, figures and best member."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax.evaluate.roles import read_roles
from segjax.provenance import read_parts
from segjax.report import page
from segjax.report.style import PathLike
from segjax.report.sweep_plots import best_member, draw_sweep, read_images, read_sweep
from segjax.runs.folder import RunFolder
from segjax.text import duration, exact, plural

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["write_sweep_report"]


def write_sweep_report(folder: PathLike) -> Path:
    """Write ``report.html`` into the folder of a sweep, and its pictures into ``figures/``.

    Reads ``results.csv``, ``images.csv``, ``examples/``, the settings of the best member, and where
    they are there ``split.json`` and ``provenance.json``; an earlier report is replaced.

    Args:
        folder: Of the sweep, finished or not.

    Returns:
        Path of the page.

    Raises:
        InputError: The folder holds no sweep, no member of it is finished, or all have failed.

    Example:
        >>> write_sweep_report("sweep")
        PosixPath('sweep/report.html')
    """
    folder = Path(folder)
    figures = draw_sweep(folder)
    results, _ = read_sweep(folder)
    best = best_member(results)
    sections = [
        _overview(results, best),
        f"<h2>Combinations</h2>{_combinations(results)}",
        _failures(results),
        _figures({n: p for n, p in figures.items() if not p.name.startswith("overlay-")}),
        "" if best is None else _best_member(folder, best, figures),
        page.cases(read_roles(folder)),
        page.origin(read_parts(folder)),
    ]
    title = f"{folder.resolve().name}: sweep of {plural(len(results), 'training')}"
    return page.write_page(RunFolder(folder).report, title, sections)


def _overview(results: "pd.DataFrame", best: tuple[Any, ...] | None) -> str:
    facts: dict[str, object] = {}
    if best is not None:
        row = results[results.run == best[0]].iloc[0]
        facts["best by validation"] = best[0]
        facts |= {f"its {_DICE[name]}": f"{row[name]:.3f}" for name in _DICE if name in row}
        if "epoch" in row:
            facts["its best epoch"] = int(row.epoch)
    facts["finished trainings"] = len(results)
    if failed := len(_failed(results)):
        facts["of them failed"] = failed
    if "seconds" in results:
        facts["time of training"] = duration(float(results.seconds.sum()))
    return page.tiles(facts)


def _combinations(results: "pd.DataFrame") -> str:
    """Return what every combination of kernel size and alpha came to over its seeds."""
    names = [heading for name, heading in _DICE.items() if name in results]
    rows: list[page.Cells] = []
    for _, group in results.groupby(["kernel", "alpha"]):
        dice = [_mean_and_spread(group[name]) for name in _DICE if name in group]
        kernel, alpha = group.kernel.iloc[0], group.alpha.iloc[0]
        rows.append([str(kernel), exact(alpha), len(group), *dice])
    return page.table(("kernel", "alpha", "seeds", *names), rows) + page.note(_SPREAD)


_DICE = {"validation_dice": "mean validation Dice", "test_dice": "mean test Dice"}
_SPREAD = """Mean ± standard deviation over the seeds (n − 1), each seed with the mean over its
cases that hold the label. The best member is chosen by validation alone; its test Dice is one
value of many, so that its combination's mean says more of what to expect."""


def _mean_and_spread(values: "pd.Series") -> str:
    known = values.dropna()
    if known.empty:
        return "–"
    spread = f" ± {known.std():.3f}" if len(known) > 1 else ""
    missing = f" ({len(known)} of {len(values)})" if len(known) < len(values) else ""
    return f"{known.mean():.3f}{spread}{missing}"


def _failures(results: "pd.DataFrame") -> str:
    failed = _failed(results)
    if not len(failed):
        return ""
    rows = list(zip(failed.run, failed.error, strict=True))
    return f"<h2>Failed</h2>{page.table(('training', 'why'), rows)}{page.note(_FAILED)}"


_FAILED = """A training that failed counts by the best network that it had until then, and not at
all where it had none."""


def _failed(results: "pd.DataFrame") -> "pd.DataFrame":
    return results[results.error != ""] if "error" in results else results[:0]


def _figures(figures: Mapping[str, Path]) -> str:
    pictures = (page.picture(path, name.replace("-", " ")) for name, path in figures.items())
    return f"<h2>Figures</h2>{''.join(pictures)}"


_SHOWN = "Test cases: the worst, the best and some between."


def _best_member(folder: Path, best: tuple[Any, ...], figures: Mapping[str, Path]) -> str:
    """Return test Dice, pictures and settings of the best member."""
    run, *place = best
    images = read_images(folder)
    own = images[(images[["kernel", "alpha", "seed"]] == place).all(axis=1)]
    parts = [f"<h2>Test Dice of {escape(run)}, the best by validation</h2>"]
    if not own.empty:
        dice = {str(name): part.tolist() for name, part in own.groupby("label", sort=False).dice}
        parts.append(page.dice_summary(dice))
    overlays = [path for path in figures.values() if path.name.startswith(f"overlay-{run}-")]
    parts += [page.picture(path, f"{path.stem}: image, truth and prediction") for path in overlays]
    if overlays:
        parts.append(page.note(f"{_SHOWN} {page.CONVENTIONS}"))
    config = RunFolder(folder).member(run).config
    return "".join(parts) + (page.settings(page.read_config(config)) if config.is_file() else "")
