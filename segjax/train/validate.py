"""How good a network is on whole cases that it was not trained on."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import ArrayLike

from segjax.data.labels import IGNORED
from segjax.data.loaded import LoadedCase
from segjax.data.patches import sliding_windows, to_mask, trailing
from segjax.evaluate.scores import Score, score_of_counts
from segjax.train.config import TrainConfig
from segjax.volume import Volume

Predict = Callable[[np.ndarray], ArrayLike]


def validate_cases(
    cases: Iterable[LoadedCase], predict: Predict, config: TrainConfig, *, batch_size: int = 1
) -> Iterator[dict[str, Score]]:
    """Segment whole cases by sliding window and measure each label.

    The mask is that of the exported network: probabilities go back to the grid that the image has
    on disk, then the most probable label is taken. It is compared with the label map as it is on
    disk. Voxels that the label map ignores (255) count for nothing.

    Patches of all cases share batches. While the network predicts, a thread makes and measures
    the mask of the case before.

    Args:
        cases: The cases, taken one after another.
        predict: Maps patches ``(batch, *patch, channel)`` to probabilities, or to the promise of
            them: see :func:`segjax.data.patches.sliding_windows`.
        config: Patch size, overlap, labels and preprocessing.
        batch_size: Patches in one call of ``predict``.

    Yields:
        For each case in turn, by label, the background left out: Dice where the label is there,
        else the volume of what was found (:func:`segjax.evaluate.scores.score_of_counts`).
    """
    with ThreadPoolExecutor(1) as pool:

        def measured() -> Iterator[Future[dict[str, Score]]]:
            for case, probabilities in _predict(cases, predict, config, batch_size):
                yield pool.submit(_measure, case, probabilities, config)

        for future in trailing(measured(), 1):
            yield future.result()


def segment_case(
    case: LoadedCase, predict: Predict, config: TrainConfig, *, batch_size: int = 1
) -> UInt8[np.ndarray, "*spatial"]:
    """Segment a whole case by sliding window, as :func:`validate_cases` does.

    Returns:
        The mask on the grid that the image has on disk.
    """
    return _mask(*next(_predict([case], predict, config, batch_size)), config)


def _predict(
    cases: Iterable[LoadedCase], predict: Predict, config: TrainConfig, batch_size: int
) -> Iterator[tuple[LoadedCase, Float32[np.ndarray, "*spatial class"]]]:
    """Predict cases on the grids of the preprocessed images."""
    given, taken = itertools.tee(cases)
    probabilities = sliding_windows(
        (case.image for case in taken),
        predict,
        patch_size=config.patch_size,
        overlap=config.overlap,
        batch_size=batch_size,
    )
    return zip(given, probabilities, strict=True)


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
