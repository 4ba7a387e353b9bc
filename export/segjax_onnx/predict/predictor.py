"""Masks from volumes, with onnxruntime alone."""

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from segjax.data.cases import Case
from segjax.data.io.formats import write_volume
from segjax.data.patches import grid_corners, sliding_window, to_mask
from segjax.data.prepare.tilt import upright, warn_of_tilts
from segjax.data.seen import Sight, intensity_spans
from segjax.errors import InputError
from segjax.progress import track
from segjax.volume import Volume
from segjax_onnx.predict.doubts import Doubts
from segjax_onnx.predict.inputs import Affine, Image, name_of, placed, read
from segjax_onnx.predict.metadata import ModelMetadata
from segjax_onnx.predict.network import Network, agreed, check_patches, find_files, open_network
from segjax_onnx.predict.outputs import check_outputs, make_folder, output_files, write_map

_UPRIGHT = "; predict --resample gives an upright mask, which every viewer shows right"


@dataclass(frozen=True)
class _Window:
    """How a volume is cut into patches."""

    patch_size: tuple[int, ...]
    overlap: float
    batch_size: int


class Predictor:
    """Segments images with a network that `segjax export` wrote, or with several.

    Images go through the preprocessing that the file holds, patch by patch through the network,
    and back: masks lie on the grid of the image that was given. A 2D network takes volumes too,
    slice by slice along their third axis. Memory is bounded by the probabilities of one volume
    and one batch of patches. CUDA is used where onnxruntime offers it, else the CPU, which also
    goes on where a GPU fails, for want of memory above all.

    Several networks answer with the mean of their probabilities. They must have the same labels
    and channels; images are preprocessed once for all of one pipeline, and once for each other.

    Args:
        path: An ONNX file, the folder of a run or of a cross-validation (``fold0``, ``fold1``, …),
            or several of these.
        threads: CPU threads; by default one per core that this process may use.
        patch_size: Size of the patches in voxels, multiples of ``metadata.size_multiple``; by
            default those of the training.
        overlap: Fraction of a patch shared with the next one, in [0, 1); by default the
            training's.
        batch_size: Patches per call; by default 1 on a CPU, where more only cost memory, and the
            training's on a GPU.
        providers: onnxruntime's execution providers, in order of preference.
        mirror_axes: Axes of the preprocessed image, from 0 on, along which patches are mirrored:
            the mean of all 2ⁿ copies is taken, in 2ⁿ times the time.
        strict: Refuse volumes whose voxels or intensities are far, over 1.5 times, from those of
            the training, instead of warning; and files that do not tell what these were.

    Warns:
        UserWarning: When an image is segmented that is far from those of the training, or tilted;
            or a GPU cannot be used, or fails.

    Raises:
        InputError: If a file is no network of segjax, the networks do not belong together, an
            option does not fit, or onnxruntime is not installed.

    Example:
        >>> predictor = Predictor("model.onnx")
        >>> mask = predictor.predict("flair.nii.gz")
        >>> mask.data.dtype, mask.spatial_shape
        (dtype('uint8'), (24, 28, 24))
    """

    def __init__(
        self,
        path: str | Path | Sequence[str | Path],
        *,
        threads: int | None = None,
        patch_size: Sequence[int] | None = None,
        overlap: float | None = None,
        batch_size: int | None = None,
        providers: Sequence[str] | None = None,
        mirror_axes: Sequence[int] = (),
        strict: bool = False,
    ) -> None:
        self._networks = tuple(
            open_network(file, threads=threads, providers=providers) for file in _files(path)
        )
        self.metadata: ModelMetadata = agreed(self._networks)
        if patch_size is None:
            check_patches(self._networks)
        self._doubts = Doubts(strict)
        self._flips = _flips(self.metadata, mirror_axes)
        default_batch = 1 if self.providers[0].startswith("CPU") else self.metadata.batch_size
        self._window = _Window(
            _checked_patch_size(self.metadata, patch_size),
            _checked_overlap(self.metadata.overlap if overlap is None else overlap),
            _checked_batch_size(default_batch if batch_size is None else batch_size),
        )

    @property
    def providers(self) -> tuple[str, ...]:
        """The execution providers in use, the preferred one first."""
        return tuple(self._networks[0].session.get_providers())

    def predict(self, image: Image, *, affine: Affine | None = None) -> Volume:
        """Segment one image.

        Args:
            image: A file, one file per channel, a volume, or an array ``(*spatial)`` or
                ``(*spatial, channel)``, whose channels go last.
            affine: Of an array: voxel index -> mm (RAS+), ``(4, 4)``, or ``(3, 3)`` in 2D. By
                default the identity: voxels of 1 mm, along x to the right, y to the front and z
                to the head.

        Returns:
            The label of every voxel, uint8, on the grid of the image: the most probable one, or
            for a sigmoid network 1 where the probability is over 0.5. Voxels outside the field
            of view of the preprocessing are background.

        Raises:
            InputError: If the image cannot be read, has the wrong number of axes or channels, or
                holds NaN or infinite values; or an affine is given with what has one.

        Example:
            >>> from segjax import read
            >>> predictor = Predictor("model.onnx")
            >>> mask = predictor.predict(["flair.nii.gz"])  # a file for each channel
            >>> array = read("flair.nii.gz").data
            >>> predictor.predict(array, affine=np.diag([1, 1, 1.5, 1.0])).spacing
            (1.0, 1.0, 1.5)
        """
        return _mask(self.probabilities(image, affine=affine))

    def probabilities(self, image: Image, *, affine: Affine | None = None) -> Volume:
        """Compute the probability of every label at every voxel of an image.

        Args:
            image: As for `predict`.
            affine: As for `predict`.

        Returns:
            Probabilities ``(*spatial, label)``, float32, on the grid of the image; they sum to 1.
            A sigmoid network has one, that of label 1.

        Raises:
            InputError: As `predict`.

        Example:
            >>> Predictor("model.onnx").probabilities("flair.nii.gz").channels
            2
        """
        if isinstance(image, np.ndarray):
            image = placed(image, affine, self.metadata)
        elif affine is not None:
            raise InputError(
                f"{name_of(image)}: has an affine of its own; give one with arrays only"
            )
        return self._probabilities(read(image, self.metadata), name=name_of(image))

    def predict_files(
        self,
        cases: Sequence[Case],
        out: str | Path,
        *,
        probabilities: bool = False,
        overwrite: bool = False,
        resample: bool = False,
        format: str | None = None,
    ) -> list[Path]:
        """Segment cases and write each mask under the name of its case.

        Args:
            cases: What to segment; `segjax.data.images.find_images` lists files and folders.
            out: The folder to write to, made if needed. Masks have the format of their images;
                those of NRRD images are ``.seg.nrrd``, with the names of the labels, those of
                MetaImages ``.nrrd``, and those of DICOM series ``.nii.gz``.
            probabilities: Whether to write ``NAME_probabilities`` too, labels last; those of PNG
                images are NPY files.
            overwrite: Whether to replace files.
            resample: Whether tilted volumes are resampled to right angles first; their masks then
                lie on that upright grid.
            format: Suffix of all masks, one of :func:`segjax.data.io.formats.mask_suffixes`.

        Returns:
            The masks' files.

        Raises:
            InputError: As `predict`; or if files exist already, before any work.

        Example:
            >>> from segjax.data import find_images
            >>> images = find_images(["flair.nii.gz"])
            >>> Predictor("model.onnx").predict_files(images, "lesions")
            [PosixPath('lesions/flair.nii.gz')]
        """
        folder = make_folder(out)
        check_outputs(
            cases, folder, format=format, probabilities=probabilities, overwrite=overwrite
        )
        outputs = [output_files(case, folder, format) for case in cases]
        jobs = list(zip(cases, outputs, strict=True))
        for case, (mask, map_) in jobs if len(jobs) == 1 else track(jobs, "Segmenting"):
            image = read(case.images, self.metadata)
            given = upright(image) if resample else image
            probable = self._probabilities(given, name=name_of(case.images))
            like = case.images[0] if given is image else None
            options: dict[str, Any] = {"like": like, "overwrite": overwrite}
            labels = dict(enumerate(self.metadata.labels[1:], start=1))
            write_volume(_mask(probable), mask, segments=labels, **options)
            if probabilities:
                write_map(probable, map_, **options)
        return [mask for mask, _ in outputs]

    def _probabilities(self, given: Volume, *, name: str) -> Volume:
        warn_of_tilts({name: given.affine}, _UPRIGHT)
        first, *others = self._by_pipeline()
        data = self._answer(given, name, first)
        if others:
            data = data * np.float32(len(first) / len(self._networks))
        for networks in others:
            share = np.float32(len(networks) / len(self._networks))
            data += share * self._answer(given, name, networks)
        return given.with_data(data)

    def _by_pipeline(self) -> list[list[Network]]:
        """Return the networks, those together that want the same preprocessing."""
        groups: list[list[Network]] = []
        for network in self._networks:
            for group in groups:
                if group[0].pipeline == network.pipeline:
                    group.append(network)
                    break
            else:
                groups.append([network])
        return groups

    def _answer(
        self, given: Volume, name: str, networks: Sequence[Network]
    ) -> Float32[np.ndarray, "*spatial label"]:
        """Return the mean probabilities of networks of one preprocessing, on the given grid."""
        pipeline = networks[0].pipeline
        try:
            processed, grids = pipeline.trace(given)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        sight = Sight(grids[0], grids[-1], intensity_spans(processed.data))
        for network in networks:
            self._doubts.say(name, network, sight)
        patches = self._predict_patches(processed.data, networks)
        predicted = processed.with_data(patches)
        return pipeline.restore(predicted, given, grids=grids).data

    def _predict_patches(
        self,
        image: Float32[np.ndarray, "*spatial channel"],
        networks: Sequence[Network],
    ) -> Float32[np.ndarray, "*spatial label"]:
        """Slide over the image; a 2D network sees slices of a volume as patches of depth 1."""
        depth = (1,) * (image.ndim - 1 - self.metadata.spatial_dims)
        patch_size = self._window.patch_size + depth
        count = len(grid_corners(image.shape[:-1], patch_size, self._window.overlap))
        batch_size = min(self._window.batch_size, count)
        calls = range(math.ceil(count / batch_size))
        unit = "patch" if batch_size == 1 else "batch"
        with closing(track(calls, "Predicting", unit=unit)) as counter:
            return sliding_window(
                image,
                lambda patches: (next(counter), self._run(networks, patches))[1],
                patch_size=patch_size,
                overlap=self._window.overlap,
                batch_size=batch_size,
            )

    def _run(
        self, networks: Sequence[Network], patches: Float32[np.ndarray, "batch *patch channel"]
    ) -> Float32[np.ndarray, "batch *patch label"]:
        """Average over networks and mirrored copies."""
        outputs = (
            np.flip(network.run(np.flip(patches, axes)), axes)
            for axes in self._flips
            for network in networks
        )
        total = next(outputs)
        for output in outputs:
            total = total + output
        return total / np.float32(len(networks) * len(self._flips))


def _mask(probabilities: Volume) -> Volume:
    return probabilities.with_data(to_mask(probabilities.data))


def _files(path: str | Path | Sequence[str | Path]) -> list[str | Path]:
    listed = [path] if isinstance(path, str | Path) else path
    files = [file for one in listed for file in find_files(one)]
    if not files:
        raise InputError("no network given: name at least one ONNX file")
    return files


def _flips(metadata: ModelMetadata, mirror_axes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the axes of a batch of patches to flip, for every mirrored copy."""
    axes = sorted(set(mirror_axes))
    if wrong := [axis for axis in axes if not 0 <= axis < metadata.spatial_dims]:
        raise InputError(
            f"mirror axis {wrong[0]}: {metadata.model} has axes 0 to {metadata.spatial_dims - 1}"
        )
    counts = range(len(axes) + 1)
    return tuple(tuple(a + 1 for a in some) for n in counts for some in combinations(axes, n))


def _checked_patch_size(metadata: ModelMetadata, wanted: Sequence[int] | None) -> tuple[int, ...]:
    patch_size = metadata.patch_size if wanted is None else tuple(wanted)
    multiple, rank = metadata.size_multiple, metadata.spatial_dims
    if len(patch_size) != rank or any(n < 1 or n % multiple for n in patch_size):
        raise InputError(
            f"patch size {patch_size}: {metadata.model} takes {rank} multiples of {multiple}"
        )
    return patch_size


def _checked_overlap(overlap: float) -> float:
    if not 0 <= overlap < 1:
        raise InputError(f"overlap {overlap}: give a fraction of a patch, from 0 to below 1")
    return overlap


def _checked_batch_size(batch_size: int) -> int:
    if batch_size < 1:
        raise InputError(f"batch size {batch_size}: give a number of at least 1")
    return batch_size
