"""Make a DICOM segmentation (SEG object) of a mask and the series that it was made of."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from segjax.data.io.dicom.geometry import heights
from segjax.data.io.dicom.origin import MAKER, Instance, Origin, making, read_origin, uid_of
from segjax.data.io.dicom.series import Series
from segjax.data.io.formats import check_same_grid
from segjax.grid import same_grid
from segjax.volume import Volume

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom import Dataset
    from pydicom.sr.coding import Code

__all__ = [
    "Algorithm",
    "Segment",
    "code_of",
    "equipment",
    "make_segmentation",
    "number_beside",
    "short",
]

_ANATOMY = ("cid4031", "cid7140", "cid7153")  # context groups of regions and structures
_LONGEST = 64  # bytes of a name: DICOM means letters, but not all who check it do
_MOST = 2**31 - 1
_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


@dataclass(frozen=True)
class Segment:
    """What a label is called and means.

    Attributes:
        label: Its name.
        color: Red, green and blue, 0 to 255.
        code: Scheme, value and meaning, such as ``("SCT", "52988006", "Lesion")``, which stands
            for None too.
    """

    label: str
    color: tuple[int, int, int]
    code: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Algorithm:
    """What made a mask.

    Attributes:
        name: Of the network.
        version: Of the software.
        sha256: Of the network's files.
    """

    name: str
    version: str
    sha256: tuple[str, ...]

    @property
    def digest(self) -> str:
        """One digest of all files: that of the only one, or of those of several."""
        if len(self.sha256) == 1:
            return self.sha256[0]
        return hashlib.sha256(" ".join(self.sha256).encode()).hexdigest()


def make_segmentation(
    mask: Volume,
    series: Series,
    segments: Sequence[Segment],
    algorithm: Algorithm,
    *,
    others: Iterable[Series] = (),
    keep_empty: bool = False,
) -> "Segmentation":
    """Make a binary DICOM segmentation of a mask on the grid of its series.

    Each frame lies where its slice does, refers to it, and has its frame of reference; patient and
    study are those of the series, but for values that DICOM does not allow. The UIDs follow from
    the mask, its slices and the algorithm, so that the same result has the same UIDs again, and
    another one has others.

    Args:
        mask: Values 0, 1, 2, … ``(column, row, slice)``.
        series: What was segmented: slices of one file each, or frames of files that hold many.
        segments: Of the values from 1 on.
        algorithm: What made the mask.
        others: Series of more channels; those of the same study on the same grid are named as
            sources too.
        keep_empty: Keep the slices of a segment in which it has no pixel; else they are left out,
            unless the whole mask is empty.

    Returns:
        The object, as highdicom makes it.

    Raises:
        InputError: The mask lies elsewhere than the series; a file of the series cannot be read,
            or has no UID to refer to.

    Example:
        >>> from segjax.data.io.dicom.series import choose_series
        >>> from segjax.data.io.formats import read_label
        >>> series = choose_series("scan")
        >>> mask = read_label("lesions.dcm", like=series.grid)
        >>> network = Algorithm("unet3d", "0.1.0", ("ba7816bf",))
        >>> made = make_segmentation(mask, series, [Segment("lesion", (86, 180, 233))], network)
        >>> made.SegmentSequence[0].SegmentLabel, int(made.NumberOfFrames)
        ('lesion', 24)

    Source: DICOM PS3.3, A.51 and C.8.20; https://highdicom.readthedocs.io
    """
    place = series.grid
    empty = Volume(np.broadcast_to(np.uint8(0), place.shape), place.affine)
    check_same_grid(empty, mask, (str(series), "the mask"))
    origin = read_origin(series)
    planes = np.ascontiguousarray(mask.data.transpose(2, 1, 0), dtype=np.uint8)
    slices = (f"{origin.instance(frame).uid} {frame.index}" for frame in series.frames)
    drawn = (hashlib.sha256(planes.data).hexdigest(), str(keep_empty))
    own = uid_of("SEG", algorithm.digest, algorithm.version, *slices, *drawn)
    sources = [(series, origin), *_alike(others, series, origin)]
    with making("SEG", str(series)):
        named = [_description(n, segment, algorithm) for n, segment in enumerate(segments, 1)]
        options: dict[str, Any] = {"descriptions": named, "uid": own, "keep_empty": keep_empty}
        made = _segmentation(planes, series, origin, algorithm, **options)
        _refer(made, series, sources)
    return made


def _alike(others: Iterable[Series], series: Series, origin: Origin) -> list[tuple[Series, Origin]]:
    """Return the series of more channels that lie on the same grid and are of the same study."""
    study = origin.instance(series.frames[0]).study
    read = ((one, read_origin(one)) for one in others if same_grid(one.grid, series.grid))
    return [(one, own) for one, own in read if own.instance(one.frames[0]).study == study]


def equipment(algorithm: Algorithm) -> dict[str, Any]:
    """Return what made a result, by the names that highdicom's objects have for it."""
    return {
        "manufacturer": MAKER,
        "manufacturer_model_name": short(algorithm.name),
        "software_versions": short(algorithm.version),
        "device_serial_number": algorithm.digest,
    }


def number_beside(series: Series, place: int) -> int:
    """Return a number for a series of results, beside the one that they are of: 301 for 3."""
    number = 100 * max(series.frames[0].series[1], 0) + place
    return number if number <= _MOST else place


def short(text: str) -> str:
    """Return what DICOM's short texts hold of a name."""
    line = " ".join(text.replace("\\", "/").split())
    return line.encode()[:_LONGEST].decode(errors="ignore").strip()


def code_of(segment: Segment) -> "Code":
    """Return what a segment is."""
    from pydicom.sr.coding import Code

    scheme, value, meaning = segment.code or ("SCT", "52988006", "Lesion")
    return Code(value, scheme, short(meaning))


def _category(code: "Code") -> "Code":
    """Return what kind of thing a code is: a structure of the body, or else an abnormal one."""
    from pydicom.sr.codedict import codes

    groups = [getattr(codes, name) for name in _ANATOMY]
    known = {getattr(group, keyword) for group in groups for keyword in group.dir()}
    sct = codes.SCT
    return sct.AnatomicalStructure if code in known else sct.MorphologicallyAbnormalStructure


def _description(number: int, segment: Segment, algorithm: Algorithm) -> "SegmentDescription":
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    code = code_of(segment)
    return SegmentDescription(
        segment_number=number,
        segment_label=short(segment.label),
        segmented_property_category=_category(code),
        segmented_property_type=code,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=short(algorithm.name),
            family=codes.cid7162.ArtificialIntelligence,
            version=short(algorithm.version),
            source="segjax",
            parameters={"SHA-256": " ".join(algorithm.sha256)},
        ),
        display_color=CIELabColor.from_rgb(*segment.color),
    )


def _slice(series: Series, origin: Origin) -> "Dataset":
    """Return the first slice as if it were a file of its own, of whatever kind its file is."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian
    from pydicom.valuerep import DSfloat

    first, own = series.frames[0], origin.instance(series.frames[0])
    image = Dataset()
    image.update(origin.header)
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        if keyword in image:
            del image[keyword]
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = _MR_IMAGE, own.uid
    image.StudyInstanceUID, image.SeriesInstanceUID = own.study, own.series
    if "FrameOfReferenceUID" not in image:
        image.FrameOfReferenceUID = uid_of("frame of reference", own.series)
    image.Modality = first.modality or "OT"
    image.Rows, image.Columns = first.pixels.shape
    apart = _apart(series)
    numbers = {
        "PixelSpacing": first.spacing,
        "SliceThickness": (first.stated[1] or apart,),
        "SpacingBetweenSlices": (apart,),
        "ImagePositionPatient": first.position or (),
        "ImageOrientationPatient": first.orientation,
    }
    for keyword, values in numbers.items():
        texts = [DSfloat(value, auto_format=True) for value in values]
        setattr(image, keyword, texts if len(texts) > 1 else texts[0])
    return image


def _apart(series: Series) -> float:
    """Return the distance between slices along their normal, in mm."""
    along = heights(series.frames)
    steps = len(along) - 1
    return float(along[-1] - along[0]) / steps if steps else series.frames[0].thickness or 1.0


def _segmentation(
    planes: UInt8[np.ndarray, "slice row column"],
    series: Series,
    origin: Origin,
    algorithm: Algorithm,
    *,
    descriptions: Sequence["SegmentDescription"],
    uid: str,
    keep_empty: bool,
) -> "Segmentation":
    from highdicom import PlanePositionSequence
    from highdicom.seg import Segmentation

    name = short(algorithm.name)
    return Segmentation(
        source_images=[_slice(series, origin)],
        pixel_array=planes,
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=uid_of("series", uid),
        series_number=number_beside(series, 1),
        sop_instance_uid=uid,
        instance_number=1,
        **equipment(algorithm),
        content_label="SEGMENTATION",
        content_description=short(f"Made by {name}"),
        series_description=short(f"Segmentation by {name}"),
        plane_positions=[
            PlanePositionSequence("PATIENT", frame.position or ()) for frame in series.frames
        ],
        omit_empty_frames=not keep_empty,
    )


def _refer(made: "Segmentation", series: Series, sources: Sequence[tuple[Series, Origin]]) -> None:
    """Let a segmentation refer to its sources, and each of its frames to the slices there."""
    from pydicom import Dataset

    places = np.array([frame.position for frame in series.frames])
    for group in made.PerFrameFunctionalGroupsSequence:
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        k = int(np.linalg.norm(places - place, axis=1).argmin())
        derivation = Dataset()
        derivation.DerivationCodeSequence = [_coded("113076", "Segmentation")]
        derivation.SourceImageSequence = [
            _source(origin.instance(one.frames[k]), one.frames[k].index) for one, origin in sources
        ]
        group.DerivationImageSequence = [derivation]
    by_series: dict[str, list[Dataset]] = {}
    for _, origin in sources:
        for instance in origin.instances.values():
            by_series.setdefault(instance.series, []).append(_reference(instance))
    made.SourceImageSequence = [one for references in by_series.values() for one in references]
    made.ReferencedSeriesSequence = []
    for uid, references in by_series.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedInstanceSequence = uid, references
        made.ReferencedSeriesSequence.append(item)


def _reference(instance: Instance) -> "Dataset":
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.kind, instance.uid
    return item


def _source(instance: Instance, index: int) -> "Dataset":
    """Return the reference of a frame of a segmentation to the slice that it covers."""
    item = _reference(instance)
    if instance.has_frames:
        item.ReferencedFrameNumber = index + 1
    item.PurposeOfReferenceCodeSequence = [
        _coded("121322", "Source image for image processing operation")
    ]
    item.SpatialLocationsPreserved = "YES"
    return item


def _coded(value: str, meaning: str) -> "Dataset":
    from highdicom.sr import CodedConcept

    return CodedConcept(value, "DCM", meaning)
