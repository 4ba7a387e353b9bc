"""DICOM series as a scanner sends them, small, of a patient whose name must not get out."""

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)
from scipy.spatial.transform import Rotation

MARK = "Zorbulon"
"""In each value of the series that identifies the patient."""

SHAPE = (9, 7, 5)  # columns, rows, slices
SPACING = (0.5, 0.75)  # between rows, between columns
OBLIQUE = Rotation.from_euler("xyz", [10, -25, 40], degrees=True).as_matrix()
STEPS = {  # directions of columns and rows, and the step from a slice to the next one
    "axial": (np.eye(3), np.array([0.0, 0.0, 3.0])),
    "oblique": (OBLIQUE, 3.0 * OBLIQUE[:, 2]),
    "tilted": (np.eye(3), np.array([0.0, 1.0, 3.0])),
    "enhanced": (OBLIQUE, 3.0 * OBLIQUE[:, 2]),
}
KINDS = tuple(STEPS)


def write_made(folder: Path, kind: str, *, slices: int = SHAPE[2], **tags: object) -> Path:
    """Write a series of one of the kinds; its files are not in the order of its slices."""
    folder.mkdir(parents=True, exist_ok=True)
    directions, step = STEPS[kind]
    pixels = np.random.default_rng(0).integers(0, 900, (slices, SHAPE[1], SHAPE[0]), np.uint16)
    places = [np.array([10.0, -20.0, 30.0]) + k * step for k in range(slices)]
    common = _common() | tags
    if kind == "enhanced":
        return _write_enhanced(folder / "many.dcm", pixels, places, directions, common)
    for k, place in enumerate(places):
        one = _image(pixels[k], MRImageStorage, common)
        one.ImagePositionPatient, one.ImageOrientationPatient = _ds(place), _ds(directions.T[:2])
        one.PixelSpacing, one.SliceThickness = [*SPACING], 2.5
        one.InstanceNumber = k + 1
        one.save_as(folder / f"{(3 * k + 2) % slices:02d}.dcm", enforce_file_format=True)
    return folder


def _common() -> dict[str, object]:
    return {
        "PatientName": f"{MARK}^Zaphod",
        "PatientID": f"{MARK}-1",
        "PatientBirthDate": "19520311",
        "PatientSex": "O",
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "FrameOfReferenceUID": generate_uid(),
        "StudyDate": "20260102",
        "StudyTime": "101112",
        "AccessionNumber": MARK,
        "StudyID": "1",
        "StudyDescription": f"{MARK} head",
        "SeriesDescription": f"FLAIR {MARK}",
        "Modality": "MR",
        "SeriesNumber": 4,
    }


def _image(pixels: np.ndarray, kind: str, tags: dict[str, object]) -> Dataset:
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = kind
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    one.Rows, one.Columns = pixels.shape[-2:]
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
    one.PixelData = pixels.astype("<u2").tobytes()
    one["PixelData"].VR = "OW"
    for tag, value in tags.items():
        setattr(one, tag, value)
    return one


def _write_enhanced(path, pixels, places, directions, tags) -> Path:
    """Write the slices as frames of one file, the last one first."""
    one = _image(pixels[::-1], EnhancedMRImageStorage, tags)
    one.NumberOfFrames = len(places)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_item(PixelSpacing=[*SPACING], SliceThickness=2.5)]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=_ds(directions.T[:2]))]
    one.SharedFunctionalGroupsSequence = [shared]
    one.PerFrameFunctionalGroupsSequence = [
        _item(PlanePositionSequence=[_item(ImagePositionPatient=_ds(place))])
        for place in reversed(places)
    ]
    one.save_as(path, enforce_file_format=True)
    return path.parent


def _item(**values: object) -> Dataset:
    one = Dataset()
    for keyword, value in values.items():
        setattr(one, keyword, value)
    return one


def _ds(numbers: np.ndarray) -> list[float]:
    return [round(float(number), 8) for number in np.ravel(numbers)]
