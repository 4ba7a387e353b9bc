"""How good a network is on whole cases that it was not trained on."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import ArrayLike

from segjax.data.labels import IGNORED
from segjax.data.loaded import LoadedCase, TrainingCase
from segjax.data.patches import grid_corners, sliding_window, to_mask
from segjax.evaluate.scores import Score, score_of_counts
from segjax.train.config import TrainConfig
from segjax.volume import Volume

Predict = Callable[[np.ndarray], ArrayLike]


def validate_case(
    case: LoadedCase, predict: Predict, config: TrainConfig, *, batch_size: int = 1
) -> dict[str, Score]:
    """Segment a whole case by sliding window and measure each label.

    The mask is that of the exported network: probabilities go back to the grid that the image has
    on disk, then the most probable label is taken. It is compared with the label map as it is on
    disk. Voxels that the label map ignores (255) count for nothing.

    Args:
        case: The case.
        predict: Maps patches ``(batch, *patch, channel)`` to probabilities.
        config: Patch size, overlap, labels and preprocessing.
        batch_size: Patches in one call of ``predict``.

    Returns:
        By label, the background left out: Dice where the label is there, else the volume of what
        was found (:func:`segjax.evaluate.scores.score_of_counts`).
    """
    return _measure(case, _predict(case, predict, config, batch_size), config)


def validate_cases(
    cases: Iterable[LoadedCase], predict: Predict, config: TrainConfig, *, batch_size: int = 1
) -> Iterator[dict[str, Score]]:
    """Validate cases one after another, as :func:`validate_case` does.

    While the network predicts a case, a thread makes and measures the mask of the one before.

    Yields:
        What counts by label, for each case in turn.
    """
    before: Future[dict[str, Score]] | None = None
    with ThreadPoolExecutor(1) as pool:
        for case in cases:
            probabilities = _predict(case, predict, config, batch_size)
            now = pool.submit(_measure, case, probabilities, config)
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
    return _mask(case, _predict(case, predict, config, batch_size), config)


def _predict(
    case: LoadedCase, predict: Predict, config: TrainConfig, batch_size: int
) -> Float32[np.ndarray, "*spatial class"]:
    """Predict a case on the grid of the preprocessed image."""
    return sliding_window(
        case.image,
        predict,
        patch_size=config.patch_size,
        overlap=config.overlap,
        batch_size=batch_size,
    )


def _mask(
    case: LoadedCase, probabilities: Float32[np.ndarray, "*spatial class"], config: TrainConfig
) -> UInt8[np.ndarray, "*raw"]:
    """Choose the label of each voxel of the grid that the image has on disk."""
    processed = Volume(probabilities, np.eye(len(config.patch_size) + 1))
    return to_mask(config.pipeline.restore(processed, case.volume, grids=case.grids or None).data)


def _measure(
    case: LoadedCase, probabilities: Float32[np.ndarray, "*spatial class"], config: TrainConfig
) -> dict[str, Score]:
    mask, truth = _mask(case, probabilities, config), case.raw_label
    mask[truth.data == IGNORED] = 0
    scores = {}
    for value, name in enumerate(config.labels[1:], start=1):
        found, there = mask == value, truth.data == value
        counts = (int(np.count_nonzero(one)) for one in (found & there, found, there))
        scores[name] = score_of_counts(*counts, affine=truth.affine)
    return scores


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
