"""Scores of many cases at once: one validation, of a training as of a sweep."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, PyTree, UInt8

from segjax.data.labels import IGNORED
from segjax.data.loaded import LoadedCase, TrainingCase
from segjax.data.patches import grid_corners, to_mask, trailing
from segjax.data.tiles import Locality
from segjax.evaluate.scores import Score, Scores, score_of_counts
from segjax.machine import device_bytes
from segjax.train.config import TrainConfig
from segjax.train.step import Predict
from segjax.train.validate import segment_case, validate_cases

__all__ = ["Scorer", "count_overlaps", "validation_batch"]

_TIMES = 2  # patches in a batch of validation, on an accelerator, by those in one of training
_SHARE = 1 / 8  # of an accelerator's memory that whole cases may keep


class _Batch(NamedTuple):
    """Some cases of one shape, filled up to a full batch by the last of them, on the device."""

    names: tuple[str, ...]
    affines: tuple[np.ndarray, ...]
    images: Float[Array, "batch *spatial channel"]
    truths: Integer[Array, "batch *spatial"]


class Scorer:
    """What counts by case and label, as :func:`segjax.train.validate.validate_cases` measures it.

    Cases that fill exactly one patch and keep their grid through all steps of the pipeline are
    predicted in batches and compared on the device, and nothing but three counts for each label
    comes back. They stay there for the next validation where all of them take at most an eighth
    of an accelerator's memory; else, and on a CPU, they are read again. The others go through
    ``validate_cases``. Both ways give the same numbers, unless two labels are equally probable to
    the last bit. Batches are sent ahead, and results looked at late.

    Args:
        cases: What to measure on.
        config: Patch size, overlap, labels and preprocessing.
        predict: As from :func:`segjax.train.step.make_predict`.
        devices: How many share the patches of a step of training.
        device: Where the network lies that is measured; the first one when None.
        locality: Tells how far the network sees, if it is local; asked when that is needed.

    Example:
        >>> from segjax.volume import Volume
        >>> image = np.eye(16, dtype=np.float32)[..., None]
        >>> label = Volume(np.eye(16, dtype=np.uint8), np.eye(3))
        >>> case = LoadedCase("case-7", image, label.data, label, label)
        >>> def predict(variables, images):  # as bright as probable
        ...     return jnp.concatenate([1 - images, images], axis=-1)
        >>> scorer = Scorer([case], TrainConfig("unet2d-k3", (16, 16)), predict)
        >>> scorer.scores({})["case-7"]["lesion"]
        Score(metric='dice', value=1.0)
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        config: TrainConfig,
        predict: Predict,
        *,
        devices: int = 1,
        device: jax.Device | None = None,
        locality: Callable[[], Locality | None] = lambda: None,
    ):
        self._names, self._config, self._predict = [c.name for c in cases], config, predict
        self._device, self._locality = device, locality
        self._whole: list[TrainingCase] = []
        self._others: list[TrainingCase] = []
        for case in cases:
            (self._whole if _is_whole(case, config) else self._others).append(case)
        patches = sum(
            len(grid_corners(case.label.shape, config.patch_size, config.overlap))
            for case in self._others
        )
        self._cases_at_once = validation_batch(config, len(self._whole), devices)
        self._patches_at_once = validation_batch(config, patches, devices)
        self._count = jax.jit(functools.partial(_count, predict, config.classes))

    def scores(self, variables: PyTree, check: Callable[[], None] = lambda: None) -> Scores:
        """Measure a network.

        Args:
            variables: Of the network.
            check: Called before each batch; what it raises ends the measurement.

        Returns:
            What counts of each label but the background, by case, in the order of the cases.
        """
        return self.start(variables, check)()

    def start(
        self, variables: PyTree, check: Callable[[], None] = lambda: None
    ) -> Callable[[], Scores]:
        """Begin to measure a network, and return what waits for the end.

        So several devices can measure at the same time, as far as cases stay on them.

        Args:
            variables: Of the network.
            check: As of :meth:`scores`.
        """

        def begin(batch: _Batch) -> tuple[_Batch, Array]:
            check()
            counts = self._count(variables, batch.images, batch.truths)
            counts.copy_to_host_async()
            return batch, counts

        def predict(patches: np.ndarray) -> Array:
            check()
            return self._promise(variables, patches)

        begun = list(map(begin, self._kept))

        def end() -> Scores:
            cases = (case.loaded() for case in self._others)
            others = validate_cases(cases, predict, self._config, **self._options)
            found = {c.name: scores for c, scores in zip(self._others, others, strict=True)}
            for batch, counts in begun or trailing(map(begin, self._read())):
                found |= _by_case(batch, np.asarray(counts), self._config.labels[1:])
            return {name: found[name] for name in self._names}

        return end

    def segment(self, variables: PyTree, case: LoadedCase) -> UInt8[np.ndarray, "*spatial"]:
        """Segment a case in batches of the validation: :func:`segjax.train.validate.segment_case`.

        Args:
            variables: Of the network.
            case: The case.
        """
        predict = functools.partial(self._promise, variables)
        return segment_case(case, predict, self._config, **self._options)

    @property
    def _options(self) -> dict[str, Any]:
        return {"batch_size": self._patches_at_once, "locality": self._locality()}

    @functools.cached_property
    def _kept(self) -> list[_Batch]:
        """The batches of whole cases that stay on the device."""
        case_bytes = math.prod(self._config.patch_size) * (4 * self._config.in_channels + 1)
        fits = _fits(len(self._whole) * case_bytes, self._device or jax.local_devices()[0])
        return list(self._read()) if fits else []

    def _read(self) -> Iterator[_Batch]:
        """Read whole cases, and send them to the device."""
        size = self._cases_at_once
        for start in range(0, len(self._whole), size):
            some = [case.loaded() for case in self._whole[start : start + size]]
            full = [*some, *[some[-1]] * (size - len(some))]
            images = np.stack([case.image for case in full])
            truths = np.stack([case.raw_label.data for case in full]).astype(np.uint8)
            names, affines = zip(*((c.name, c.raw_label.affine) for c in some), strict=True)
            yield _Batch(names, affines, *jax.device_put((images, truths), self._device))

    def _promise(self, variables: PyTree, patches: np.ndarray) -> Array:
        """Let the device predict, and return the promise of the probabilities."""
        probabilities = self._predict(variables, jax.device_put(patches, self._device))
        probabilities.copy_to_host_async()
        return probabilities


def validation_batch(config: TrainConfig, patches: int, devices: int = 1) -> int:
    """Choose how many patches to predict at once.

    On an accelerator they are twice as many as a device gets in a step of training: a prediction
    keeps no activations for gradients, so that it takes no more memory than the step. On a CPU,
    where more are no faster, they are as many. All calls are of one size, the least that needs no
    further call.

    Args:
        config: Patches in a step of training.
        patches: How many there are in all.
        devices: How many share those of a step of training.

    Example:
        >>> validation_batch(TrainConfig("unet3d", (64, 64, 64), batch_size=8), 9)
        5
    """
    most = config.batch_size // devices * (1 if jax.default_backend() == "cpu" else _TIMES)
    return math.ceil(patches / math.ceil(patches / most)) if patches else 1


def count_overlaps(
    probabilities: Float[Array, "batch *spatial class"],
    truths: Integer[Array, "batch *spatial"],
    classes: int,
) -> Int[Array, "batch label 3"]:
    """Count, for each image and label, voxels in both masks, in the prediction, in the truth.

    Args:
        probabilities: One per label, or a single one for the foreground.
        truths: Label maps; voxels of 255 count for nothing.
        classes: Number of label values, the background included.

    Returns:
        Counts for each label but the background.

    Example:
        >>> truths = jnp.array([[1, 1, 0]])
        >>> count_overlaps(jnp.array([[[0.6], [0.2], [0.1]]]), truths, 2).tolist()
        [[[1, 1, 2]]]
    """
    masks, axes = to_mask(probabilities), tuple(range(1, truths.ndim))

    def of(label: int) -> Array:
        found, true = (masks == label) & (truths != IGNORED), truths == label
        return jnp.stack([(found & true).sum(axes), found.sum(axes), true.sum(axes)], -1)

    return jnp.stack([of(label) for label in range(1, classes)], 1)


def _count(
    predict: Predict, classes: int, variables: PyTree, images: Array, truths: Array
) -> Array:
    return count_overlaps(predict(variables, images), truths, classes)


def _by_case(
    batch: _Batch, counts: Int[np.ndarray, "batch label 3"], labels: Sequence[str]
) -> dict[str, dict[str, Score]]:
    return {
        name: {
            label: score_of_counts(*row, affine=affine)
            for label, row in zip(labels, rows, strict=True)
        }
        for name, affine, rows in zip(batch.names, batch.affines, counts.tolist(), strict=False)
    }


def _is_whole(case: TrainingCase, config: TrainConfig) -> bool:
    """Say whether a mask of one patch is a mask of the file, voxel by voxel."""
    return case.label.shape == config.patch_size and case.keeps_grid(config.pipeline)


def _fits(size: int, device: jax.Device) -> bool:
    """Say whether so many bytes may stay on a device; the memory of a CPU is the machine's."""
    memory = None if jax.default_backend() == "cpu" else device_bytes(device)
    return memory is not None and size <= _SHARE * memory[0]
