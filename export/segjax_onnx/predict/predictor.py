"""Masks from volumes, with onnxruntime alone."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Float32

from segjax.data.cases import Case
from segjax.data.io.formats import write_volume
from segjax.data.patches import grid_corners, sliding_window
from segjax.data.prepare.tilt import upright, warn_of_tilts
from segjax.data.seen import Sight, Span, intensity_spans
from segjax.data.tiles import padded_shape
from segjax.errors import InputError
from segjax.progress import track
from segjax.volume import Volume
from segjax_onnx.predict.doubts import Doubts
from segjax_onnx.predict.inputs import Affine, Image, check_missing, name_of, placed, read
from segjax_onnx.predict.metadata import ModelMetadata
from segjax_onnx.predict.network import Network, agreed, check_patches, find_files, open_network
from segjax_onnx.predict.outputs import (
    check_outputs,
    make_folder,
    output_files,
    removed_on_error,
    write_map,
)
from segjax_onnx.predict.pieces import Budget, Plan, plan
from segjax_onnx.predict.postprocess import LabelRule, check_rules, postprocess

_UPRIGHT = "; predict --resample gives an upright mask, which every viewer shows right"

_SESSIONS = 25e6  # bytes that opening the parts of a network takes, and their arena beside


@dataclass(frozen=True)
class _Window:
    """How a volume is cut into patches."""

    patch_size: tuple[int, ...]
    overlap: float


class Predictor:
    """Segments images with a network that `segjax export` wrote, or with several.

    Images go through the preprocessing that the file holds, patch by patch through the network,
    and back: masks lie on the grid of the image that was given. A 2D network takes volumes too,
    slice by slice along their third axis. Memory is bounded by the probabilities of one volume
    and two batches of patches. CUDA is used where onnxruntime offers it, else the CPU, which also
    goes on where a GPU fails, for want of memory above all.

    Several networks answer with the mean of their probabilities. They must have the same labels
    and channels; images are preprocessed once for all of one pipeline, and once for each other.

    Args:
        path: An ONNX file, the folder of a run or of a cross-validation (``fold0``, ``fold1``, …),
            the name of a model that comes with segjax, or several of these.
        threads: CPU threads; by default one per core that this process may use.
        patch_size: Size of the patches in voxels, multiples of ``metadata.size_multiple``; by
            default those of the training.
        overlap: Fraction of a patch shared with the next one, in [0, 1); by default the
            training's.
        batch_size: Patches per call; by default 1 on a CPU, where more only cost memory, and the
            training's on a GPU.
        providers: onnxruntime's execution providers, in order of preference; or ``"cpu"`` and
            ``"cuda"``.
        mirror_axes: Axes of the preprocessed image, from 0 on, along which patches are mirrored:
            the mean of all 2ⁿ copies is taken, in 2ⁿ times the time.
        memory: Gigabytes (10⁹ bytes) that the process may take, in which volumes go through local
            networks in one piece or in as many tiles as it takes; by default half of what is free.
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

    def __init__(  # noqa: PLR0913  # its users name them
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
        memory: float | None = None,
    ) -> None:
        networks = [
            open_network(file, threads=threads, providers=providers) for file in _files(path)
        ]
        self.metadata: ModelMetadata = agreed(networks)
        if patch_size is None:
            check_patches(networks)
        self._doubts = Doubts(strict)
        flips = _flips(self.metadata, mirror_axes)
        self._networks = tuple(replace(n, mirrored=axes) for axes in flips for n in networks)
        self._rules = self.metadata.postprocessing
        self._missing: tuple[str, ...] = ()
        self._memory = Budget(memory)
        default_batch = 1 if self.providers[0].startswith("CPU") else self.metadata.batch_size
        self._batch_size = _checked_batch_size(default_batch if batch_size is None else batch_size)
        window = _Window(
            _checked_patch_size(self.metadata, patch_size),
            _checked_overlap(self.metadata.overlap if overlap is None else overlap),
        )
        whole = patch_size is None and overlap is None and self.metadata.halo is not None
        self._window = None if whole else window

    @property
    def providers(self) -> tuple[str, ...]:
        """The execution providers in use, the preferred one first."""
        return tuple(self._networks[0].session.get_providers())

    @property
    def files(self) -> tuple[Path, ...]:
        """The ONNX files, each once."""
        return tuple(dict.fromkeys(Path(network.path) for network in self._networks))

    @property
    def postprocessing(self) -> tuple[LabelRule, ...]:
        """One rule for each label after the background; none: the most probable label.

        At first those that the file holds; others can be set.

        Raises:
            InputError: There are not as many rules as labels.

        Example:
            >>> predictor = Predictor("model.onnx")
            >>> predictor.postprocessing = [LabelRule(threshold=0.4, minimum_volume=14.1)]
            >>> predictor.predict("flair.nii.gz").data.shape
            (24, 28, 24)
        """
        return self._rules

    @postprocessing.setter
    def postprocessing(self, rules: Sequence[LabelRule]) -> None:
        check_rules(rules, len(self.metadata.labels))
        self._rules = tuple(rules)

    @property
    def missing(self) -> tuple[str, ...]:
        """Channels that the images lack, of those that the file says may be missing.

        At first none; others can be set. Images then have the other channels alone, in their
        order, and the network sees zeros in the place of these.

        Raises:
            InputError: A channel may not be missing, or all are.

        Example:
            >>> Predictor("model.onnx").missing
            ()
        """
        return self._missing

    @missing.setter
    def missing(self, names: Sequence[str]) -> None:
        check_missing(names, self.metadata)
        self._missing = tuple(dict.fromkeys(names))

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
            for a sigmoid network 1 where the probability is over 0.5, unless `postprocessing`
            says otherwise. Voxels outside the field of view of the preprocessing are background.

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
        return self._mask(self.probabilities(image, affine=affine))

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
        name, given = self._read(image, affine)
        return self._probabilities(given, name=name)

    def uncertainty(self, image: Image, *, affine: Affine | None = None) -> tuple[Volume, Volume]:
        """Compute how far the answers of several networks, or to mirrored images, differ.

        Args:
            image: As for `predict`.
            affine: As for `predict`.

        Returns:
            The probabilities, as `probabilities` gives them; and their spread ``(*spatial)``,
            float32 from 0 to 0.5: at each voxel the standard deviation √(Σ (qᵢ − q̄)² / n) of the
            n answers' probability qᵢ of the foreground, the sum of all labels but the background.
            Answers are those of each network to each mirrored copy, on the grid of the image.

        Raises:
            InputError: As `predict`; or if there is one answer alone.

        Example:
            >>> predictor = Predictor("model.onnx", mirror_axes=[0])
            >>> probabilities, spread = predictor.uncertainty("flair.nii.gz")
            >>> spread.data.shape, bool((spread.data <= 0.5).all())
            ((24, 28, 24), True)
        """
        self._check_several()
        name, given = self._read(image, affine)
        return self._with_spread(given, name=name)

    def predict_files(
        self,
        cases: Sequence[Case],
        out: str | Path,
        *,
        probabilities: bool = False,
        uncertainty: bool = False,
        overwrite: bool = False,
        resample: bool = False,
        format: str | None = None,
        desc: str | None = None,
    ) -> list[Path]:
        """Segment cases and write each mask under the name of its case.

        Args:
            cases: What to segment; `segjax.data.images.find_images` lists files and folders.
            out: The folder to write to, made if needed. Masks have the format of their images;
                those of NRRD images are ``.seg.nrrd``, with the names of the labels, those of
                MetaImages ``.nrrd``, and those of DICOM series ``.nii.gz``.
            probabilities: Whether to write ``NAME_probabilities`` too, labels last; those of PNG
                images are NPY files.
            uncertainty: Whether to write ``NAME_uncertainty`` too, the spread that `uncertainty`
                tells of.
            overwrite: Whether to replace files.
            resample: Whether tilted volumes are resampled to right angles first; their masks then
                lie on that upright grid.
            format: Suffix of all masks, one of :func:`segjax.data.io.formats.mask_suffixes`.
            desc: BIDS's entity of this name, where the folder is to be a derivative of BIDS.

        Returns:
            The masks' files. Each is written after the maps of its case, and none of a case that
            fails is left.

        Raises:
            InputError: As `predict` and `uncertainty`; or if files exist already, before any work.

        Example:
            >>> from segjax.data import find_images
            >>> images = find_images(["flair.nii.gz"])
            >>> Predictor("model.onnx").predict_files(images, "lesions")
            [PosixPath('lesions/flair.nii.gz')]
        """
        folder = make_folder(out)
        maps = {"probabilities": probabilities, "uncertainty": uncertainty}
        check_outputs(cases, folder, format=format, **maps, overwrite=overwrite, desc=desc)
        if uncertainty:
            self._check_several()
        jobs = [(case, output_files(case, folder, format, desc=desc)) for case in cases]
        for case, files in jobs if len(jobs) == 1 else track(jobs, "Segmenting"):
            image = read(case.images, self.metadata, self._missing)
            given = upright(image) if resample else image
            name = name_of(case.images)
            if uncertainty:
                probable, spread = self._with_spread(given, name=name)
            else:
                probable, spread = self._probabilities(given, name=name), None
            like = case.images[0] if given is image else None
            make_folder(files.mask.parent)
            with removed_on_error() as written:
                options: dict[str, Any] = {"like": like, "overwrite": overwrite}
                if probabilities:
                    written.append(write_map(probable, files.probabilities, **options))
                if spread is not None:
                    written.append(write_map(spread, files.uncertainty, **options))
                labels = dict(enumerate(self.metadata.labels[1:], start=1))
                write_volume(self._mask(probable), files.mask, segments=labels, **options)
        return [files.mask for _, files in jobs]

    def _read(self, image: Image, affine: Affine | None) -> tuple[str, Volume]:
        if isinstance(image, np.ndarray):
            image = placed(image, affine, self.metadata, self._missing)
        elif affine is not None:
            raise InputError(
                f"{name_of(image)}: has an affine of its own; give one with arrays only"
            )
        return name_of(image), read(image, self.metadata, self._missing)

    def _check_several(self) -> None:
        if len(self._networks) == 1:
            raise InputError(
                "uncertainty is how far several answers differ, and one network gives one: name "
                "the folder of a cross-validation, more networks by --with, or --mirror 0 (in "
                "Python: several paths, or mirror_axes)"
            )

    def _mask(self, probabilities: Volume) -> Volume:
        mask = postprocess(probabilities.data, self._rules, probabilities.affine)
        return probabilities.with_data(mask)

    def _probabilities(self, given: Volume, *, name: str) -> Volume:
        mean, seen = np.zeros(()), 0
        for count, answer in self._answers(given, name, apart=False):
            seen += count
            mean = answer if seen == count else mean + np.float32(count / seen) * (answer - mean)
        return given.with_data(mean)

    def _with_spread(self, given: Volume, *, name: str) -> tuple[Volume, Volume]:
        """Return mean and spread of the answers, by Welford's sums, which lose no digits."""
        answers = (answer for _, answer in self._answers(given, name, apart=True))
        mean = next(answers)
        squares = np.zeros(mean.shape[:-1], np.float32)
        for seen, answer in enumerate(answers, start=2):
            off = _foreground(answer) - _foreground(mean)
            mean = mean + (answer - mean) / np.float32(seen)
            squares += off * (_foreground(answer) - _foreground(mean))
        spread = np.sqrt(np.maximum(squares, 0) / np.float32(len(self._networks)))
        return given.with_data(mean), given.with_data(spread)

    def _answers(
        self, given: Volume, name: str, *, apart: bool
    ) -> Iterator[tuple[int, Float32[np.ndarray, "*spatial label"]]]:
        """Yield answers on the given grid, and of how many networks each is the mean.

        Those of one preprocessing answer together, or apart.
        """
        warn_of_tilts({name: given.affine}, _UPRIGHT)
        for networks in self._by_pipeline():
            pipeline = networks[0].pipeline
            try:
                processed, grids = pipeline.trace(given)
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
            processed = self._without_missing(processed)
            sight = Sight(grids[0], grids[-1], self._spans(processed.data))
            for network in networks:
                if not network.mirrored:
                    self._doubts.say(name, network, sight)
            for some in [[network] for network in networks] if apart else [networks]:
                predicted = processed.with_data(self._predict_patches(processed.data, some))
                yield len(some), pipeline.restore(predicted, given, grids=grids).data

    def _without_missing(self, processed: Volume) -> Volume:
        """Let the channels that are missing be 0 after the preprocessing, too."""
        if not self._missing:
            return processed
        there = np.array([name not in self._missing for name in self.metadata.channels])
        return processed.with_data(np.where(there, processed.data, np.float32(0)))

    def _spans(self, image: Float32[np.ndarray, "*spatial channel"]) -> tuple[Span, ...]:
        """Return the spans of intensities; of channels that are missing NaN, which none doubts."""
        spans = zip(self.metadata.channels, intensity_spans(image), strict=True)
        unknown = (math.nan, math.nan)
        return tuple(unknown if name in self._missing else span for name, span in spans)

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

    def _predict_patches(
        self,
        image: Float32[np.ndarray, "*spatial channel"],
        networks: Sequence[Network],
    ) -> Float32[np.ndarray, "*spatial label"]:
        """Slide over the image; a 2D network sees slices of a volume as patches of depth 1."""
        if self.metadata.inside:
            return self._run(networks, image[np.newaxis])[0]
        window = self._window
        if window is None:
            return self._predict_whole(image, networks)
        depth = (1,) * (image.ndim - 1 - self.metadata.spatial_dims)
        patch_size = window.patch_size + depth
        count = len(grid_corners(image.shape[:-1], patch_size, window.overlap))
        batch_size = min(self._batch_size, count)
        calls = range(math.ceil(count / batch_size))
        unit = "patch" if batch_size == 1 else "batch"
        of_air: dict[bytes, np.ndarray] = {}
        one_at_a_time = Lock()

        def answer(patches: Float32[np.ndarray, "batch *patch channel"]) -> np.ndarray:
            """Run the networks, once for all windows of one and the same value."""
            value = patches.reshape(-1, patches.shape[-1])[0]
            if (patches != value).any():
                return self._run(networks, patches)
            with one_at_a_time:
                if (key := value.tobytes()) not in of_air:
                    of_air[key] = self._run(networks, patches)
                return of_air[key]

        at_once = min(network.at_once for network in networks)
        with (
            closing(track(calls, "Predicting", unit=unit)) as counter,
            _beside(answer, at_once) as promised,
        ):

            def ask(patches: Float32[np.ndarray, "batch *patch channel"]) -> _Promise:
                next(counter)
                return promised(patches)

            return sliding_window(
                image,
                ask,
                patch_size=patch_size,
                overlap=window.overlap,
                batch_size=batch_size,
                window=self.metadata.window.weights(patch_size),
            )

    def _predict_whole(
        self,
        image: Float32[np.ndarray, "*spatial channel"],
        networks: Sequence[Network],
    ) -> Float32[np.ndarray, "*spatial label"]:
        """Take the image through networks in one piece, or in tiles that give the same."""
        plans = [self._plan(network.metadata, image) for network in networks]
        slices = math.prod(image.shape[self.metadata.spatial_dims : -1])
        count = sum(plan.calls for plan in plans) * math.ceil(slices / self._batch_size)
        with closing(track(range(count), "Predicting", unit="part")) as counter:
            total: Any = np.float32(0)
            for network, plan in zip(networks, plans, strict=True):
                tick = partial(next, counter, None)
                answer = network.run_whole(image, plan, batch_size=self._batch_size, tick=tick)
                total = answer if len(networks) == 1 else total + answer
        return total / np.float32(len(networks)) if len(networks) > 1 else total

    def _plan(
        self, metadata: ModelMetadata, image: Float32[np.ndarray, "*spatial channel"]
    ) -> Plan:
        """Choose how a volume goes through a network in the memory that is left."""
        plane = image.shape[: metadata.spatial_dims]
        sizes = padded_shape(plane, metadata.size_multiple, metadata.patch_size)
        answer = 4 * metadata.out_channels * math.prod(image.shape[:-1])
        others = _SESSIONS + 2 * image.nbytes + answer * (len(self._networks) > 1)
        room = self._memory.left(others)  # beside the image, and the mean of several answers
        chosen = plan(metadata, sizes, memory=room)
        self._memory.check(chosen.memory, room)
        return chosen

    def _run(
        self, networks: Sequence[Network], patches: Float32[np.ndarray, "batch *patch channel"]
    ) -> Float32[np.ndarray, "batch *patch label"]:
        """Average over networks."""
        outputs = (network.run(patches) for network in networks)
        total = next(outputs)
        for output in outputs:
            total = total + output
        return total / np.float32(len(networks)) if len(networks) > 1 else total


@dataclass(frozen=True)
class _Promise:
    """An array that another thread computes."""

    result: Future[np.ndarray]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.result.result(), dtype)


@contextmanager
def _beside(
    function: Callable[[np.ndarray], np.ndarray], threads: int
) -> Iterator[Callable[[np.ndarray], _Promise]]:
    """Yield a function that is computed in threads, so that its results are used meanwhile."""
    workers = ThreadPoolExecutor(threads)
    try:
        yield lambda patches: _Promise(workers.submit(function, patches))
    finally:
        workers.shutdown(cancel_futures=True)


def _foreground(
    probabilities: Float32[np.ndarray, "*spatial label"],
) -> Float32[np.ndarray, "*spatial"]:
    if probabilities.shape[-1] == 1:
        return probabilities[..., 0]
    return probabilities[..., 1:].sum(axis=-1)


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
