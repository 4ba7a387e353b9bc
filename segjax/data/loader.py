"""Draw batches of training patches, from cases in memory or in a cache on disk."""

import copy
import math
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from segjax.data.augment.transform import (
    Parameters,
    Transform,
    apply_all,
    draw_all,
    for_spacing,
    measures_in_mm,
)
from segjax.data.loaded import LoadedCase, TrainingCase
from segjax.data.patches import draw_corner, extract_patch
from segjax.errors import InputError

__all__ = ["Batch", "Loader", "PatchDraw", "Sampling", "prefetch"]

Batch = tuple[Float32[np.ndarray, "batch *patch channel"], UInt8[np.ndarray, "batch *patch"]]
"""Images and labels of one training step."""

T_co = TypeVar("T_co", covariant=True)

_ALL = slice(None)


@runtime_checkable
class Batches(Protocol[T_co]):
    """What gives the batch of any step, as a :class:`Loader` does."""

    def batch(self, step: int, /) -> T_co:
        """Return the batch of one training step."""
        ...


@dataclass(frozen=True)
class Sampling:
    """How patches are drawn.

    Attributes:
        patch_size: In voxels, one number per axis of the cases; ``(x, y, 1)`` draws slices.
        batch_size: Patches per batch.
        foreground: Probability that a patch is drawn around a foreground voxel, in [0, 1]; voxels
            that count for nothing (255) are none.
        patches_per_case: Patches of every case in an epoch.

    Example:
        >>> Sampling((64, 64, 64), batch_size=2).foreground
        0.5
    """

    patch_size: tuple[int, ...]
    batch_size: int
    foreground: float = 0.5
    patches_per_case: int = 1

    def __post_init__(self) -> None:
        if min(*self.patch_size, self.batch_size, self.patches_per_case) < 1:
            raise InputError(f"{self}: sizes and counts must be positive")
        if not 0 <= self.foreground <= 1:
            raise InputError(f"foreground {self.foreground} is no probability in [0, 1]")


@dataclass(frozen=True, eq=False)
class PatchDraw:
    """All that chance decides about one patch.

    Attributes:
        case: Index of the case.
        corner: Index of the patch's first voxel; negative where the patch begins before the case.
        parameters: Of every transform; None where it is not applied.
    """

    case: int
    corner: tuple[int, ...]
    parameters: tuple[Parameters | None, ...]


class Loader:
    """Batches of patches as a pure function of seed and step, so that resuming needs no state.

    Every epoch draws every case ``patches_per_case`` times, in an order that depends on seed and
    epoch; the last batch of an epoch is filled up from its beginning. Corners and augmentations
    of a patch depend on seed, epoch, case, and how often the case was drawn in the epoch before.

    Of cached cases only the pages that a patch lies on are read, and of the list of foreground
    voxels only one; all that the loader keeps of them is their names, folders, shapes and spacings,
    however many they are. The batch is the same, bit by bit, as from the same cases in memory.

    Transforms that measure in mm, and have no spacing of their own, take that of the case.

    Args:
        cases: The cases to draw from, all of one rank and number of channels.
        sampling: How patches are drawn.
        augment: Transforms, applied in order to every patch.
        seed: Any number that is not negative.
        rows: Which patches of each batch to make; the others are those of other hosts.

    Raises:
        InputError: Where there is no case, or patch size, channels or cases do not fit together.

    Example:
        >>> from segjax.data.loaded import LoadedCase
        >>> from segjax.data.phantom.dataset import phantom
        >>> image, label = phantom(0, shape=(32, 32))
        >>> case = LoadedCase("head", image.channels_last, label.data, image, label)
        >>> loader = Loader([case], Sampling((16, 16), batch_size=2))
        >>> [array.shape for array in loader.batch(0)]
        [(2, 16, 16, 1), (2, 16, 16)]
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        sampling: Sampling,
        *,
        augment: tuple[Transform, ...] = (),
        seed: int = 0,
        rows: slice = _ALL,
    ) -> None:
        self.cases = tuple(cases)
        self.sampling = sampling
        self.augment = augment
        self.seed = seed
        self._places = range(sampling.batch_size)[rows]
        self.shapes, self.channels = _check_cases(cases, sampling)
        in_mm = any(measures_in_mm(transform) for transform in augment)
        self.spacings = [_spacing(case) if in_mm else () for case in cases]
        self._transforms = {s: for_spacing(augment, s) for s in set(self.spacings)}

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches after which every case was drawn ``patches_per_case`` times."""
        return -(-len(self.cases) * self.sampling.patches_per_case // self.sampling.batch_size)

    @property
    def nbytes(self) -> int:
        """Memory that the cases take, and once more in every process that gets a copy of them.

        Cached ones, which stay on the disk, take none.
        """
        loaded = (case for case in self.cases if isinstance(case, LoadedCase))
        arrays = ((c.image, c.label, c.raw_label.data, c.volume.data) for c in loaded)
        return sum(array.nbytes for case in arrays for array in case)

    def batch(self, step: int) -> Batch:
        """Draw, cut and augment the batch of one training step.

        Args:
            step: Number of the step, counted from 0 over all epochs.

        Returns:
            Images ``(batch, *patch, channel)`` float32 and labels ``(batch, *patch)`` uint8.
        """
        shape = (len(self._places), *self.sampling.patch_size)
        images, labels = np.empty((*shape, self.channels), np.float32), np.empty(shape, np.uint8)
        for place, draw in enumerate(self.draw(step)):
            images[place], labels[place] = self._patch(draw)
        return images, labels

    def draw(self, step: int) -> list[PatchDraw]:
        """Draw where the patches of one training step lie, and how they are augmented.

        Args:
            step: Number of the step, counted from 0 over all epochs.

        Returns:
            One draw per patch of the batch, in order.
        """
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        start = step_of_epoch * self.sampling.batch_size
        order = self._order(epoch)
        order *= 1 + math.ceil(self.sampling.batch_size / len(order))  # fills up the last batch
        return [
            self._draw(order[place], epoch, order[:place].count(order[place]))
            for place in (start + row for row in self._places)
        ]

    def reseeded(self, seed: int) -> "Loader":
        """Return a loader of another seed, which shares the cases."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def _order(self, epoch: int) -> list[int]:
        """Return the case of every patch of an epoch."""
        rng = np.random.default_rng((self.seed, epoch, 0))
        cases = np.repeat(np.arange(len(self.cases)), self.sampling.patches_per_case)
        return rng.permutation(cases).tolist()

    def _draw(self, index: int, epoch: int, visit: int) -> PatchDraw:
        """Draw one patch of one case."""
        rng = np.random.default_rng((self.seed, epoch, index + 1, visit))
        size = self.sampling.patch_size
        corner = draw_corner(
            rng,
            self.shapes[index],
            self.cases[index].foreground,
            patch_size=size,
            foreground=self.sampling.foreground,
        )
        transforms = self._transforms[self.spacings[index]]
        parameters = draw_all(rng, (*size, self.channels), transforms)
        return PatchDraw(index, corner, tuple(parameters))

    def _patch(self, draw: PatchDraw) -> tuple[np.ndarray, np.ndarray]:
        """Cut and augment one patch."""
        case, size = self.cases[draw.case], self.sampling.patch_size
        image = extract_patch(case.image, draw.corner, size)
        label = extract_patch(case.label, draw.corner, size)
        return apply_all(self.augment, draw.parameters, image, label, np)


def prefetch(
    loader: Batches[T_co], steps: Iterable[int], *, workers: int = 0, depth: int = 2
) -> Generator[T_co, None, None]:
    """Draw batches ahead of their use, in a background thread or in worker processes.

    The batches are those of ``loader.batch``, whatever the number of workers: a training that
    goes on at another step, or with more workers, needs no state but the step. An exception of
    the thread or of a worker is raised here; both end when the iterator is exhausted or closed,
    and workers also when this process dies.

    Args:
        loader: Where batches come from. Every worker gets a copy, with all cases in memory;
            cached cases stay on the disk.
        steps: Numbers of the steps, in order; a ``range`` for workers.
        workers: Processes that draw batches; 0 takes a thread, which is best where batches
            take less time to draw than the training steps that need the processor too.
        depth: Batches to draw ahead, by each worker; at least 1.

    Returns:
        An iterator over the batch of every step, as ``loader.batch`` returns it.

    Raises:
        InputError: grain is missing, which ``workers`` need; from the iterator also that a worker
            was killed.

    Example:
        >>> from segjax.data.loaded import LoadedCase
        >>> from segjax.data.phantom.dataset import phantom
        >>> image, label = phantom(0, shape=(32, 32))
        >>> case = LoadedCase("head", image.channels_last, label.data, image, label)
        >>> loader = Loader([case], Sampling((16, 16), batch_size=2))
        >>> len([labels for images, labels in prefetch(loader, range(10))])
        10
    """
    if workers:
        from segjax.data.workers import prefetch_by_workers

        return prefetch_by_workers(loader, steps, workers=workers, depth=depth)
    return _prefetch_by_thread(loader, steps, depth)


def _prefetch_by_thread(
    loader: Batches[T_co], steps: Iterable[int], depth: int
) -> Generator[T_co, None, None]:
    pending: deque[Future[T_co]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="segjax-loader") as executor:
        try:
            for step in steps:
                pending.append(executor.submit(loader.batch, step))
                if len(pending) > depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _slices(shape: Sequence[int], patch: tuple[int, ...]) -> str:
    """Say how a network of slices learns from volumes."""
    if (len(shape), len(patch)) != (3, 2):
        return ""
    return f"; slices of volumes are patches of {patch[0]} {patch[1]} 1 voxels"


def _check_cases(
    cases: Sequence[TrainingCase], sampling: Sampling
) -> tuple[list[tuple[int, ...]], int]:
    """Check that patch size and cases fit together; return the cases' shapes and channels."""
    if not cases:
        raise InputError("no case to draw patches from")
    shapes, channels = [], None
    for case in cases:
        *shape, found = case.image.shape
        channels = channels or found
        if len(shape) != len(sampling.patch_size):
            raise InputError(
                f"case '{case.name}' of shape {tuple(shape)} has another number of axes than "
                f"the patch size {sampling.patch_size}{_slices(shape, sampling.patch_size)}"
            )
        if found != channels:
            raise InputError(
                f"case '{case.name}' has {found} channels, but case "
                f"'{cases[0].name}' has {channels}"
            )
        shapes.append(tuple(shape))
    return shapes, channels or 0


def _spacing(case: TrainingCase) -> tuple[float, ...]:
    """Return the distance between a case's voxels in mm, without the noise of its affine."""
    return tuple(float(f"{size:.6g}") for size in case.spacing)
