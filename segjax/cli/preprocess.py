"""``segjax preprocess``: images become a cache of processed arrays to train on."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from segjax.cli.options import LABELS, LABELS_OF_DATA, PRESETS
from segjax.errors import InputError
from segjax.text import plural

if TYPE_CHECKING:
    from segjax.data.cache.cache import Outcome
    from segjax.data.prepare.pipeline import Pipeline
    from segjax.workflow import Preprocessed

_NONE = "(default: none)"
_MOST_ROWS = 40


@dataclass(frozen=True)
class Preprocess:
    """Process images once, in parallel, for fast training.

    IN is a data folder (images/ and labels/, or imagesTr/ and labelsTr/), a folder of
    images, or a folder of subjects, whose files --images and --label name. OUT becomes
    a cache for segjax train --data OUT, with pictures in figures/ and times in
    report.csv.

    The same command again goes on where it stopped, even after a crash, and does only
    again what has changed: images, labels or steps.

    Examples:
        segjax preprocess meningiomas cache --preset meningioma-2d
        segjax preprocess patients cache --preset ms-7t --images flair.nii.gz --label lesions.nii.gz
        segjax preprocess brains cache --config pipeline.json --workers 4
        segjax preprocess brats cache --preset ms-7t --labels 1,4=core 2=edema
    """

    source: Annotated[Positional[Path], arg(metavar="IN")]
    """Images, labelled or not."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """Folder of the cache, made if absent."""
    preset: Annotated[str | None, arg(metavar=PRESETS, help_behavior_hint=_NONE)] = None
    """Preprocessing of a study."""
    config: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint=_NONE)] = None
    """Preprocessing of your own: a list of steps, or a run's config.json."""
    brain: Annotated[
        str | None,
        arg(metavar="METHOD", help_behavior_hint="(default: the preset's)"),
    ] = None
    """Brain extraction: hd-bet, classical, zero-background, as registered, or an ONNX file."""
    images: Annotated[
        tuple[str, ...], arg(metavar="NAME [NAME ...]", help_behavior_hint=_NONE)
    ] = ()
    """Image file of each channel in a subject's folder (* is any letters), or BIDS suffix."""
    label: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_NONE)] = None
    """Label file in a subject's folder, or BIDS suffix, as in label-lesion_mask."""
    labels: Annotated[tuple[str, ...], arg(metavar=LABELS, help_behavior_hint=LABELS_OF_DATA)] = ()
    """What label values stand for: 255=lesion, 1,4=core, 2=background, 3=ignore."""
    names: Annotated[
        tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="(default: of dataset.json)")
    ] = ()
    """Names of the classes 1, 2, ..., where label values are the classes already."""
    series: Annotated[
        tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="(default: all)")
    ] = ()
    """DICOM series to take of unlabelled images: name, number, UID or description ("*flair*")."""
    split: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint=_NONE)] = None
    """Histograms are learned from its training cases only."""
    refit: Annotated[bool, arg(help_behavior_hint="")] = False
    """Learn histograms anew, as after cases were added."""
    nifti: Annotated[bool, arg(help_behavior_hint="")] = False
    """Write image.nii.gz and label.nii.gz too, to look at."""
    workers: Annotated[
        int | None,
        arg(aliases=["-j"], metavar="N", help_behavior_hint="(default: the cores, to 8)"),
    ] = None
    """Processes, each with one case in memory."""

    def __call__(self) -> None:
        """Process all cases, print what became of them, and fail where one did."""
        from segjax import workflow
        from segjax.cli.console import print_facts
        from segjax.data.cache.cache import open_cache
        from segjax.data.labels import asked_coding, read_coding
        from segjax.data.layouts import find_data
        from segjax.data.splits import read_split

        pipeline = self._pipeline()
        coding = asked_coding(self.labels, names=self.names)
        if coding is None and self.config is not None:
            coding = read_coding(self.config)
        found = {"images": self.images, "label": self.label, "series": self.series}
        dataset = find_data(self.source, **found, coding=coding)  # type: ignore[arg-type]
        split = read_split(self.split) if self.split else None
        options = {"workers": self.workers, "split": split, "refit": self.refit}
        done = workflow.preprocess(dataset, pipeline, self.out, **options)  # type: ignore[arg-type]
        if self.nifti:
            workflow.write_niftis(open_cache(self.out))
        _print_outcomes(done.outcomes)
        labelled = sum(case.label is not None for case in dataset.cases)
        labels = f"of {plural(labelled, 'case')}" if labelled else "none, so not to train on"
        facts = {"labels": labels} | _summary(done)
        print_facts({**facts, **done.written}, title="Done")
        workflow.check_outcomes(done.outcomes, self.out)

    def _pipeline(self) -> "Pipeline":
        if (self.preset is None) == (self.config is None):
            raise InputError("give either --preset or --config: which steps are to be done?")
        if self.preset is not None:
            from segjax.studies import study

            return study(self.preset).pipeline(brain=self.brain)
        if self.brain is not None:
            raise InputError("--brain belongs to --preset; a --config names its own method")
        assert self.config is not None
        from segjax.data.prepare.pipeline import read_pipeline

        return read_pipeline(self.config)


def _print_outcomes(outcomes: tuple["Outcome", ...]) -> None:
    """Print a row per case, but not hundreds of them; and why some failed."""
    from segjax.cli.console import print_table, say

    shown = [outcome for outcome in outcomes if outcome.state != "unchanged"]
    rows = [
        [o.case, o.state, f"{o.seconds:.1f}", f"{o.megabytes:.1f}", f"{o.peak_megabytes:.0f}"]
        for o in shown[:_MOST_ROWS]
    ]
    if rows:
        print_table(["case", "", "seconds", "MB", "peak memory MB"], rows)
    if len(shown) > _MOST_ROWS:
        say(f"… and {len(shown) - _MOST_ROWS} more: see report.csv\n")
    for outcome in outcomes:
        if outcome.error:
            say(f"{outcome.case}: {outcome.error}")


def _summary(done: "Preprocessed") -> dict[str, str]:
    outcomes, early = done.outcomes, done.early_megabytes
    states = Counter(outcome.state for outcome in outcomes)
    size = sum(outcome.megabytes for outcome in outcomes)
    kept = f", and {early:.1f} MB in early/, which may be deleted" if early else ""
    peak = max(outcome.peak_megabytes for outcome in outcomes)
    return {
        "state": ", ".join(f"{count} {state}" for state, count in states.items()),
        "time": f"{done.seconds:.1f} s",
        "size": f"{size:.1f} MB{kept}",
        "peak memory": f"{peak:.0f} MB per worker" if peak else "nothing was made",
    }
