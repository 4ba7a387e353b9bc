"""The folder in which the code of the pages and docstrings runs: small synthetic images.

``brains/``, ``patients/``, ``bids/``, ``slices/``, ``scan/`` (DICOM), ``flair.nii.gz``,
``t1.nii.gz``, ``lesions.nii.gz``, two visits ``2023/`` and ``2024/``, ``slice.png``, the label
objects ``lesions.dcm`` and ``structures.dcm``, and what segjax made of them: ``cache/``, ``run/``,
``model.onnx``, ``masks/`` and ``sweep/``.
"""

import csv
import sys
from contextlib import chdir
from functools import partial
from pathlib import Path

import numpy as np

from segjax.cli import main
from segjax.data import (
    Case,
    Dataset,
    Pipeline,
    Reorient,
    ZScore,
    find_cases,
    preprocess,
    split_cases,
)
from segjax.data.io.formats import write_volume
from segjax.data.phantom.dataset import phantom, write_dataset
from segjax.files import write_json
from segjax.models import UNet
from segjax.registry import register
from segjax.train import Loss, SweepConfig, Term, TrainConfig, sweep
from tests.docs.label_objects import write_segmentation, write_structures

SHAPE = (24, 28, 24)
SHORT = ("--epochs", "1", "--batch-size", "2", "--patch-size", "16", "16", "16")


def make_world(folder: Path) -> None:
    """Fill an empty folder."""
    write_dataset(folder / "brains", count=5, shape=SHAPE)
    write_dataset(folder / "slices", count=12, shape=(48, 48), kind="meningioma")
    _patients(folder / "patients")
    _bids(folder / "bids")
    _groups(folder / "slices" / "images", folder / "patients.csv")
    image, label = phantom(9, shape=SHAPE)
    write_volume(image, folder / "flair.nii.gz")
    write_volume(image.with_data(_inverted(image.data)), folder / "t1.nii.gz")
    write_volume(label, folder / "lesions.nii.gz")
    for seed, visit in enumerate(("2023", "2024")):
        _visit(folder / visit, seed)
    picture = sorted((folder / "slices" / "images").iterdir())[0]
    (folder / f"slice{picture.suffix}").write_bytes(picture.read_bytes())
    write_scan(folder / "scan")
    write_segmentation(folder / "scan", folder / "lesions.dcm")
    write_structures(folder / "scan", folder / "structures.dcm")
    with chdir(folder):
        preprocess(find_cases("brains"), Pipeline((Reorient("RAS"), ZScore())), "cache")
        _command("train", "--data", "brains", "--model", "mpunet++", "--out", "run", *SHORT)
        (folder / "model.onnx").write_bytes((folder / "run" / "model.onnx").read_bytes())
        _command("predict", "model.onnx", "brains/images", "-o", "masks")
        _sweep(find_cases("slices"), "sweep")


def write_scan(folder: Path) -> None:
    """Write a DICOM series of MR slices."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    image, _ = phantom(9, shape=SHAPE)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    folder.mkdir()
    for k in range(SHAPE[2]):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        slice_ = Dataset()
        slice_.file_meta = meta
        slice_.SOPClassUID = MRImageStorage
        slice_.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        slice_.SeriesInstanceUID, slice_.StudyInstanceUID = series, study
        slice_.FrameOfReferenceUID = frame
        slice_.Modality, slice_.SeriesDescription = "MR", "FLAIR"
        slice_.PatientName, slice_.PatientID = "Phantom^Nine", "9"
        slice_.SeriesNumber, slice_.InstanceNumber = 3, k + 1
        slice_.Rows, slice_.Columns = SHAPE[1], SHAPE[0]
        slice_.PixelSpacing, slice_.SliceThickness = [1.0, 1.0], 1.0
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.ImagePositionPatient = [0.0, 0.0, float(k)]
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated = slice_.BitsStored = 16
        slice_.HighBit, slice_.PixelRepresentation = 15, 0
        pixels = np.clip(image.data[..., k].T, 0, 60000).astype("<u2")
        slice_.PixelData = pixels[::-1, ::-1].tobytes()
        slice_.save_as(folder / f"IM{k:04d}.dcm", enforce_file_format=True)


def _sweep(dataset: Dataset[Case], out: str) -> None:
    split = split_cases([case.name for case in dataset.cases], test=0.2)
    register("network", "small-k3", partial(UNet, channels=(4, 8), strides=(2,)))
    base = TrainConfig("small-k3", (32, 32), epochs=1, loss=Loss((Term("tversky"),)))
    sweep(SweepConfig(base, (3,), (0.5,), (0,)), dataset, split, out)


def _visit(folder: Path, seed: int) -> None:
    """Write the image of one head, with noise of its own."""
    folder.mkdir()
    head, _ = phantom(3, shape=(48, 56, 48), spacing=3.5)
    noise = np.random.default_rng(seed).normal(0, 5, head.data.shape)
    noisy = np.where(head.data > 0, head.data + noise, 0).astype(np.float32)
    write_volume(head.with_data(noisy), folder / "flair.nii.gz")


def _patients(folder: Path) -> None:
    for number in range(1, 6):
        image, label = phantom(20 + number, shape=SHAPE)
        own = folder / f"{number:02d}"
        own.mkdir(parents=True)
        write_volume(image, own / "flair.nii.gz")
        write_volume(image.with_data(_inverted(image.data)), own / "t1.nii.gz")
        write_volume(label, own / "lesions.nii.gz")


def _bids(folder: Path) -> None:
    for number, name in enumerate(("sub-01_ses-01", "sub-01_ses-02", "sub-02_ses-01"), 30):
        image, label = phantom(number, shape=SHAPE)
        home = Path(*name.split("_"), "anat")
        for place in (folder, folder / "derivatives" / "manual"):
            (place / home).mkdir(parents=True)
        write_volume(image, folder / home / f"{name}_FLAIR.nii.gz")
        inverted = image.with_data(_inverted(image.data))
        write_volume(inverted, folder / home / f"{name}_acq-3d_T1w.nii.gz")
        mask = folder / "derivatives" / "manual" / home / f"{name}_label-lesion_mask.nii.gz"
        write_volume(label, mask)
    about = {"Name": "Phantoms", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    write_json(about, folder / "dataset_description.json")


def _inverted(data: np.ndarray) -> np.ndarray:
    return np.where(data > 0, data.max() - data, 0).astype(data.dtype)


def _groups(images: Path, path: Path) -> None:
    names = sorted(file.name.split(".")[0] for file in images.iterdir())
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["case", "patient"])
        table.writerows((name, f"patient{i // 2}") for i, name in enumerate(names))


def _command(*arguments: str) -> None:
    if main(arguments) != 0:
        raise RuntimeError(f"segjax {' '.join(arguments)} failed")


if __name__ == "__main__":
    make_world(Path(sys.argv[1]))
