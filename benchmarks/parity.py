"""Every deterministic step beside its peer, on real images: the largest difference.

    SEGJAX_DATA=... python benchmarks/parity.py [--json FILE] [--only WORD]

One row per step and image: the largest absolute difference to TorchIO, SimpleITK, SciPy or nibabel
over the peer's range of values, for a FLAIR of an MS patient (182×218×182 voxels) and a slice of
a meningioma (512×512 pixels). The limit is 1e-5; the program fails where a row is over it.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
import torchio
from scipy import ndimage

from segjax.data.io.formats import read_volume
from segjax.data.prepare import bias_field, histogram, intensity, spatial
from segjax.grid import reorient
from segjax.volume import Volume

LIMIT = 1e-5
LPS = np.diag([-1.0, -1.0, 1.0])
MASKS = {
    "all": None,
    "above-mean": torchio.ZNormalization.mean,
    "nonzero": lambda tensor: tensor != 0,
}
Rows = Iterator[tuple[str, str, np.ndarray, np.ndarray]]  # step, peer, ours, the peer's


# -- the same image for every library -----------------------------------------------------------


def in_torchio(volume: Volume) -> torchio.ScalarImage:
    data = np.ascontiguousarray(volume.data.astype(np.float32))
    if volume.spatial_dims == 3:
        return torchio.ScalarImage(tensor=torch.from_numpy(data[None]), affine=volume.affine)
    affine = np.eye(4)
    affine[:2, :2] = volume.affine[:2, :2]
    return torchio.ScalarImage(tensor=torch.from_numpy(data[None, ..., None]), affine=affine)


def from_torchio(image: torchio.ScalarImage, like: Volume) -> np.ndarray:
    data = image.numpy()[0]
    return data if like.spatial_dims == 3 else data[..., 0]


def in_sitk(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.data.astype(np.float32).T)
    image.SetSpacing(volume.spacing)
    if volume.spatial_dims == 3:
        direction = LPS @ volume.affine[:3, :3] / volume.spacing
        image.SetDirection(direction.ravel().tolist())
        image.SetOrigin((LPS @ volume.affine[:3, 3]).tolist())
    return image


def from_sitk(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image).T


# -- one function per group of steps ------------------------------------------------------------


def intensities(volume: Volume, _: list[Volume]) -> Rows:
    data, peer = volume.channels_last, in_torchio(volume)

    def of(transform):
        return from_torchio(transform(peer), volume)

    yield (
        "min-max",
        "TorchIO RescaleIntensity",
        intensity.min_max(data)[..., 0],
        of(torchio.RescaleIntensity((0, 1))),
    )
    yield (
        "rescale to [-1, 1]",
        "TorchIO RescaleIntensity",
        intensity.rescale(data, -1, 1)[..., 0],
        of(torchio.RescaleIntensity((-1, 1))),
    )
    for where, mask in MASKS.items():
        yield (
            f"z-score, {where}",
            "TorchIO ZNormalization",
            intensity.z_score(data, where=where)[..., 0],
            of(torchio.ZNormalization(masking_method=mask)),
        )
    low, high = np.percentile(data, (0.5, 99.5))
    clipped = intensity.clip_percentiles(data, 0.5, 99.5)
    yield (
        "clip to percentiles 0.5, 99.5",
        "TorchIO Clamp",
        clipped[..., 0],
        of(torchio.Clamp(float(low), float(high))),
    )
    yield (
        "clip, then rescale",
        "TorchIO RescaleIntensity(percentiles)",
        intensity.rescale(clipped, -1, 1)[..., 0],
        of(torchio.RescaleIntensity((-1, 1), percentiles=(0.5, 99.5))),
    )


def histograms(volume: Volume, others: list[Volume]) -> Rows:
    for where, mask in MASKS.items():
        marks = histogram.train_landmarks([volume, *others], where=where)
        expected = torchio_landmarks([volume, *others], mask)
        yield f"Nyúl landmarks, {where}", "TorchIO train", marks[0], expected
        transform = torchio.HistogramStandardization({"image": expected}, masking_method=mask)
        subject = transform(torchio.Subject(image=in_torchio(volume)))
        ours = histogram.standardize(volume.channels_last, marks, where=where)[..., 0]
        peer = from_torchio(subject["image"], volume)
        yield f"Nyúl standardisation, {where}", "TorchIO HistogramStandardization", ours, peer


def torchio_landmarks(volumes: list[Volume], mask: Callable | None) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{i}.nii") for i in range(len(volumes))]
        for volume, path in zip(volumes, paths, strict=True):
            in_torchio(volume).save(path)
        return torchio.HistogramStandardization.train(paths, masking_function=mask, progress=False)


def bias_fields(volume: Volume, _: list[Volume]) -> Rows:
    image = in_sitk(volume)
    mask = sitk.OtsuThreshold(image, 0, 1, 200)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    extent = np.multiply(volume.spatial_shape, volume.spacing)
    n4.SetNumberOfControlPoints([int(np.ceil(e / 200)) + 3 for e in extent])
    n4.SetMaximumNumberOfIterations([50] * 4)
    shrink = [4] * volume.spatial_dims
    n4.Execute(sitk.Shrink(image, shrink), sitk.Shrink(mask, shrink))
    field = from_sitk(sitk.Exp(n4.GetLogBiasFieldAsImage(image)))
    yield "N4 bias field", "SimpleITK", bias_field.estimate_bias_field(volume).data, field
    corrected = bias_field.correct_bias_field(volume).data
    yield "N4 corrected image", "SimpleITK", corrected, volume.data.astype(np.float32) / field


def orientations(volume: Volume, _: list[Volume]) -> Rows:
    if volume.spatial_dims == 2:
        return
    ours = reorient(volume, "RAS").data
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume.data, volume.affine))
    yield "reorient to RAS", "nibabel", ours, np.asarray(canonical.dataobj)
    peer = torchio.ToCanonical()(in_torchio(volume))
    yield "reorient to RAS", "TorchIO ToCanonical", ours, from_torchio(peer, volume)
    lps = sitk.DICOMOrient(in_sitk(volume), "LPS")
    yield "reorient to LPS", "SimpleITK", reorient(volume, "LPS").data, from_sitk(lps)


def resamplings(volume: Volume, _: list[Volume]) -> Rows:
    spacing = tuple(1.37 * s for s in volume.spacing)
    target = spatial.spacing_grid(volume, spacing)
    reference = in_sitk(Volume(np.zeros(target.shape, np.float32), target.affine))
    image = in_sitk(volume)
    if volume.spatial_dims == 2:
        image.SetOrigin((0.0, 0.0))
        reference.SetOrigin(target.affine[:2, 2].tolist())
        direction = volume.affine[:2, :2] / volume.spacing
        image.SetDirection(direction.ravel().tolist())
        reference.SetDirection(direction.ravel().tolist())
    for kind, peer in (("linear", sitk.sitkLinear), ("nearest", sitk.sitkNearestNeighbor)):
        ours = spatial.resample(volume, target, interpolation=kind).data
        expected = sitk.Resample(image, reference, sitk.Transform(volume.spatial_dims, 1), peer)
        yield f"resample × 1.37, {kind}", "SimpleITK", ours, from_sitk(expected)
    ours = spatial.resample(volume, target).data
    index = np.linalg.solve(volume.affine, target.affine)
    places = np.indices(target.shape, dtype=np.float64).reshape(volume.spatial_dims, -1)
    places = index[:-1, :-1] @ places + index[:-1, -1:]
    data = volume.data.astype(np.float64)
    expected = ndimage.map_coordinates(data, places, order=1, mode="nearest").reshape(target.shape)
    yield "resample × 1.37, linear", "SciPy map_coordinates", ours, expected
    if volume.spatial_dims == 3:
        peer = torchio.Resample(spacing)(in_torchio(volume))
        yield "resample × 1.37, linear", "TorchIO Resample", ours, from_torchio(peer, volume)


def shapes(volume: Volume, _: list[Volume]) -> Rows:
    shape = (192, 192, 224) if volume.spatial_dims == 3 else (400, 640)
    peer = torchio.CropOrPad((*shape, 1)[:3])(in_torchio(volume))
    ours = spatial.crop_or_pad(volume, shape).data
    yield f"crop or pad to {shape}", "TorchIO CropOrPad", ours, from_torchio(peer, volume)
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(sitk.Cast(in_sitk(volume) != 0, sitk.sitkUInt8))
    box = statistics.GetBoundingBox(1)
    rank = volume.spatial_dims
    expected = sitk.RegionOfInterest(in_sitk(volume), box[rank:], box[:rank])
    ours = spatial.crop_to_foreground(volume).data
    yield "crop to foreground", "SimpleITK bounding box", ours, from_sitk(expected)


GROUPS = (intensities, histograms, bias_fields, orientations, resamplings, shapes)


# -- the table ----------------------------------------------------------------------------------


def compare(ours: np.ndarray, peer: np.ndarray) -> float:
    if ours.shape != peer.shape:
        return float("inf")
    difference = np.abs(ours.astype(np.float64) - peer).max()
    return float(difference / (np.ptp(peer.astype(np.float64)) or 1.0))


def images(folder: Path) -> dict[str, tuple[Volume, list[Volume]]]:
    flairs = [
        read_volume(folder / "ms_lesions" / patient / "flair.nii.gz")
        for patient in ("patient07", "patient19")
    ]
    files = sorted((folder / "meningioma2d" / "images").glob("*.png"))[:4]
    slices = [read_volume(file) for file in files]
    return {"FLAIR": (flairs[0], flairs[1:]), "slice": (slices[0], slices[1:])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="part of a group's name")
    parser.add_argument("--machine", default="2 AMD EPYC cores, no GPU")
    arguments = parser.parse_args()
    rows = []
    print(f"{'step':36s}{'image':8s}{'peer':40s}{'difference':>11s}")
    for name, (volume, others) in images(Path(os.environ["SEGJAX_DATA"])).items():
        for group in (g for g in GROUPS if arguments.only in g.__name__):
            for step, peer, ours, expected in group(volume, others):
                difference = compare(ours, expected)
                row = {"step": step, "image": name, "peer": peer, "difference": difference}
                rows.append(row)
                print(f"{step:36s}{name:8s}{peer:40s}{difference:11.1e}", flush=True)
    print(f"{sum(row['difference'] <= LIMIT for row in rows)} of {len(rows)} within {LIMIT:g}")
    if arguments.json:
        names = ("numpy", "scipy", "SimpleITK", "torchio", "nibabel")
        versions = {name: version(name) for name in names}
        result = {"machine": arguments.machine, "limit": LIMIT, "versions": versions, "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return int(any(row["difference"] > LIMIT for row in rows))


if __name__ == "__main__":
    sys.exit(main())
