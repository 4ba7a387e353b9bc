"""Bring masks back to where their images came from: DICOM SEG and report beside each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segjax import __version__
from segjax.data.cases import Case
from segjax.data.io.dicom.origin import is_own, write_object
from segjax.data.io.dicom.series import Series, choose_series, is_dicom
from segjax.data.io.dicom.write_report import Findings, make_report
from segjax.data.io.dicom.write_segmentation import Algorithm, Segment, make_segmentation
from segjax.data.io.formats import read_label
from segjax.data.sources import sha256_files
from segjax.errors import InputError
from segjax.extras import needed_for

if TYPE_CHECKING:
    from segjax.evaluate.measure import LabelMeasures
    from segjax_onnx.predict.metadata import ModelMetadata
    from segjax_onnx.predict.predictor import Predictor

__all__ = ["DicomObjects", "dicom_objects"]

_PLACELESS = (".npy", ".png")


@dataclass(frozen=True)
class DicomObjects:
    """Writes ``NAME.seg.dcm`` and ``NAME.sr.dcm`` beside each mask of a DICOM series.

    The first is a segmentation with the names, colours and codes of the network's labels, the
    second a report of volumes and numbers of lesions; both are of the patient and the study of the
    series. See :mod:`segjax.data.io.dicom.write_segmentation`.

    Attributes:
        segments: Of the labels but the background.
        algorithm: The network.
        keep_empty: Keep slices in which a label has no voxel.
    """

    segments: tuple[Segment, ...]
    algorithm: Algorithm
    keep_empty: bool = False

    def files(self, case: Case, mask: Path) -> Sequence[Path]:
        """Name what is written for a case.

        Raises:
            InputError: Its image is no DICOM series, its mask would have no place in the patient,
                or a file is there that segjax did not make.
        """
        series = _series(case.images[0])
        if series is None:
            raise InputError(f"{case.images[0]}: is no DICOM series: leave out --dicom")
        if mask.name.lower().endswith(_PLACELESS):
            raise InputError(f"{mask}: has no place in the patient; leave out --format or --dicom")
        files = [mask.with_name(f"{case.name}.{kind}.dcm") for kind in ("seg", "sr")]
        own = {file.resolve() for file in series.files}
        if taken := [file for file in files if file.resolve() in own]:
            raise InputError(f"{taken[0]}: is an image to segment; write to another folder")
        if others := [file for file in files if file.exists() and not is_own(file)]:
            raise InputError(f"{others[0]}: was not made by segjax; write to another folder")
        return files

    def write(self, case: Case, mask: Path, loads: Sequence["LabelMeasures"]) -> None:
        """Write both objects of a case, over those that are there."""
        segmentation, report = self.files(case, mask)
        series, *others = [one for one in map(_series, case.images) if one is not None]
        made = make_segmentation(
            read_label(mask, classes=len(self.segments) + 1),
            series,
            self.segments,
            self.algorithm,
            others=others,
            keep_empty=self.keep_empty,
        )
        findings = [Findings(load.size, len(load.lesions), load.largest) for load in loads]
        told = make_report(made, series, self.segments, findings, self.algorithm)
        write_object(made, segmentation, overwrite=True)
        write_object(told, report, overwrite=True)


def dicom_objects(predictor: "Predictor", *, keep_empty: bool = False) -> DicomObjects:
    """Return what writes DICOM objects beside the masks of a network.

    Args:
        predictor: The exported network.
        keep_empty: Keep slices in which a label has no voxel.

    Raises:
        InputError: highdicom is missing, or a file of the network is gone.

    Example:
        >>> import segjax
        >>> dicom_objects(segjax.Predictor("model.onnx")).segments[0].label
        'lesion'
    """
    with needed_for("writing DICOM"):
        import highdicom  # noqa: F401
    digests = tuple(map(sha256_files, predictor.files))
    algorithm = Algorithm(predictor.metadata.model, __version__, digests)
    return DicomObjects(_segments(predictor.metadata), algorithm, keep_empty)


def _segments(metadata: "ModelMetadata") -> tuple[Segment, ...]:
    found = []
    for label, structure in zip(metadata.labels[1:], metadata.structures, strict=True):
        code = structure.code
        words = (code.scheme, code.value, code.meaning) if code else None
        found.append(Segment(label, structure.color, words))
    return tuple(found)


def _series(image: Path | Series) -> Series | None:
    """Return the DICOM series that an image is; None where it is none."""
    if isinstance(image, Series):
        return image
    return choose_series(image) if image.is_dir() or is_dicom(image) else None
