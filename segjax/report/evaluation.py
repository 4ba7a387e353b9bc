"""One HTML page that shows how good a folder of masks is: scores, lesions, pictures."""

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from segjax.data.io.formats import check_same_grid, image_suffixes, read_image, stem
from segjax.errors import InputError
from segjax.evaluate.compare import Comparison, Evaluation, Failure, without_lesions
from segjax.evaluate.pairs import Pair, read_pair
from segjax.evaluate.roles import NOT_KNOWN, role_in_words, roles_in_words
from segjax.evaluate.scores import DICE, by_label, mean_dice, scores_of_rows
from segjax.evaluate.tables import write_lesions, write_metrics
from segjax.files import atomic_path, check_new
from segjax.progress import track
from segjax.provenance import Provenance, common_folder, here_and_now
from segjax.report import page
from segjax.report.lesion_plots import lesion_overlay
from segjax.report.lesion_table import lesion_table, rule_in_words
from segjax.report.plots import overlay
from segjax.runs.folder import RunFolder
from segjax.text import plural

__all__ = ["check_free", "find_images_of", "write_evaluation"]

_MOST = 24  # cases that are drawn


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
    lesions were counted ``lesions.csv`` (:func:`write_lesions`). With images it gets a picture of
    each of the 24 cases with the lowest Dice in ``figures/``: of found, missed and invented
    lesions where they were counted, else of truth and prediction side by side. All of it gets its
    place at the end, so that a full disk leaves what was there before.

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
        sections = [_overview(evaluation), _trained_on(cases, roles), *_lesions(cases)]
        sections.append(_every_case(cases, roles))
        if images:
            sections.append(_pictures(cases, images, page.make_folder(new.figures), roles))
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
    labels = by_label(scores)
    dice = {n: [one.value for one in own if one.metric == DICE] for n, own in labels.items()}
    summary = f"<h2>Dice</h2>{page.dice_summary(dice)}{page.absent_note(labels)}"
    return f"{page.tiles(tiles)}{_failures(failed)}{summary}"


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


def _failures(failed: Sequence[Failure]) -> str:
    if not failed:
        return ""
    return f"<h2>Cases that failed</h2>{page.table(('case', 'reason'), failed)}"


def _lesions(cases: Sequence[Comparison]) -> list[str]:
    rule = cases[0].rule
    if rule is None:
        return []
    parts = []
    for name in cases[0].labels.values():
        rows = [row for case in cases for row in case.rows if row["label"] == name]
        parts.append(f"<h2>Lesions: {escape(name)}</h2>{page.table(*lesion_table(rows))}")
    words = rule_in_words(rule, len(cases[0].affine) - 1)
    return [*parts, page.note(f"{escape(words)} {_DEFINITIONS}")]


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
    """Draw the worst cases."""
    shown = _worst_first(cases)[:_MOST]
    parts = []
    for case in track(shown, "Drawing"):
        name = case.pair.case
        role = "" if roles is None else f" ({role_in_words(roles.get(name, NOT_KNOWN))})"
        drawn = _draw(case, images[name], folder, title=name + role)
        parts += [f"<section>{page.picture(path, path.stem + role)}</section>" for path in drawn]
    which = (
        f"The {len(shown)} of {plural(len(cases), 'case')} with the lowest Dice, the worst first."
    )
    note = "" if len(shown) == len(cases) else page.note(which)
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
