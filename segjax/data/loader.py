"""Draw batches of training patches from cases in memory."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from segjax.data.augment.transform import Transform, augment_patch
from segjax.data.datasets import LoadedCase
from segjax.data.patches import draw_corner, extract_patch
from segjax.errors import InputError

__all__ = ["Batch", "Loader", "Sampling", "prefetch"]

Batch = tuple[Float32[np.ndarray, "batch *patch channel"], Int32[np.ndarray, "batch *patch"]]


@dataclass(frozen=True)
class Sampling:
    """How patches are drawn.

    Attributes:
        patch_size: In voxels, one number per axis of the cases; ``(x, y, 1)`` draws slices.
        batch_size: Patches per batch.
        foreground: Probability that a patch is drawn around a foreground voxel, in [0, 1].
        patches_per_case: Patches of every case in an epoch.
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


class Loader:
    """Batches of patches as a pure function of seed and step, so that resuming needs no state.

    Every epoch draws every case ``patches_per_case`` times, in an order that depends on seed and
    epoch; the last batch of an epoch is filled up from its beginning. Corners and augmentations
    of a patch depend on seed, epoch and the patch's place in the epoch.

    Args:
        cases: The cases to draw from, all of one rank and number of channels.
        sampling: How patches are drawn.
        augment: Transforms, applied in order to every patch.
        seed: Any number that is not negative.

    Raises:
        InputError: Where there is no case, or patch size, channels or cases do not fit together.

    Example:
        >>> from segjax.data.phantom import phantom
        >>> image, label = phantom(0, shape=(32, 32))
        >>> case = LoadedCase("head", image.channels_last, label.data, image, label)
        >>> loader = Loader([case], Sampling((16, 16), batch_size=2))
        >>> [array.shape for array in loader.batch(0)]
        [(2, 16, 16, 1), (2, 16, 16)]
    """

    def __init__(
        self,
        cases: Sequence[LoadedCase],
        sampling: Sampling,
        *,
        augment: tuple[Transform, ...] = (),
        seed: int = 0,
    ) -> None:
        _check_cases(cases, sampling)
        self.cases = tuple(cases)
        self.sampling = sampling
        self.augment = augment
        self.seed = seed
        self._voxels = [np.flatnonzero(case.label) for case in cases]

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches after which every case was drawn ``patches_per_case`` times."""
        return -(-len(self.cases) * self.sampling.patches_per_case // self.sampling.batch_size)

    def batch(self, step: int) -> Batch:
        """Draw the batch of one training step.

        Args:
            step: Number of the step, counted from 0 over all epochs.

        Returns:
            Images ``(batch, *patch, channel)`` float32 and labels ``(batch, *patch)`` int32.
        """
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        start = step_of_epoch * self.sampling.batch_size
        order = self._order(epoch)
        pairs = [
            self._patch(
                order[place % len(order)], np.random.default_rng((self.seed, epoch, place + 1))
            )
            for place in range(start, start + self.sampling.batch_size)
        ]
        images, labels = zip(*pairs, strict=True)
        return np.stack(images).astype(np.float32), np.stack(labels).astype(np.int32)

    def _order(self, epoch: int) -> list[int]:
        """Return the case of every patch of an epoch."""
        rng = np.random.default_rng((self.seed, epoch, 0))
        cases = np.repeat(np.arange(len(self.cases)), self.sampling.patches_per_case)
        return rng.permutation(cases).tolist()

    def _patch(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw and augment one patch of one case."""
        case, size = self.cases[index], self.sampling.patch_size
        corner = draw_corner(
            rng,
            case.label.shape,
            self._voxels[index],
            patch_size=size,
            foreground=self.sampling.foreground,
        )
        image = extract_patch(case.image, corner, size)
        label = extract_patch(case.label, corner, size)
        return augment_patch(rng, image, label, self.augment)


def prefetch(loader: Loader, steps: Iterable[int], *, depth: int = 2) -> Iterator[Batch]:
    """Draw batches in a background thread, ahead of their use.

    An exception of the thread is raised here; the thread ends when the iterator is exhausted or
    closed.

    Args:
        loader: Where batches come from.
        steps: Numbers of the steps, in order.
        depth: Batches to draw ahead, at least 1.

    Yields:
        The batch of every step, as ``loader.batch`` returns it.

    Example:
        >>> from segjax.data.phantom import phantom
        >>> image, label = phantom(0, shape=(32, 32))
        >>> case = LoadedCase("head", image.channels_last, label.data, image, label)
        >>> loader = Loader([case], Sampling((16, 16), batch_size=2))
        >>> len([labels for images, labels in prefetch(loader, range(10))])
        10
    """
    pending: deque[Future[Batch]] = deque()
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


def _check_cases(cases: Sequence[LoadedCase], sampling: Sampling) -> None:
    """Check that patch size and cases fit together."""
    if not cases:
        raise InputError("no case to draw patches from")
    channels = cases[0].image.shape[-1]
    for case in cases:
        if case.label.ndim != len(sampling.patch_size):
            raise InputError(
                f"case '{case.name}' of shape {case.label.shape} has another number of axes than "
                f"the patch size {sampling.patch_size}"
            )
        if case.image.shape[-1] != channels:
            raise InputError(
                f"case '{case.name}' has {case.image.shape[-1]} channels, but case "
                f"'{cases[0].name}' has {channels}"
            )
