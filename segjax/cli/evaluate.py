"""``segjax evaluate``: predictions against labels."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from segjax.cli.options import LABELS, LABELS_OF_DATA
from segjax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segjax.data.labels import LabelCoding
    from segjax.evaluate.compare import Evaluation, Failure
    from segjax.evaluate.lesions import LesionRule
    from segjax.evaluate.pairs import Pair
    from segjax.evaluate.reliability import Calibrated
    from segjax.evaluate.statistics import ModelComparison

_NONE = "(default: none)"
_AS_RULE = "(default: as in the rule)"


@dataclass(frozen=True)
class Evaluate:
    """Compare predicted masks with labels.

    Gives Dice, sensitivity, positive predictive value and volumes for each label.
    Files belong together by name. Where a label is absent from both masks its Dice is 1;
    where only from one of them, 0. A case that cannot be measured, such as a prediction
    without a label, stops no other: it is named at the end, and counts in no mean.

    A dataset.json in LABELS or beside it says what other stored values than 0, 1, 2, ...
    stand for: {"labels": {"background": 0, "lesion": 255, "ignore": 128}}; --labels says
    it here, whatever that file says. Predictions hold 0, 1, 2, ... in the same order. Ignored
    voxels count for nothing: they are background in both masks, and of a lesion that
    reaches into them only the rest counts.

    --lesions counts lesions too, which are connected voxels: how many of the true ones
    were found, how many predicted ones are false positives, and lesion-wise sensitivity,
    precision and F1, also by their size. --also adds groups of measures: overlap (Jaccard,
    specificity, volume error), surfaces (Hausdorff, its 95th percentile, average distance,
    surface Dice), panoptic (quality), brats-2023-glioma and its other tasks (lesion-wise
    Dice and HD95), or all. Means have 95 % bootstrap intervals.

    --against compares with the masks of a second model on the same cases. --report writes
    all of it as a page, with the size and place of every lesion as CSV, agreement of
    volumes, and with --images pictures of the lesions that were found, missed and invented.

    Examples:
        segjax evaluate masks brains/labels
        segjax evaluate masks brains/labels -o metrics.csv --names lesion
        segjax evaluate mask.nii.gz truth.nii.gz
        segjax evaluate masks brains/labels --lesions --images brains/images --report out
        segjax evaluate masks brains/labels --report out --run run
        segjax evaluate masks brains/labels --also surfaces --tolerance 2
        segjax evaluate masks brains/labels --against other-masks --groups patients.csv
        segjax evaluate masks patients --label lesions.nii.gz --lesions
        segjax evaluate masks brains/labels --ignore 255
        segjax evaluate masks brats/labelsTr --labels 1,4=core 2=edema
    """

    predictions: Annotated[Positional[Path], arg(metavar="PREDICTIONS")]
    """Folder of predicted masks, or one file."""
    labels: Annotated[Positional[Path], arg(metavar="LABELS")]
    """Folder of labels with equal names, or one file."""
    out: Annotated[
        Path | None, arg(aliases=["-o"], metavar="FILE.csv", help_behavior_hint=_NONE)
    ] = None
    """Write one row for each case, label and metric."""
    challenge: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_NONE)] = None
    """Give -o's table the columns of msseg-2016, isbi-2015 or brats-2023-TASK, one row a case."""
    names: Annotated[
        tuple[str, ...],
        arg(metavar="NAME...", help_behavior_hint="(default: of dataset.json, or 1, 2, ...)"),
    ] = ()
    """Names of the classes 1, 2, ..."""
    coding: Annotated[
        tuple[str, ...], arg(name="labels", metavar=LABELS, help_behavior_hint=LABELS_OF_DATA)
    ] = ()
    """What the values in LABELS stand for: 255=lesion, 1,4=core, 2=background, 3=ignore."""
    ignore: Annotated[
        int | None, arg(metavar="VALUE", help_behavior_hint="(default: of dataset.json, or none)")
    ] = None
    """Stored value of voxels in LABELS that count for nothing."""
    label: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_NONE)] = None
    """Label file in every subject's folder, where LABELS holds such folders."""
    also: Annotated[tuple[str, ...], arg(metavar="GROUP...", help_behavior_hint=_NONE)] = ()
    """Further measures: overlap, surfaces, panoptic, brats-2023-TASK, all, or as registered."""
    tolerance: Annotated[float, arg(metavar="MM")] = 1.0
    """Distance between surfaces that surface Dice forgives, in mm (PNG: pixels)."""
    against: Annotated[Path | None, arg(metavar="MASKS", help_behavior_hint=_NONE)] = None
    """Masks of a second model, to be compared with on the same cases."""
    groups: Annotated[Path | None, arg(metavar="FILE.csv", help_behavior_hint=_NONE)] = None
    """Table of cases (column case) and patients (column patient), over whom intervals are taken."""
    calibration: Annotated[bool, arg(help_behavior_hint="")] = False
    """Hold NAME_probabilities beside each mask against the labels."""
    lesions: Annotated[bool, arg(help_behavior_hint="")] = False
    """Count lesions; so does each of the four options below."""
    lesion_rule: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: any)")] = (
        None
    )
    """When it is found: any (a voxel in common), isbi-2015, msseg-2016 or as registered."""
    lesion_min: Annotated[float | None, arg(metavar="MM3", help_behavior_hint="(default: 0)")] = (
        None
    )
    """Leave out smaller lesions, in mm³ (2D: mm², PNG: pixels); a sphere of 3 mm has 14.1."""
    lesion_overlap: Annotated[float | None, arg(metavar="0..1", help_behavior_hint=_AS_RULE)] = None
    """Share of a lesion, of which more must be covered."""
    connectivity: Annotated[int | None, arg(metavar="N", help_behavior_hint=_AS_RULE)] = None
    """Neighbours of a voxel that belong to its lesion: 26, 18 or 6; in 2D 8 or 4."""
    images: Annotated[Path | None, arg(metavar="IMAGES", help_behavior_hint=_NONE)] = None
    """Images under the pictures: a folder, or the name of the image beside every label."""
    report: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint=_NONE)] = None
    """Write report.html, metrics.csv, lesions.csv and pictures into a folder."""
    run: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint=_NONE)] = None
    """Run or sweep of the network, whose split says in the report what each case was for."""
    overwrite: Annotated[bool, arg(help_behavior_hint="")] = False
    """Replace files that exist."""

    def __call__(self) -> None:
        """Print the measures of every case and label."""
        from segjax.cli.console import print_facts, print_scores
        from segjax.evaluate.compare import without_lesions
        from segjax.evaluate.pairs import match_masks
        from segjax.report.evaluation import find_images_of, write_evaluation

        start = time.perf_counter()
        pairs = match_masks(self.predictions, self.labels, label=self.label)
        self._check_targets()
        roles, groups = self._roles(), self._groups([pair.case for pair in pairs])
        others = self._pairs_of_other(pairs)
        images = find_images_of(pairs, self.images) if self.images else None
        found = self._compared(pairs)
        print_scores([without_lesions(row) for row in found.rows], groups=groups)
        if found.cases[0].rule:
            _print_lesions(found)
        compared, other_failed = self._against(found, others, groups)
        calibrated = self._calibrated(found)
        found = replace(found, groups=groups, compared=compared, calibrated=calibrated.labels)
        written = {}
        if self.out:
            written["metrics"] = self._write_table(found, self.out)
        if self.report:
            written["report"] = write_evaluation(
                found,
                self.report,
                images=images,
                roles=roles,
                seconds=time.perf_counter() - start,
                overwrite=self.overwrite,
            )
        print_facts(written)
        _end(
            {
                "failed, in no mean": found.failed,
                "failed of the second model": other_failed,
                "not calibrated": calibrated.failed,
            },
            len(pairs),
        )

    def _compared(self, pairs: "Sequence[Pair]") -> "Evaluation":
        from segjax.evaluate.compare import compare_cases
        from segjax.evaluate.further import further

        return compare_cases(
            pairs,
            names=self.names,
            rule=self._rule(),
            coding=self._coding(),
            also=further(self.also, tolerance=self.tolerance),
        )

    def _write_table(self, found: "Evaluation", path: Path) -> Path:
        from segjax.evaluate.challenges import challenge_table
        from segjax.evaluate.tables import write_metrics
        from segjax.files import write_csv

        if self.challenge is None:
            return write_metrics(found.rows, path, overwrite=self.overwrite)
        name, task = self._challenge()
        table = challenge_table(name, found, rule=task or "glioma")
        lines = ([row.get(column, "") for column in table.columns] for row in table.rows)
        write_csv([table.columns, *lines], path, overwrite=self.overwrite)
        return path

    def _challenge(self) -> tuple[str, str]:
        """Return the challenge that is asked for and, of BraTS, its task."""
        from segjax.evaluate.challenges import CHALLENGES
        from segjax.evaluate.lesionwise import BRATS_2023
        from segjax.text import unknown

        asked = self.challenge or ""
        tasks = {f"brats-2023-{task}": ("brats-2023", task) for task in BRATS_2023}
        known = {name: (name, "") for name in CHALLENGES} | tasks
        if asked not in known:
            raise InputError(unknown("challenge", asked, list(known)))
        return known[asked]

    def _groups(self, cases: "Sequence[str]") -> "dict[str, str] | None":
        from segjax.data.grouping import Grouping

        return Grouping(table=self.groups).groups(cases)

    def _pairs_of_other(self, pairs: "Sequence[Pair]") -> "list[Pair]":
        """Find the masks of the second model, which are of the same cases."""
        from segjax.evaluate.pairs import match_masks

        if self.against is None:
            return []
        others = match_masks(self.against, self.labels, label=self.label)
        if self.against.is_file():
            others = [pair._replace(case=pairs[0].case) for pair in others]
        if lone := sorted({pair.case for pair in pairs} ^ {pair.case for pair in others}):
            raise InputError(
                f"{lone[0]}: a case of one of the two models only; compare them on the same"
            )
        return others

    def _against(
        self, found: "Evaluation", others: "Sequence[Pair]", groups: "Mapping[str, str] | None"
    ) -> "tuple[dict[tuple[str, str], ModelComparison], Sequence[Failure]]":
        """Compare with a second model on what could be measured of both, and print it."""
        from segjax.cli.console import print_table, say
        from segjax.evaluate.summary import compare_rows
        from segjax.report.model_table import model_table

        if not others:
            return {}, ()
        other = self._compared(others)
        both = {row["case"] for row in found.rows} & {row["case"] for row in other.rows}
        rows = ([row for row in one.rows if row["case"] in both] for one in (found, other))
        compared = compare_rows(*rows, groups=groups)
        say(f"{self.predictions} (first) against {self.against} (second)")
        print_table(*model_table(compared))
        return compared, other.failed

    def _calibrated(self, found: "Evaluation") -> "Calibrated":
        """Hold probabilities against labels, and print how far they are to be believed."""
        from segjax.cli.console import print_table
        from segjax.evaluate.reliability import Calibrated, calibrations

        if not self.calibration:
            return Calibrated({})
        calibrated = calibrations(found.cases)
        rows = [
            [
                label,
                f"{one.expected_error:.4f}",
                f"{one.maximum_error:.4f}",
                f"{one.brier_score:.4f}",
                str(one.total),
            ]
            for label, one in calibrated.labels.items()
        ]
        headings = ["calibration", "expected error", "maximum error", "Brier score", "voxels"]
        if rows:
            print_table(headings, rows)
        return calibrated

    def _coding(self) -> "LabelCoding":
        from segjax.data.labels import asked_coding
        from segjax.evaluate.pairs import coding_of

        if not self.coding:
            return coding_of(self.labels, ignored=self.ignore)
        if self.ignore is not None:
            raise InputError(f"--ignore: write {self.ignore}=ignore among the --labels")
        asked = asked_coding(self.coding, names=self.names)
        assert asked is not None
        return asked

    def _check_targets(self) -> None:
        """Refuse what could not be written at the end, before the work."""
        from segjax.files import check_target
        from segjax.report.evaluation import check_free

        if self.challenge is not None:
            self._challenge()
            if not self.out:
                raise InputError("--challenge gives -o's table its columns; name its file")
        if self.out:
            if self.out.suffix.lower() != ".csv":
                raise InputError(f"{self.out}: the table is written as .csv; name such a file")
            check_target(self.out, overwrite=self.overwrite)
        if self.images and not self.report:
            raise InputError(f"{self.images}: --images are drawn in a --report; name its folder")
        if self.report:
            given = (self.predictions, self.labels, self.against)
            if self.report.resolve() in [one.resolve() for one in given if one]:
                raise InputError(f"{self.report}: holds masks; name another folder")
            check_free(self.report, overwrite=self.overwrite)

    def _roles(self) -> "dict[str, str] | None":
        from segjax.evaluate.roles import read_roles

        if self.run is None:
            return None
        if not self.report:
            raise InputError(f"{self.run}: --run is told of in a --report; name its folder")
        if not (roles := read_roles(self.run)):
            raise InputError(f"{self.run}: holds no split.json; name the folder of a run")
        return roles

    def _rule(self) -> "LesionRule | None":
        changes = {
            "connectivity": self.connectivity,
            "min_volume": self.lesion_min,
            "overlap": self.lesion_overlap,
        }
        asked = {name: value for name, value in changes.items() if value is not None}
        if not (self.lesions or self.lesion_rule or asked):
            return None
        from segjax.registry import registry

        rule: "LesionRule" = registry("lesion-rule").get(self.lesion_rule or "any")
        return replace(rule, **asked)  # type: ignore[arg-type]


def _end(failed: "Mapping[str, Sequence[Failure]]", cases: int) -> None:
    """Print which cases could not be measured, and why; the exit code tells of the first one."""
    from segjax.cli.console import print_words
    from segjax.evaluate.compare import raise_failures

    every: "dict[str, Failure]" = {}
    for heading, own in failed.items():
        if own:
            print_words([heading, "reason"], own)
        for one in own:
            every.setdefault(one.case, one)
    raise_failures(list(every.values()), cases - len(every))


def _print_lesions(found: "Evaluation") -> None:
    """Print a table of lesions for each label, and how they were counted."""
    from segjax.cli.console import print_table, say
    from segjax.evaluate.sizes import detection_by_size
    from segjax.report.lesion_table import lesion_table, rule_in_words, size_table

    cases, rows = found.cases, found.rows
    rank = cases[0].affine.shape[0] - 1
    for label in cases[0].labels.values():
        sizes = detection_by_size(case.lesions[label] for case in cases)
        tables = (
            lesion_table([row for row in rows if row["label"] == label]),
            size_table(sizes, rank),
        )
        say(f"\nLesions of label {label}")
        for headings, cells in tables:
            print_table(headings, [[_text(cell) for cell in line] for line in cells])
    if rule := cases[0].rule:
        say(f"{rule_in_words(rule, rank)}\n")


def _text(cell: str | float) -> str:
    if isinstance(cell, float):
        return "–" if math.isnan(cell) else f"{cell:.3f}"
    return str(cell)
