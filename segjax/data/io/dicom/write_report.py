"""Make a structured report (SR, TID 1500) of what a DICOM segmentation holds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segjax.data.io.dicom.origin import making, uid_of
from segjax.data.io.dicom.series import Series
from segjax.data.io.dicom.write_segmentation import (
    Algorithm,
    Segment,
    code_of,
    equipment,
    number_beside,
    short,
)

if TYPE_CHECKING:
    from highdicom.seg import Segmentation
    from highdicom.sr import (
        Comprehensive3DSR,
        Measurement,
        ObservationContext,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )
    from pydicom.sr.coding import Code

__all__ = ["Findings", "make_report"]

_DECIMALS = 6
_PROCEDURES = {"MR": "MRIUnspecifiedBodyRegion", "CT": "CTUnspecifiedBodyRegion"}


@dataclass(frozen=True)
class Findings:
    """What a mask holds of a label.

    Attributes:
        volume: In ml.
        lesions: Their number.
        largest: Volume of the largest one, in ml.
    """

    volume: float
    lesions: int
    largest: float


def make_report(
    segmentation: "Segmentation",
    series: Series,
    segments: Sequence[Segment],
    findings: Sequence[Findings],
    algorithm: Algorithm,
) -> "Comprehensive3DSR":
    """Make a report on the segments of a DICOM segmentation: volume, lesions, the largest one.

    It is complete, but preliminary and verified by nobody; its observer is a device. Patient and
    study are those of the segmentation, and the UIDs follow from its UID and from the findings.

    Args:
        segmentation: What :func:`segjax.data.io.dicom.write_segmentation.make_segmentation` made.
        series: What was segmented.
        segments: Those of the segmentation.
        findings: Of each segment.
        algorithm: What made the mask.

    Returns:
        The object, as highdicom makes it.

    Raises:
        InputError: The series' header does not allow one.

    Example:
        >>> from segjax.data.io.dicom.series import choose_series
        >>> from segjax.data.io.dicom.write_segmentation import make_segmentation
        >>> from segjax.data.io.formats import read_label
        >>> series, network = choose_series("scan"), Algorithm("unet3d", "0.1.0", ("ba7816bf",))
        >>> mask = read_label("lesions.dcm", like=series.grid)
        >>> segments = [Segment("lesion", (86, 180, 233))]
        >>> made = make_segmentation(mask, series, segments, network)
        >>> make_report(made, series, segments, [Findings(0.384, 1, 0.384)], network).Modality
        'SR'

    Source: DICOM PS3.16, TID 1500 and 1411
    """
    with making("report", str(series)):
        from highdicom.sr import Comprehensive3DSR, MeasurementReport

        name = short(algorithm.name)
        own = uid_of("SR", segmentation.SOPInstanceUID, repr(findings))
        content = MeasurementReport(
            observation_context=_context(algorithm),
            procedure_reported=_procedure(series.modality),
            imaging_measurements=[
                _group(segmentation, number, segment, found, algorithm)
                for number, (segment, found) in enumerate(zip(segments, findings, strict=True), 1)
            ],
        )
        report = Comprehensive3DSR(
            evidence=[segmentation],
            content=content,
            series_instance_uid=uid_of("series", own),
            series_number=number_beside(series, 2),
            sop_instance_uid=own,
            instance_number=1,
            **equipment(algorithm),
            series_description=short(f"Measurements by {name}"),
            is_complete=True,
        )
        report.ContributingEquipmentSequence = segmentation.ContributingEquipmentSequence
        return report


def _context(algorithm: Algorithm) -> "ObservationContext":
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid=uid_of("device", algorithm.digest),
        name="segjax",
        manufacturer_name="segjax",
        model_name=short(algorithm.name),
        serial_number=algorithm.digest,
    )
    return ObservationContext(ObserverContext(codes.DCM.Device, device))


def _procedure(modality: str) -> "Code":
    from pydicom.sr.codedict import codes

    return getattr(codes.cid100, _PROCEDURES.get(modality, "ImagingProcedure"))


def _group(
    segmentation: "Segmentation",
    number: int,
    segment: Segment,
    found: Findings,
    algorithm: Algorithm,
) -> "VolumetricROIMeasurementsAndQualitativeEvaluations":
    from highdicom.sr import (
        AlgorithmIdentification,
        ReferencedSegment,
        SourceSeriesForSegmentation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    described = segmentation.SegmentSequence[number - 1]
    source = segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=uid_of("segment", segmentation.SOPInstanceUID, str(number)),
            identifier=described.SegmentLabel,
        ),
        referenced_segment=ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            number,
            source_series=SourceSeriesForSegmentation(source),
        ),
        finding_category=described.SegmentedPropertyCategoryCodeSequence[0],
        finding_type=code_of(segment),
        algorithm_id=AlgorithmIdentification(
            name=short(algorithm.name),
            version=short(algorithm.version),
            parameters=[f"SHA-256={digest}" for digest in algorithm.sha256],
        ),
        measurements=list(_measurements(found)),
    )


def _measurements(found: Findings) -> Iterator["Measurement"]:
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    millilitre = Code("ml", "UCUM", "milliliter")
    count = Code("246206008", "SCT", "Number of lesions")
    volume = codes.SCT.Volume
    yield Measurement(volume, round(found.volume, _DECIMALS), millilitre)
    yield Measurement(count, found.lesions, codes.UCUM.NoUnits)
    if found.lesions:
        largest = round(found.largest, _DECIMALS)
        yield Measurement(volume, largest, millilitre, derivation=codes.SCT.Maximum)
