"""DICOM segmentations and structure sets that a viewer or a planning system would write."""

from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid


def write_segmentation(scan: Path, path: Path) -> None:
    """Write a segment, Lesion: a block in the middle of each slice of a series."""
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes

    slices = [dcmread(file) for file in sorted(scan.iterdir())]
    for slice_ in slices:  # highdicom copies these tags, which a scanner writes
        slice_.PatientBirthDate = slice_.PatientSex = slice_.AccessionNumber = ""
        slice_.StudyID = slice_.StudyDate = slice_.StudyTime = slice_.ReferringPhysicianName = ""
    block = np.zeros((len(slices), slices[0].Rows, slices[0].Columns), np.uint8)
    block[:, 10:14, 8:12] = 1
    described = SegmentDescription(
        segment_number=1,
        segment_label="Lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type="MANUAL",
    )
    Segmentation(
        source_images=slices,
        pixel_array=block,
        segmentation_type="BINARY",
        segment_descriptions=[described],
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="segjax",
        manufacturer_model_name="world",
        software_versions="0",
        device_serial_number="0",
    ).save_as(path)


def write_structures(scan: Path, path: Path) -> None:
    """Write a region, GTV: a square of 5 × 5 voxels in the middle slice of a series."""
    files = sorted(scan.iterdir())
    slice_ = dcmread(files[len(files) // 2])
    x, y, z = map(float, slice_.ImagePositionPatient)
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.Modality = "RTSTRUCT"
    roi, drawn, contour = Dataset(), Dataset(), Dataset()
    roi.ROINumber, roi.ROIName = 1, "GTV"
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
    corners = ((8, 10), (12, 10), (12, 14), (8, 14))
    contour.ContourData = [value for i, j in corners for value in (x + i, y + j, z)]
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, [contour]
    one.StructureSetROISequence, one.ROIContourSequence = [roi], [drawn]
    one.save_as(path, enforce_file_format=True)
