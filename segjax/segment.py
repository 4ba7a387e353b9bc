"""Segment images one after another, with tables and whatever else is wanted beside each mask."""

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from segjax.data.cases import Case
from segjax.data.sources import files_in, sha256_files
from segjax.errors import InputError
from segjax.files import check_new

if TYPE_CHECKING:
    from segjax.evaluate.measure import LabelMeasures
    from segjax.evaluate.volumes import CaseTables
    from segjax_onnx.predict.outputs import Outputs
    from segjax_onnx.predict.predictor import Predictor

__all__ = ["Companion", "Segmentation", "check_all", "segment"]


@runtime_checkable
class Companion(Protocol):
    """Writes files of its own beside each mask: a DICOM object, a side-car."""

    def files(self, case: Case, mask: Path) -> Sequence[Path]:
        """Name what is written for a case.

        Raises:
            InputError: Nothing can be written for it: it is not segmented.
        """

    def write(self, case: Case, mask: Path, loads: Sequence["LabelMeasures"]) -> None:
        """Write these files, over those that are there.

        Args:
            case: What was segmented.
            mask: The file of its mask.
            loads: What the mask holds of each label but the background.
        """


@dataclass(frozen=True)
class Segmentation:
    """What became of one image.

    Attributes:
        case: Its name.
        seconds: Time from reading the image to having written the mask.
        sizes: Size of each label but the background.
        unit: Of the sizes: ``"ml"``, or ``"pixels"`` for a 2D image.
        error: Why there is no mask; empty where there is one.
        kept: Whether the mask was there already.
    """

    case: str
    seconds: float
    sizes: tuple[float, ...] = ()
    unit: str = "ml"
    error: str = ""
    kept: bool = False


def segment(
    predictor: "Predictor",
    cases: Sequence[Case],
    out: str | Path,
    *,
    skip_existing: bool = False,
    companions: Sequence[Companion] = (),
    **options: Any,
) -> Iterator[Segmentation]:
    """Segment images one after another; one that fails does not stop the others.

    The folder gets ``volumes.csv`` and ``lesions.csv`` too, with all its cases, also those of
    earlier calls: see :class:`segjax.evaluate.volumes.CaseTables`.

    Args:
        predictor: The exported network.
        cases: What to segment.
        out: Folder for the masks.
        skip_existing: Keep masks that exist, with whatever they hold, and segment the others.
        companions: What writes more beside each mask.
        options: As for :meth:`segjax_onnx.predict.predictor.Predictor.predict_files`.

    Yields:
        One result for each case, in order, as soon as its files are written.

    Raises:
        InputError: Masks that exist shall be replaced and kept; or, before any work, a file
            would be written twice, over an image, or over one of another kind; or the companions
            can write something for none of the cases.
    """
    from segjax.evaluate.volumes import CaseTables
    from segjax.progress import track
    from segjax_onnx.predict.outputs import check_outputs, make_folder

    if options.get("overwrite") and skip_existing:
        raise InputError("masks that exist can be overwritten or skipped, but not both")
    if skip_existing:
        options["overwrite"] = True  # a mask without the maps that are wanted too
    names = ("format", "probabilities", "uncertainty", "desc")
    wanted = {name: options[name] for name in names if name in options}
    check_outputs(cases, out, **wanted, overwrite=True)
    job = _Job(predictor, Path(out), options, companions)
    job.check_any(cases)
    networks = " ".join(map(sha256_files, predictor.files))
    with CaseTables(make_folder(out)) as tables:
        for case in cases if len(cases) == 1 else track(cases, "Segmenting"):
            start = time.perf_counter()
            kept = skip_existing and job.is_finished(case)
            with _heard() as said:
                loads, error = job.attempt(case, kept=kept)
            if kept:
                said.append("the mask was there already")
            about = {"warnings": "; ".join(said), "error": error}
            if not kept:
                about |= {"network_sha256": networks, "image_sha256": _digests(case)}
            old = kept or (error and job.files(case).mask.exists())
            row = job.row(case)
            if not (old and row in tables):
                error = _put(tables, row, loads, about, last=case is cases[-1])
            sizes, unit = tuple(load.size for load in loads), loads[0].unit if loads else "ml"
            yield Segmentation(case.name, time.perf_counter() - start, sizes, unit, error, kept)


@dataclass(frozen=True)
class _Job:
    """What is done with every case."""

    predictor: "Predictor"
    out: Path
    options: Mapping[str, Any]
    companions: Sequence[Companion]

    def files(self, case: Case) -> "Outputs":
        from segjax_onnx.predict.outputs import output_files

        options = self.options
        return output_files(case, self.out, options.get("format"), desc=options.get("desc"))

    def row(self, case: Case) -> str:
        """Name a case in the tables: as its mask in a derivative, where sessions have runs."""
        if (desc := self.options.get("desc")) is None:
            return case.name
        return self.files(case).mask.name.partition(f"_desc-{desc}_")[0]

    def check_any(self, cases: Sequence[Case]) -> None:
        """Refuse cases for none of which the companions can write anything."""
        said = []
        for case in cases:
            try:
                self.beside(case)
                return
            except InputError as error:
                said.append(error)
        if said:
            raise said[0]

    def is_finished(self, case: Case) -> bool:
        """Say whether the mask of a case exists, and all else that is wanted."""
        files = self.files(case)
        wanted = (True, self.options.get("probabilities"), self.options.get("uncertainty"))
        if not all(file.exists() for file in compress(files, wanted)):
            return False
        with suppress(InputError):
            return all(file.exists() for file in self.beside(case))
        return False

    def beside(self, case: Case) -> list[Path]:
        """Name the files that companions write for a case."""
        mask = self.files(case).mask
        return [file for companion in self.companions for file in companion.files(case, mask)]

    def attempt(self, case: Case, *, kept: bool) -> tuple[Sequence["LabelMeasures"], str]:
        """Segment a case, unless its mask is kept; return what it holds, or why there is none."""
        files = self.files(case)
        maps = {"probability": files.probabilities, "spread": files.uncertainty}
        asked = (self.options.get("probabilities"), self.options.get("uncertainty"))
        wanted = dict(compress(maps.items(), asked))
        labels = self.predictor.metadata.labels
        try:
            if kept:
                return _loads(files.mask, labels, wanted), ""
            beside = self.beside(case)
            if not self.options.get("overwrite"):
                for file in beside:
                    check_new(file)
            (mask,) = self.predictor.predict_files([case], self.out, **self.options)
            loads = _loads(mask, labels, wanted)
            with _whole([mask, *wanted.values(), *beside]):
                for file in beside:  # of another mask: a kill must not leave it beside this one
                    file.unlink(missing_ok=True)
                for companion in self.companions:
                    companion.write(case, mask, loads)
            return loads, ""
        except Exception as error:  # the other images are worth having all the same
            return (), _reason(case, error)


@contextmanager
def _whole(files: Iterable[Path]) -> Iterator[None]:
    """Remove the files of a case where the block raises: it is done or not there."""
    try:
        yield
    except BaseException:
        for file in files:
            file.unlink(missing_ok=True)
        raise


def _loads(
    mask: Path, labels: Sequence[str], maps: Mapping[str, Path]
) -> Sequence["LabelMeasures"]:
    from segjax.data.io.formats import read_label, read_volume
    from segjax.evaluate.measure import measure_mask

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the image's header, which was told of before
        volume = read_label(mask, classes=len(labels))
        values = {name: read_volume(path).data for name, path in maps.items()}
    shape = volume.spatial_shape
    averaged = {name: value.reshape(*shape, -1) for name, value in values.items()}
    return measure_mask(volume, labels=labels, maps=averaged)


def _put(
    tables: "CaseTables",
    row: str,
    loads: Sequence["LabelMeasures"],
    about: Mapping[str, str],
    *,
    last: bool,
) -> str:
    """Put a case into the tables, and return why it is not done, if it is not."""
    try:
        tables.put(row, loads, **about)
        if last:
            tables.flush()
    except InputError as error:
        return about["error"] or str(error)
    return about["error"]


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Yield the texts of the warnings of the block, which are shown as ever."""
    said: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def hear(message: Warning | str, *place: Any, **more: Any) -> None:
            said.append(" ".join(str(message).split()))
            show(message, *place, **more)

        warnings.showwarning = hear
        yield said


def _digests(case: Case) -> str:
    """Return the SHA-256 of each image of a case; nothing of those that cannot be read."""
    with suppress(InputError):
        return " ".join(map(sha256_files, case.images))
    return ""


def _reason(case: Case, error: Exception) -> str:
    """Say why a case failed, and which file that is about."""
    files = ", ".join(map(str, case.images))
    if not isinstance(error, InputError):
        return f"{files}: {type(error).__name__}: {error}"
    named = any(str(image) in str(error) for image in case.images)
    known = named or any(file.name in str(error) for i in case.images for file in files_in(i))
    return str(error) if known else f"{files}: {error}"


def check_all(results: Sequence[Segmentation]) -> None:
    """Raise what went wrong in :func:`segment`, if anything did.

    Raises:
        InputError: With the message of the first image that failed, and how many others did.
    """
    failed = [result for result in results if result.error]
    if failed:
        others = f" ({len(failed)} of {len(results)} images failed)" if len(results) > 1 else ""
        raise InputError(f"{failed[0].error}{others}")
