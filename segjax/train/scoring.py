"""Scores of many cases at once, for validations that cost more than the training between them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, PyTree

from segjax.data.labels import IGNORED
from segjax.data.loaded import LoadedCase
from segjax.data.patches import to_mask
from segjax.evaluate.scores import Score, Scores, score_of_counts
from segjax.train.config import TrainConfig
from segjax.train.step import Predict
from segjax.train.validate import validate_cases, window_batch

__all__ = ["Scorer", "count_overlaps"]

_BATCH = 8  # whole cases in one call


class _Batch(NamedTuple):
    """Some cases of one shape, filled up to a full batch by the last of them."""

    names: tuple[str, ...]
    affines: tuple[np.ndarray, ...]
    images: Float[Array, "batch *spatial channel"]
    truths: Integer[Array, "batch *spatial"]


class Scorer:
    """What counts by case and label, as :func:`segjax.train.validate.validate_case` measures it.

    Cases that fill exactly one patch and keep their grid through all steps of the pipeline lie on
    the device; they are predicted in batches and compared there, and nothing but three counts for
    each label comes back. The others go through ``validate_cases``. Both ways give the same
    numbers, unless two labels are equally probable to the last bit.

    Args:
        cases: What to measure on, with all their arrays at hand.
        config: Patch size, overlap, labels and preprocessing.
        predict: As from :func:`segjax.train.step.make_predict`.
        batch: Whole cases in one call.

    Example:
        >>> scorer = Scorer(cases, config, predict)  # doctest: +SKIP
        >>> scorer.scores(state.variables)["case-7"]["lesion"]  # doctest: +SKIP
        Score(metric='dice', value=0.8931)
    """

    def __init__(
        self,
        cases: Sequence[LoadedCase],
        config: TrainConfig,
        predict: Predict,
        *,
        batch: int = _BATCH,
    ):
        whole = [case for case in cases if _is_whole(case, config)]
        names = {case.name for case in whole}
        self._names = [case.name for case in cases]
        self._others = [case for case in cases if case.name not in names]
        self._batches = list(_batches(whole, min(batch, max(1, len(whole)))))
        self._config, self._predict = config, predict
        self._count = jax.jit(functools.partial(_count, predict, config.classes))

    def scores(self, variables: PyTree) -> Scores:
        """Measure a network.

        Args:
            variables: Of the network.

        Returns:
            What counts of each label but the background, by case, in the order of the cases.
        """
        return self.start(variables)()

    def start(self, variables: PyTree) -> Callable[[], Scores]:
        """Begin to measure a network, and return what waits for the end.

        So several devices can measure at the same time, as far as cases fill one patch.

        Args:
            variables: Of the network.
        """
        counts = [self._count(variables, batch.images, batch.truths) for batch in self._batches]

        def end() -> Scores:
            found = dict(self._one_by_one(variables))
            for batch, count in zip(self._batches, counts, strict=True):
                found |= _by_case(batch, np.asarray(count), self._config.labels[1:])
            return {name: found[name] for name in self._names}

        return end

    def _one_by_one(self, variables: PyTree) -> Scores:
        found = validate_cases(
            self._others,
            lambda patches: self._predict(variables, patches),
            self._config,
            batch_size=window_batch(self._others, self._config),
        )
        return {case.name: scores for case, scores in zip(self._others, found, strict=True)}


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


def _is_whole(case: LoadedCase, config: TrainConfig) -> bool:
    """Say whether a mask of one patch is a mask of the file, voxel by voxel."""
    if case.label.shape != config.patch_size:
        return False
    return config.pipeline.keeps_grid(case.volume, case.grids or None)


def _batches(cases: Sequence[LoadedCase], size: int) -> Any:
    for start in range(0, len(cases), size):
        some = cases[start : start + size]
        full = [*some, *[some[-1]] * (size - len(some))]
        images = jnp.asarray(np.stack([case.image for case in full]))
        truths = jnp.asarray(np.stack([case.raw_label.data for case in full]).astype(np.uint8))
        names, affines = zip(*((case.name, case.raw_label.affine) for case in some), strict=True)
        yield _Batch(names, affines, images, truths)
