"""``segjax followup``: two visits or more, and what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from segjax.cli.options import LABELS, LABELS_OF_DATA
from segjax.errors import InputError
from segjax.text import plural

if TYPE_CHECKING:
    from segjax.follow import Followed, Method

_NONE = "(default: none)"
_REPEATS = 10
_PRINTED = {"page": "report.html", "sheets": "report.pdf", "lesions": "changes.csv"}


@dataclass(frozen=True)
class Followup:
    """Compare visits of a patient: which lesions are new, enlarged, shrunk or gone.

    Give two images or more, in the order of time, with a network (--model) or masks
    (--masks); two masks alone; or two images alone, whose intensities are compared. The
    images are registered to a grid half-way between all, so that none is the reference;
    masks alone lie where their headers say.

    DIR gets summary.json, changes.csv (a row for each lesion), the images, masks, their
    difference and the map of changes on the half-way grid, the transforms from there to
    each visit (ITK .tfm), and report.html, which loads nothing. A report that is there and
    of the same files is kept.

    A single folder stands for many patients: each folder in it is one, with its visits in
    folders or in files (--images and --masks name them, a star is the name of the visit),
    or a BIDS data set with sessions. Each gets a folder in DIR, and followup.csv tells of
    all. One that fails stops no other; it is named at the end, and the exit code is 1.

    Dates are read from DICOM headers and from sessions.tsv of BIDS; of these only the days
    between visits are written. Those of --dates are written as they are.

    Examples:
        segjax followup 2023/flair.nii.gz 2024/flair.nii.gz --model run/model.onnx
        segjax followup a.nii.gz b.nii.gz --model ms-flair
        segjax followup a.nii.gz b.nii.gz --masks a_lesions.nii.gz b_lesions.nii.gz
        segjax followup a_lesions.nii.gz b_lesions.nii.gz --dates 2023-04-02 2024-03-28
        segjax followup v1 v2 v3 --images flair.nii.gz t1.nii.gz --model run/model.onnx
        segjax followup dicom/2023 dicom/2024 --series "*flair*" --model run/model.onnx
        segjax followup patients --images flair.nii.gz --masks lesions.nii.gz -o reports
        segjax followup patients --images "*_flair.nii.gz" --masks "*_lesions.nii.gz"
        segjax followup bids --images FLAIR --model run/model.onnx -o reports
        segjax followup a.nii.gz b.nii.gz --model run/model.onnx --check --pdf
    """

    visits: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="VISIT...", help_behavior_hint=_NONE)
    ] = ()
    """Image or folder of each visit, the first one first; or one folder of patients."""
    out: Annotated[
        Path, arg(aliases=["-o"], metavar="DIR", help_behavior_hint="(default: followup)")
    ] = Path("followup")
    """Folder for the report, or for those of all patients."""
    model: Annotated[Path | None, arg(aliases=["-m"], metavar="FILE", help_behavior_hint=_NONE)] = (
        None
    )
    """Network that segments each visit: an ONNX file, the folder of a run, or a name of segjax
    models."""
    images: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint=_NONE)] = ()
    """Image file of each channel in the folder of a visit, or BIDS suffix."""
    masks: Annotated[tuple[str, ...], arg(metavar="MASK...", help_behavior_hint=_NONE)] = ()
    """Mask of each visit; or its name in the folder of a visit, or BIDS suffix."""
    brain: Annotated[tuple[str, ...], arg(metavar="MASK...|METHOD")] = ("classical",)
    """Mask of the brain of each visit, or its name; or how it is found: classical, hd-bet,
    zero-background, or by a network FILE.onnx."""
    coding: Annotated[
        tuple[str, ...], arg(name="labels", metavar=LABELS, help_behavior_hint=LABELS_OF_DATA)
    ] = ()
    """What the values in masks stand for: 255=lesion, 1,4=core, 2=background, 3=ignore."""
    names: Annotated[
        tuple[str, ...],
        arg(metavar="NAME...", help_behavior_hint="(default: of the masks, or numbers)"),
    ] = ()
    """Names of the labels 1, 2, ..."""
    dates: Annotated[
        tuple[str, ...], arg(metavar="YYYY-MM-DD...", help_behavior_hint="(default: of the files)")
    ] = ()
    """When each visit was, for rates and the page."""
    series: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_NONE)] = None
    """DICOM series of each visit, where it has several: number, UID, or "*flair*"."""
    registration: Literal["rigid", "affine", "none"] = "rigid"
    """How visits are brought together; none trusts the headers."""
    intensities: Annotated[bool, arg(help_behavior_hint="")] = True
    """Trust the masks alone: images are shown and registered, but not compared."""
    check: Annotated[
        tuple[int, ...] | None, arg(metavar="[N]", help_behavior_hint="(default: no; 10 times)")
    ] = None
    """Put six lesions of known size into the last scan, N times, and tell which are found."""
    shapes: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: drawn)")] = None
    """Masks of whose lesions --check takes the shapes."""
    language: Annotated[str, arg(metavar="{en,fr}")] = "en"
    """Language of the page."""
    pdf: Annotated[bool, arg(help_behavior_hint="")] = False
    """Write the page as report.pdf too."""
    overwrite: Annotated[bool, arg(help_behavior_hint="")] = False
    """Make reports anew that are there."""

    def __call__(self) -> None:
        """Compare the visits and print what changed."""
        from segjax.data.visits import find_subject
        from segjax.extras import needed_for

        with needed_for("drawing figures"):  # said before all work
            import_module("matplotlib")
        if len(self.visits) == 1:
            self._many(self.visits[0])
            return
        from segjax.follow import follow

        found = follow(
            find_subject(
                self.visits,
                images=self.images,
                masks=self.masks,
                brains=self._brains,
                series=self.series,
                dates=self.dates,
            ),
            self.out,
            self._method(),
            overwrite=self.overwrite,
        )
        _print_one(found)

    def _many(self, folder: Path) -> None:
        """Compare the visits of many patients."""
        from segjax.cli.console import print_facts, print_words
        from segjax.data.bids import is_bids
        from segjax.data.visits import find_visits
        from segjax.evaluate.compare import Failure, raise_failures
        from segjax.follow import TABLE, follow_all

        if not folder.is_dir():
            raise InputError(f"{folder}: is one visit; give two or more, or a folder of patients")
        if self.out.resolve().is_relative_to(folder.resolve()) and not is_bids(folder):
            raise InputError(f"{self.out}: lies among the patients; choose another folder by -o")
        if self.dates:
            raise InputError("--dates are of one patient; of several, files tell them")
        single = {"--masks": self.masks, "--brain": self._brains}
        for option, names in single.items():
            if len(names) > 1:
                raise InputError(f"{option}: give one name, which all visits of {folder} have")
        subjects = find_visits(
            folder,
            images=self.images,
            mask=next(iter(self.masks), None),
            brain=next(iter(self._brains), None),
            series=self.series,
        )
        found = list(follow_all(subjects, self.out, self._method(), overwrite=self.overwrite))
        done = [one for one in found if not one.error]
        failed = [Failure(one.subject, one.error) for one in found if one.error]
        if done:
            _print_many(done)
            print_facts({"reports": self.out, "table": self.out / TABLE})
        if failed and len(found) > 1:
            print_words(["failed", "reason"], failed)
        raise_failures(failed, len(done))

    def _method(self) -> "Method":
        from segjax.data.labels import asked_coding
        from segjax.follow import Method

        predictor = None
        if self.model is not None:
            from segjax.cli.console import print_notices
            from segjax_onnx.predict.predictor import Predictor

            predictor = Predictor(self.model)
            print_notices(predictor.files)
        return Method(
            predictor=predictor,
            coding=asked_coding(self.coding, names=self.names),
            brain="classical" if self._brains else self.brain[0],
            registration=self.registration,
            intensities=self.intensities,
            check=self._repeats,
            shapes=self.shapes,
            dated=bool(self.dates),
            language=self.language,
            pdf=self.pdf,
        )

    @property
    def _repeats(self) -> int:
        if self.check is None:
            return 0
        if len(self.check) > 1 or min(self.check, default=1) < 1:
            raise InputError(
                f"--check {' '.join(map(str, self.check))}: give one number, 1 or more"
            )
        return next(iter(self.check), _REPEATS)

    @property
    def _brains(self) -> tuple[str, ...]:
        """What --brain names of masks."""
        from segjax.data.prepare.brain import check_method

        if len(self.brain) != 1:
            return self.brain
        try:
            check_method(self.brain[0])
        except InputError:
            return self.brain
        return ()


def _print_one(found: "Followed") -> None:
    """Print the lesions that changed, and what they come to."""
    from segjax.cli.console import print_facts

    _print_loads([("", found.summary)])
    if check := found.summary["check"]:
        _print_check(check)
    if found.kept:
        print_facts({"kept": "a report of the same files was there already"})
    print_facts(
        {
            name: found.folder / file
            for name, file in _PRINTED.items()
            if file in found.summary["files"]
        }
    )


def _print_check(check: Mapping[str, Any]) -> None:
    """Print how many of the lesions that were put in were found."""
    from segjax.cli.console import print_facts

    facts = {_size(one): f"{one['found']} of {one['put_in']} found" for one in check["sizes"]}
    facts["changes told where there are none"] = (
        f"{sum(check['false_changes'])} in {plural(len(check['false_changes']), 'comparison')}, "
        f"{sum(check['copies'])} in {len(check['copies'])} copies of the scans"
    )
    print_facts(facts, title="Lesions put into the last scan")


def _size(one: Mapping[str, Any]) -> str:
    if one["to_mm"] is None:
        return f"{one['from_mm']:g} mm and more"
    return f"{one['from_mm']:g} to {one['to_mm']:g} mm"


def _print_many(found: Sequence["Followed"]) -> None:
    _print_loads([(one.subject, one.summary) for one in found])


def _print_loads(summaries: Sequence[tuple[str, Any]]) -> None:
    """Print a row for each patient, pair of visits and label."""
    from segjax.cli.console import print_table, say
    from segjax.evaluate.changes import KINDS

    many = len(summaries) > 1
    rows = [
        [
            *([subject] if many else []),
            f"{pair['baseline']} → {pair['followup']}",
            load["label"],
            "–" if load["days"] is None else str(load["days"]),
            _ml(load["baseline_ml"]),
            _ml(load["followup_ml"]),
            "–" if load["change_percent"] is None else f"{load['change_percent']:+.1f} %",
            *("–" if load[kind] is None else str(load[kind]) for kind in KINDS),
        ]
        for subject, summary in summaries
        for pair in summary["comparisons"]
        for load in pair["loads"]
    ]
    columns = ["visits", "label", "days", "before", "after", "change", *KINDS]
    print_table([*(["patient"] if many else []), *columns], rows)
    for subject, summary in summaries:
        for pair in summary["comparisons"]:
            pairs = f"{pair['baseline']} → {pair['followup']}"
            place = f"{subject}, {pairs}" if many else pairs
            if pair["images"]["reliable"] is False:
                say(f"{place}: intensities are not compared: {pair['images']['reason']}\n")
            unmasked = all(load["baseline_ml"] is None for load in pair["loads"])
            if unmasked and not pair["images"]["reliable"]:
                say(f"{place}: nothing was compared: give masks (--masks) or a network (--model)\n")


def _ml(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f} ml"
