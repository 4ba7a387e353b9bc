"""One HTML page that shows how good a folder of masks is: scores, lesions, pictures."""

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from segjax.data.io.formats import check_same_grid, image_suffixes, read_image, stem
from segjax.errors import InputError
from segjax.evaluate.agreement import Agreement, agreement_of
from segjax.evaluate.alarms import false_alarms
from segjax.evaluate.calibration import Calibration
from segjax.evaluate.compare import Comparison, Evaluation, Failure, without_lesions
from segjax.evaluate.pairs import Pair, read_pair
from segjax.evaluate.roles import NOT_KNOWN, role_in_words, roles_in_words
from segjax.evaluate.scores import by_label, mean_dice, scores_of_rows
from segjax.evaluate.sizes import detection_by_size, dice_by_load
from segjax.evaluate.statistics import Interval, ModelComparison
from segjax.evaluate.summary import held_labels, interval_in_words, summarise
from segjax.evaluate.tables import write_lesions, write_metrics
from segjax.files import atomic_path, check_new
from segjax.progress import track
from segjax.provenance import Provenance, common_folder, here_and_now
from segjax.report import page
from segjax.report.lesion_plots import lesion_overlay
from segjax.report.lesion_table import lesion_table, rule_in_words, size_table
from segjax.report.load_plots import FEWEST, dice_against_load, load_agreement
from segjax.report.model_table import ABOUT_MODELS, model_table
from segjax.report.plots import overlay
from segjax.report.reliability_plot import reliability_curve
from segjax.runs.folder import RunFolder
from segjax.text import plural

__all__ = ["check_free", "find_images_of", "write_evaluation"]

_MOST = 24  # cases that are drawn
_LISTED = 30  # cases whose lesions are not folded away


def find_images_of(pairs: Sequence[Pair], images: str | Path) -> dict[str, Path]:
    """Find the image of every case, to be drawn under its masks.

    Args:
        pairs: Files of the cases.
        images: Folder of images, each named as its case or with the suffix ``_0000`` of a first
            channel; or the name of the image beside every label, as in folders of subjects; or,
            of a single case, its image.

    Returns:
        Case -> image.

    Raises:
        InputError: A case has no image, or two.

    Example:
        >>> from segjax.evaluate.pairs import match_masks
        >>> find_images_of(match_masks("masks", "brains/labels"), "brains/images")["ms_000"]
        PosixPath('brains/images/ms_000.nii.gz')
    """
    path = Path(images)
    if path.is_file() and len(pairs) == 1:
        return {pairs[0].case: path}
    named: dict[str, list[Path]] = {}
    for file in sorted(path.iterdir()) if path.is_dir() else []:
        if file.name.lower().endswith(image_suffixes()) and not file.name.startswith("."):
            named.setdefault(stem(file), []).append(file)
    return {pair.case: _image_of(pair, path, named) for pair in pairs}


def write_evaluation(
    evaluation: Evaluation,
    folder: str | os.PathLike[str],
    *,
    images: Mapping[str, Path] | None = None,
    roles: Mapping[str, str] | None = None,
    seconds: float | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a page of scores, with tables beside it and a picture of each case.

    Cases that could not be measured are named with the reason, and count in nothing.

    The folder gets ``report.html``, ``metrics.csv`` as :func:`write_metrics` writes it, and where
    lesions were counted ``lesions.csv`` (:func:`write_lesions`). Of three cases or more
    ``figures/`` gets plots, as PNG and SVG, of the agreement of volumes and of Dice against them.
    With images it gets a picture of the worst, the median and the best case, and of those of the
    lowest Dice, 24 in all: of found, missed and invented lesions where they were counted, else of
    truth and prediction side by side. All of it gets its place at the end, so that a full disk
    leaves what was there before.

    Args:
        evaluation: What :func:`segjax.evaluate.compare.compare_cases` returned.
        folder: Folder to write into; made if absent.
        images: Image of every case; no pictures when None.
        roles: What the cases were for when the network was trained, as
            :func:`segjax.evaluate.roles.read_roles` gives it; not known when None.
        seconds: Time that the measurements took, which the page tells with date, command, folders,
            machine and versions.
        overwrite: Replace files of an earlier evaluation, but never those of a run. A
            ``lesions.csv`` goes where lesions are not counted this time; other pictures stay.

    Returns:
        Path of the page.

    Raises:
        InputError: Files exist, cannot be written, or an image does not lie on its masks' grid.

    Example:
        >>> from segjax.evaluate import compare_cases, match_masks
        >>> evaluation = compare_cases(match_masks("masks", "brains/labels"))
        >>> write_evaluation(evaluation, "evaluation")
        PosixPath('evaluation/report.html')
    """
    cases = evaluation.cases
    check_free(folder, overwrite=overwrite)
    folder = page.make_folder(Path(folder))
    with (
        atomic_path(RunFolder(folder).report, overwrite=overwrite) as path,
        TemporaryDirectory(prefix=".", dir=folder) as temporary,
    ):
        new = RunFolder(Path(temporary))
        figures = page.make_folder(new.figures)
        sections = [_overview(evaluation), _trained_on(cases, roles), *_lesions(cases)]
        sections += [*_loads(evaluation.rows, figures), _models(evaluation.compared)]
        sections += [_calibration(evaluation.calibrated, figures), _every_case(cases, roles)]
        if images:
            sections.append(_pictures(cases, images, figures, roles))
        sections.append(page.origin([_made(cases, seconds)]))
        path.write_text(page.page_text("Evaluation", sections), encoding="utf-8")
        write_metrics(evaluation.rows, new.metrics)
        if cases[0].rule:
            write_lesions(cases, new.lesions)
        _place(new, RunFolder(folder))
    return RunFolder(folder).report


def check_free(folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a folder where :func:`write_evaluation` would replace what it should not.

    Args:
        folder: Folder to write into; need not exist.
        overwrite: Whether files of an earlier evaluation may be replaced.

    Raises:
        InputError: It is the folder of a run, whose files have the same names; or a file exists;
            or it is no folder, or lies in none.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder")
    if not folder.parent.is_dir():
        raise InputError(f"{folder}: there is no folder {folder.parent}; create it first")
    there = RunFolder(folder)
    if there.kind:
        raise InputError(f"{folder}: is the folder of a run, with results of its own; name another")
    for path in () if overwrite else (there.report, there.metrics, there.lesions, there.figures):
        check_new(path)


def _image_of(pair: Pair, images: Path, named: Mapping[str, Sequence[Path]]) -> Path:
    for name in (pair.case, f"{pair.case}_0000"):
        if files := named.get(name):
            if len(files) > 1:
                raise InputError(f"{files[0]} and {files[1].name} have one name; leave one")
            return files[0]
    beside = Path(pair.truth).parent / images
    if not images.is_absolute() and beside.is_file():
        return beside
    if images.is_dir():
        raise InputError(f"{images}: no image named {pair.case} or {pair.case}_0000")
    raise InputError(f"{images}: no folder of images, and no file {beside}")


def _place(new: RunFolder, folder: RunFolder) -> None:
    """Move what was written to its place."""
    if not new.lesions.exists():
        folder.lesions.unlink(missing_ok=True)
    for path in sorted(file for file in new.path.rglob("*") if file.is_file()):
        target = folder.path / path.relative_to(new.path)
        page.make_folder(target.parent)
        path.replace(target)


def _overview(evaluation: Evaluation) -> str:
    cases, failed, rows = evaluation.cases, evaluation.failed, evaluation.rows
    scores = scores_of_rows(rows)
    mean = mean_dice(scores)
    tiles = {"mean Dice": "–" if mean is None else f"{mean:.3f}", "cases": str(len(cases))}
    if failed:
        tiles["failed, in no mean"] = str(len(failed))
    measured = [without_lesions(row) for row in rows]
    tables = (
        _summaries(measured, evaluation.groups) + page.absent_note(by_label(scores)) + _alarms(rows)
    )
    return f"{page.tiles(tiles)}{_failures(failed)}{tables}"


def _summaries(rows: Sequence[Mapping[str, Any]], groups: Mapping[str, Hashable] | None) -> str:
    """Return a table of all measures of each label."""
    parts = []
    for label, own in held_labels(summarise(rows, groups=groups)):
        cells = [
            (
                page.headings([one.measure])[0],
                one.mean.value,
                interval_in_words(one.mean),
                one.median,
                one.lowest,
                one.highest,
                one.cases,
            )
            for one in own
        ]
        parts.append(f"<h2>Measures: {escape(label)}</h2>{page.table(_SUMMARY, cells)}")
    if not parts:
        return ""
    drawn = "patients" if groups else "cases"
    words = f"Intervals: bias-corrected bootstrap over {drawn}; of few of them they are too narrow."
    return "".join(parts) + page.note(words)


def _alarms(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what was found in the cases that lack a label."""
    parts = []
    for label in dict.fromkeys(row["label"] for row in rows):
        alarms = false_alarms(row for row in rows if row["label"] == label)
        if alarms.cases:
            share = f"{alarms.share.value:.3f} ({interval_in_words(alarms.share)})"
            size = f"{alarms.size.value:.3f} {alarms.unit} ({interval_in_words(alarms.size)})"
            parts.append((label, alarms.cases, alarms.alarms, alarms.cases_per_alarm, share, size))
    if not parts:
        return ""
    return f"<h2>False alarms</h2>{page.table(_ALARMS, parts)}"


_ALARMS = (
    "label", "cases without it", "false alarms", "cases per alarm", "share (95 %)",
    "mean false positives (95 %)",
)  # fmt: skip
_SUMMARY = ("measure", "mean", "95 % interval", "median", "lowest", "highest", "n")


def _loads(rows: Sequence[Mapping[str, Any]], figures: Path) -> list[str]:
    """Show how well the volumes of each label agree, and Dice against them."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    parts = []
    for number, label in enumerate(labels, 1):
        own = [row for row in rows if row["label"] == label]
        unit, name = ("ml", "ml") if "truth_ml" in own[0] else ("voxels", "pixels")
        if len(own) >= FEWEST:
            path = figures / f"loads{f'_{number}' if len(labels) > 1 else ''}.png"
            parts.append(_load(label, own, path, unit=unit, name=name))
    return parts


def _load(
    label: str, rows: Sequence[Mapping[str, Any]], path: Path, *, unit: str, name: str
) -> str:
    there, found, dice = (
        {row["case"]: float(row[column]) for row in rows}
        for column in (f"truth_{unit}", f"prediction_{unit}", "dice")
    )
    loads = agreement_of(truth=[*there.values()], prediction=[*found.values()])
    cells = [
        (words, interval.value, interval_in_words(interval))
        for words, interval in _agreed(loads, name)
    ]
    parts = [
        f"<h2>Volumes: {escape(label)}</h2>",
        page.table(("agreement of volumes", "value", "95 % interval"), cells),
    ]
    with_label = {case: load for case, load in there.items() if load > 0}
    drawn: dict[Path, Callable[[Path], None]] = {
        path: partial(load_agreement, there, found, unit=name, title=label)
    }
    if len(with_label) >= FEWEST:
        own = {case: dice[case] for case in with_label}
        beside = path.with_stem(f"{path.stem}_dice")
        drawn[beside] = partial(dice_against_load, with_label, own, unit=name, title=label)
        bins = [
            (
                f"{one.low:.4g} to {one.high:.4g}",
                one.cases,
                one.dice.value,
                interval_in_words(one.dice),
            )
            for one in dice_by_load(rows).bins
        ]
        parts.append(page.table((f"load ({name})", "cases", "mean Dice", "95 % interval"), bins))
    for file, draw in drawn.items():
        draw(file.with_suffix(".svg"))
        draw(file)
        parts.append(page.picture(file, f"{label}: {file.stem.replace('_', ' ')}"))
    return "".join(parts)


def _agreed(loads: Agreement, unit: str) -> Iterable[tuple[str, Interval]]:
    yield "Pearson's correlation", loads.pearson
    yield "Spearman's correlation", loads.spearman
    yield "intraclass correlation, absolute agreement (2,1)", loads.icc_agreement
    yield "intraclass correlation, consistency (3,1)", loads.icc_consistency
    yield "Lin's concordance", loads.concordance
    yield f"bias (prediction − truth, {unit})", loads.bland_altman.bias
    yield f"lower limit of agreement ({unit})", loads.bland_altman.lower
    yield f"upper limit of agreement ({unit})", loads.bland_altman.upper


def _made(cases: Sequence[Comparison], seconds: float | None) -> Provenance:
    """Describe this evaluation; its data are masks and labels."""
    masks, labels = (
        common_folder(getattr(case.pair, name) for case in cases)
        for name in ("prediction", "truth")
    )
    return here_and_now(f"masks {masks}, labels {labels}", seconds=seconds)


def _trained_on(cases: Sequence[Comparison], roles: Mapping[str, str] | None) -> str:
    """Say what the cases were for when the network was trained."""
    names = [case.pair.case for case in cases]
    if roles is None:
        return page.note(_UNKNOWN)
    warning = _SEEN if any(roles.get(name) == "training" for name in names) else ""
    return page.note(f"By the network's split: {roles_in_words(names, roles)}. {warning}")


def _models(compared: Mapping[tuple[str, str], ModelComparison]) -> str:
    if not compared:
        return ""
    return f"<h2>Against a second model</h2>{page.table(*model_table(compared))}" + page.note(
        ABOUT_MODELS
    )


def _calibration(calibrated: Mapping[str, Calibration], figures: Path) -> str:
    if not calibrated:
        return ""
    path = figures / "reliability.png"
    for file in (path.with_suffix(".svg"), path):
        reliability_curve(calibrated, file)
    rows = [
        (label, one.expected_error, one.maximum_error, one.brier_score, one.total)
        for label, one in calibrated.items()
    ]
    parts = page.table(_CALIBRATION, rows), page.picture(path, "Reliability curve")
    return f"<h2>Calibration</h2>{''.join(parts)}{page.note(_ABOUT_CALIBRATION)}"


_CALIBRATION = ("label", "expected error", "maximum error", "Brier score", "voxels")
_ABOUT_CALIBRATION = """Over the voxels that are of the label or get a probability of 1 % or more,
in 15 bins of equal width: expected error is the mean distance of a bin's share of true voxels from
their mean probability, maximum error the largest one."""


def _failures(failed: Sequence[Failure]) -> str:
    if not failed:
        return ""
    return f"<h2>Cases that failed</h2>{page.table(('case', 'reason'), failed)}"


def _lesions(cases: Sequence[Comparison]) -> list[str]:
    rule = cases[0].rule
    if rule is None:
        return []
    parts, rank = [], len(cases[0].affine) - 1
    for name in cases[0].labels.values():
        rows = [row for case in cases for row in case.rows if row["label"] == name]
        sizes = size_table(detection_by_size(case.lesions[name] for case in cases), rank)
        parts.append(f"<h2>Lesions: {escape(name)}</h2>{_lesions_by_case(rows)}")
        parts.append(f"<h3>By their size</h3>{page.table(*sizes)}")
    words = rule_in_words(rule, rank)
    return [*parts, page.note(f"{escape(words)} {_DEFINITIONS}")]


def _lesions_by_case(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of lesions; of many cases their sums and means, and under a fold the rest.

    The last two rows of the table are those of all cases.
    """
    headings, cells = lesion_table(rows)
    if len(rows) <= _LISTED:
        return page.table(headings, cells)
    whole = page.table(headings, cells[:-2])
    fold = f"<details><summary>Lesions of {len(rows)} cases</summary>{whole}</details>"
    return page.table(headings, cells[-2:]) + fold


def _every_case(cases: Sequence[Comparison], roles: Mapping[str, str] | None) -> str:
    worst = _worst_first(cases)
    rows = [page.measures(without_lesions(row)) for case in worst for row in case.rows]
    headings = page.headings(without_lesions(cases[0].rows[0]))
    if roles is not None:
        own = [roles.get(case.pair.case, NOT_KNOWN) for case in worst for _ in case.rows]
        rows = [[row[0], role, *row[1:]] for row, role in zip(rows, own, strict=True)]
        headings.insert(1, "for")
    table = page.table(headings, rows)
    return f"<details><summary>Every case, the worst first</summary>{table}</details>"


def _worst_first(cases: Sequence[Comparison]) -> list[Comparison]:
    return sorted(cases, key=lambda case: fmean(float(row["dice"]) for row in case.rows))


def _pictures(
    cases: Sequence[Comparison],
    images: Mapping[str, Path],
    folder: Path,
    roles: Mapping[str, str] | None,
) -> str:
    """Draw the worst, the median and the best case, and after them the other bad ones."""
    worst = _worst_first(cases)
    shown = list(dict.fromkeys((worst[0], worst[len(worst) // 2], worst[-1], *worst)))[:_MOST]
    parts = []
    for case in track(shown, "Drawing"):
        name = case.pair.case
        role = "" if roles is None else f" ({role_in_words(roles.get(name, NOT_KNOWN))})"
        drawn = _draw(case, images[name], folder, title=name + role)
        parts += [f"<section>{page.picture(path, path.stem + role)}</section>" for path in drawn]
    which = "By Dice: the worst, the median and the best case, then the others from the worst on"
    left_out = len(cases) - len(shown)
    note = page.note(
        f"{which}; {plural(left_out, 'better case')} left out." if left_out else f"{which}."
    )
    return f"<h2>Pictures</h2>{note}{''.join(parts)}{page.note(_CONVENTIONS)}"


def _draw(case: Comparison, path: Path, folder: Path, *, title: str) -> list[Path]:
    """Draw a case: a picture for each label where lesions were counted, else one."""
    image = read_image(path)
    truth, prediction = read_pair(case.pair, coding=case.coding, predicted=case.predicted)
    masks: dict[str, Any] = {"truth": truth, "prediction": prediction}
    check_same_grid(image, truth, (str(path), str(case.pair.truth)))
    name = case.pair.case
    if case.rule is None:
        labels = [case.labels.get(i, str(i)) for i in range(max(case.labels) + 1)]
        overlay(image, **masks, path=folder / f"{name}.png", title=title, labels=labels)
        return [folder / f"{name}.png"]
    drawn = []
    several = len(case.labels) > 1
    for value, label in case.labels.items():
        drawn.append(folder / f"{name}{f'_{value}' if several else ''}.png")
        own = f"{title}, {label}" if several else title
        lesion_overlay(image, **masks, path=drawn[-1], label=value, rule=case.rule, title=own)
    return drawn


_DEFINITIONS = """Sensitivity: found over true lesions. Precision: predicted lesions that are true
over all predicted ones. F1: their harmonic mean. A dash marks a ratio of nothing: sensitivity
where there is no true lesion, precision where none is predicted; F1 is then 0, unless there is
neither. All lesions: counts summed, ratios of the sums. Loads are of the whole masks, small
lesions included."""

_UNKNOWN = """Whether the network was trained on some of these cases is not known: --run names the
run whose split tells."""

_SEEN = """Of a training case Dice says how well it was learned, not what to expect of new ones."""

_CONVENTIONS = """In radiological convention: the patient's right is on the left (2D images are
shown as they are stored)."""
