"""Make a whole cache: learn from the set what is to be learned, then make every case."""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import segjax
from segjax.data.cache import layout, pool
from segjax.data.cache.make import (
    Job,
    Outcome,
    coding_before,
    early_image,
    find,
    kept_steps,
    make,
    prepare,
    read_grids,
)
from segjax.data.cases import Case, Dataset
from segjax.data.images import are_colours
from segjax.data.prepare.hd_bet import check_installed
from segjax.data.prepare.lost import Lost, warn_of_lost
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.tilt import warn_of_tilts
from segjax.data.splits import Split
from segjax.errors import InputError
from segjax.files import write_json
from segjax.interrupt import noted
from segjax.progress import track
from segjax.text import plural
from segjax.volume import Volume


def prepare_folder(out: Path) -> None:
    """Make the folder of a cache.

    Raises:
        InputError: It cannot be made, or holds other things.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is a file" if out.is_file() else f"cannot be made ({error.strerror})"
        raise InputError(f"{out}: {reason}; give another folder for the cache") from error
    if not layout.is_cache(out) and (others := [p for p in out.iterdir() if p.name[0] != "."]):
        raise InputError(f"{out}: holds {others[0].name}, and is no cache; give a new folder")


class Run:
    """A cache that is being made.

    Args:
        dataset: The cases.
        pipeline: Preprocessing as asked for.
        out: Folder of the cache, which is ours alone.
        workers: Number of processes.
    """

    def __init__(self, dataset: Dataset[Case], pipeline: Pipeline, out: Path, workers: int):
        self._dataset, self._requested, self._out, self._workers = dataset, pipeline, out, workers
        self._kept = kept_steps(pipeline)
        whole = layout.is_cache(out) and not layout.is_damaged(out)
        self._before = layout.read_manifest(out) if whole else {}

    def make(self, split: Split | None, refit: bool) -> list[Outcome]:
        """Make all cases; return what became of each, in the order of the dataset."""
        self._begin()
        pipeline, learned_from = self._learn(split, refit)
        jobs = self._jobs(pipeline, self._dataset.cases)
        known = {job.case.name: found for job in jobs if (found := find(job))}
        waiting = [job for job in jobs if job.case.name not in known]
        if waiting:
            self._write(pipeline, learned_from, list(known), complete=False)
            self._warn_of_labels(waiting)
        known |= {done.case: done for done in self._each(make, waiting, "Preprocessing")}
        outcomes = [known[job.case.name] for job in jobs]
        there = [outcome.case for outcome in outcomes if not outcome.error]
        self._warn_of_images(there)
        self._write(pipeline, learned_from, there, complete=True)
        return outcomes

    def _warn_of_images(self, names: Sequence[str]) -> None:
        """Say which cases lost lesions on the way, and which lie askew."""
        records = {name: layout.record(self._out / layout.CASES / name) for name in names}
        lost = {name: Lost(*r["lost"]) for name, r in records.items() if r.get("lost")}
        warn_of_lost(lost, len(names))
        warn_of_tilts({name: read_grids(r)[0].affine for name, r in records.items()})

    def _warn_of_labels(self, waiting: Sequence[Job]) -> None:
        """Say so before all is made again for what the values of labels stand for alone."""
        stood = [then for job in waiting if (then := coding_before(job))]
        if not stood:
            return
        first = stood[0]
        way_back = f"give --labels {first.as_options()}" if first.names else "leave out --labels"
        warnings.warn(
            f"{self._out}: {plural(len(stood), 'case')} must be made again, since label values "
            f"stand for {self._dataset.coding} by now, and stood for {first}; to keep what is "
            f"there, stop and {way_back}",
            stacklevel=4,
        )

    def _begin(self) -> None:
        for name in (layout.CASES, *([layout.EARLY] if self._kept else [])):
            (self._out / name).mkdir(exist_ok=True)
            layout.remove_remains(self._out / name)
        if not self._before:  # even a run that is killed while learning leaves a cache
            self._write(None, [], [], complete=False)

    def _learn(self, split: Split | None, refit: bool) -> tuple[Pipeline, list[str]]:
        """Return the fitted pipeline, and the names of the cases that it learned from."""
        if self._requested.fitted:
            return self._requested, []
        same = self._before.get("requested") == _json(self._requested)
        if same and self._before["pipeline"] is not None and not refit:
            _check_held_out(self._before["learned_from"], split, self._out)
            return Pipeline.from_json(self._before["pipeline"]), self._before["learned_from"]
        jobs = self._begun(self._jobs(self._requested, _training(self._dataset.cases, split)))
        early, late = self._requested.steps[: self._kept], self._requested.steps[self._kept :]
        images = _EarlyImages(jobs)
        try:
            learned = Pipeline(late).fit(lambda: images)
        except InputError as error:
            raise InputError(f"{images.last or self._out}: {error}") from error
        return Pipeline(early + learned.steps), sorted(images.seen)

    def _begun(self, jobs: list[Job]) -> list[Job]:
        """Take the first steps, whose result is kept; leave out the cases that fail in them."""
        outcomes = self._each(prepare, jobs, "First steps") if self._kept else []
        failed = {outcome.case for outcome in outcomes if outcome.error}
        return [job for job in jobs if job.case.name not in failed]

    def _jobs(self, pipeline: Pipeline, cases: Sequence[Case]) -> list[Job]:
        classes = len(self._dataset.labels) if self._dataset.labels else None
        colours = are_colours(self._dataset.cases)
        return [Job(case, pipeline, self._kept, self._out, classes, colours) for case in cases]

    def _each(
        self, do: Callable[[Job], Outcome], jobs: Sequence[Job], description: str
    ) -> list[Outcome]:
        if jobs and any(getattr(step, "method", "") == "hd-bet" for step in self._requested.steps):
            check_installed()  # now, not after the slow steps before it, for every case
        outcomes = []
        with (
            noted("stopping: cases that are finished are kept"),
            closing(pool.run(do, jobs, self._workers)) as running,
        ):
            for outcome in track(running, description, total=len(jobs)):
                outcomes.append(outcome)
                for said in outcome.warnings:
                    warnings.warn(f"case '{outcome.case}': {said}", stacklevel=4)
                if outcome.stops:
                    raise InputError(
                        f"{outcome.error}; make room and run the same again: what is finished "
                        "is kept"
                    )
        return outcomes

    def _write(
        self,
        pipeline: Pipeline | None,
        learned_from: Sequence[str],
        cases: Sequence[str],
        *,
        complete: bool,
    ) -> None:
        labels, channels = self._dataset.labels, self._dataset.channels
        manifest = {
            "segjax_cache": layout.FORMAT,
            "segjax": segjax.__version__,
            "complete": complete,
            "requested": _json(self._requested),
            "pipeline": None if pipeline is None else _json(pipeline),
            "learned_from": sorted(learned_from),
            "labels": None if labels is None else {str(v): name for v, name in labels.items()},
            "channels": None if channels is None else list(channels),
            "cases": sorted(cases),
        }
        if manifest != self._before:
            write_json(manifest, self._out / layout.MANIFEST, overwrite=True, indent=1)
            self._before = manifest


class _EarlyImages:
    """Images after the steps whose result is kept; those that cannot be read are left out.

    Attributes:
        seen: Names of the cases that could be read.
        last: File of the image that was given last, while it is looked at; else None.
    """

    def __init__(self, jobs: Sequence[Job]):
        self._jobs = jobs
        self.seen: set[str] = set()
        self.last: str | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Volume]:
        for job in self._jobs:
            try:
                image = early_image(job)
            except InputError:  # making the case will say so
                continue
            self.seen.add(job.case.name)
            self.last = str(job.case.images[0])
            yield image
        self.last = None


def _training(cases: Sequence[Case], split: Split | None) -> Sequence[Case]:
    if split is None:
        return cases
    by_name = {case.name: case for case in cases}
    if unknown := [name for name in split.train if name not in by_name]:
        raise InputError(f"the split names case '{unknown[0]}', which the dataset does not have")
    return [by_name[name] for name in split.train]


def _check_held_out(learned_from: Sequence[str], split: Split | None, out: Path) -> None:
    """Refuse what was learned from cases that are to be kept apart."""
    held_out = {*split.validation, *split.test} if split else set()
    if both := sorted(held_out.intersection(learned_from)):
        raise InputError(
            f"{out}: the preprocessing there learned from case '{both[0]}', which the split keeps "
            "apart; ask to refit it"
        )


def _json(pipeline: Pipeline) -> Any:
    return json.loads(json.dumps(pipeline.to_json()))
