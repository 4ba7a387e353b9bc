"""How good a network is on whole cases that it was not trained on."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import ArrayLike

from segjax.data.datasets import LoadedCase
from segjax.data.labels import IGNORED
from segjax.data.loader import TrainingCase
from segjax.data.patches import grid_corners, sliding_window
from segjax.evaluate.overlap import dice
from segjax.train.config import TrainConfig
from segjax.volume import Volume

Predict = Callable[[np.ndarray], ArrayLike]
Scores = Mapping[str, Mapping[str, float]]
"""Dice by case and label."""


def validate_case(
    case: LoadedCase, predict: Predict, config: TrainConfig, *, batch_size: int = 1
) -> dict[str, float]:
    """Segment a whole case by sliding window and measure the Dice of each label.

    The mask is brought back to the grid that the image has on disk and compared with the label
    map as it is on disk: what a user of the exported network would measure. Voxels that the label
    map ignores (255) count for nothing.

    Args:
        case: The case.
        predict: Maps patches ``(batch, *patch, channel)`` to probabilities.
        config: Patch size, overlap, labels and preprocessing.
        batch_size: Patches in one call of ``predict``.

    Returns:
        Dice by label, the background left out. Where a label is neither there nor predicted it
        is 1, where it is only one of both it is 0.
    """
    return _measure(case, _segment(case, predict, config, batch_size), config)


def validate_cases(
    cases: Iterable[LoadedCase], predict: Predict, config: TrainConfig, *, batch_size: int = 1
) -> Iterator[dict[str, float]]:
    """Validate cases one after another, as :func:`validate_case` does.

    While the network segments a case, a thread measures the mask of the one before.

    Yields:
        Dice by label, for each case in turn.
    """
    before: Future[dict[str, float]] | None = None
    with ThreadPoolExecutor(1) as pool:
        for case in cases:
            mask = _segment(case, predict, config, batch_size)
            now = pool.submit(_measure, case, mask, config)
            if before is not None:
                yield before.result()
            before = now
        if before is not None:
            yield before.result()


def segment_case(
    case: LoadedCase, predict: Predict, config: TrainConfig, *, batch_size: int = 1
) -> UInt8[np.ndarray, "*spatial"]:
    """Segment a whole case by sliding window, as :func:`validate_case` does.

    Returns:
        The mask on the grid that the image has on disk.
    """
    return _invert(case, _segment(case, predict, config, batch_size), config)


def _segment(
    case: LoadedCase, predict: Predict, config: TrainConfig, batch_size: int
) -> UInt8[np.ndarray, "*spatial"]:
    """Segment a case on the grid of the preprocessed image."""
    probabilities = sliding_window(
        case.image,
        predict,
        patch_size=config.patch_size,
        overlap=config.overlap,
        batch_size=batch_size,
    )
    return to_mask(probabilities)


def _invert(
    case: LoadedCase, mask: UInt8[np.ndarray, "*spatial"], config: TrainConfig
) -> UInt8[np.ndarray, "*raw"]:
    """Bring a mask back to the grid that the image has on disk."""
    processed = Volume(mask, np.eye(len(config.patch_size) + 1))
    return config.pipeline.invert(processed, case.volume, grids=case.grids or None).data


def _measure(
    case: LoadedCase, mask: UInt8[np.ndarray, "*spatial"], config: TrainConfig
) -> dict[str, float]:
    truth = case.raw_label.data
    found = np.where(truth == IGNORED, 0, _invert(case, mask, config))
    names = enumerate(config.labels[1:], start=1)
    return {name: dice(truth, found, value) for value, name in names}


def to_mask(probabilities: Float[np.ndarray, "*spatial class"]) -> UInt8[np.ndarray, "*spatial"]:
    """Choose the label of each voxel.

    Args:
        probabilities: One per label, or a single one for the foreground.

    Returns:
        The most probable label (the lowest of equals); with a single class, 1 where it is over
        one half.

    Example:
        >>> to_mask(np.array([[0.4], [0.6]])).tolist()
        [0, 1]
        >>> to_mask(np.array([[0.4, 0.5, 0.1]])).tolist()
        [1]
    """
    if probabilities.shape[-1] == 1:
        return (probabilities[..., 0] > 0.5).astype(np.uint8)
    return probabilities.argmax(axis=-1).astype(np.uint8)


def mean_dice(scores: Scores) -> float:
    """Average Dice over cases and labels.

    Example:
        >>> mean_dice({"a": {"lesion": 0.5}, "b": {"lesion": 1.0}})
        0.75
    """
    return float(np.mean([value for labels in scores.values() for value in labels.values()]))


def window_batch(cases: Sequence[TrainingCase], config: TrainConfig) -> int:
    """Choose how many patches to predict at once.

    Every call gets a full batch, so that small cases would waste most of a large one.

    Args:
        cases: What will be validated on.
        config: Patch size, overlap and the greatest batch.
    """
    counts = [
        len(grid_corners(case.label.shape, config.patch_size, config.overlap)) for case in cases
    ]
    return min(config.batch_size, *counts) if counts else 1
