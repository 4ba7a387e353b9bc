"""How good a network is on whole cases that it was not trained on."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import ArrayLike

from segjax.data.labels import IGNORED
from segjax.data.loaded import LoadedCase
from segjax.data.patches import sliding_windows, to_mask, trailing
from segjax.data.tiles import Locality, pad_behind, padded_shape, plan_tiles
from segjax.evaluate.scores import Score, score_of_counts
from segjax.train.config import TrainConfig
from segjax.volume import Volume

Predict = Callable[[np.ndarray], ArrayLike]

_TIMES = 4  # voxels of a tile by those of a training step, which takes more memory for each


def validate_cases(
    cases: Iterable[LoadedCase],
    predict: Predict,
    config: TrainConfig,
    *,
    batch_size: int = 1,
    locality: Locality | None = None,
) -> Iterator[dict[str, Score]]:
    """Segment whole cases and measure each label.

    A local network sees each case in one piece, or in tiles that give the same; others see it by
    sliding window.

    The mask is that of the exported network: probabilities go back to the grid that the image has
    on disk, then the most probable label is taken. It is compared with the label map as it is on
    disk. Voxels that the label map ignores (255) count for nothing.

    Patches of a sliding window share batches, whatever case they are of. While the network
    predicts, a thread makes and measures the mask of the case before.

    Args:
        cases: The cases, taken one after another.
        predict: Maps patches ``(batch, *patch, channel)`` to probabilities, or to the promise of
            them: see :func:`segjax.data.patches.sliding_windows`.
        config: Patch size, overlap, labels and preprocessing.
        batch_size: Patches in one call of ``predict``.
        locality: How far the network sees, if it is local.

    Yields:
        For each case in turn, by label, the background left out: Dice where the label is there,
        else the volume of what was found (:func:`segjax.evaluate.scores.score_of_counts`).
    """
    with ThreadPoolExecutor(1) as pool:

        def measured() -> Iterator[Future[dict[str, Score]]]:
            for case, probabilities in _predict(cases, predict, config, batch_size, locality):
                yield pool.submit(_measure, case, probabilities, config)

        for future in trailing(measured(), 1):
            yield future.result()


def segment_case(
    case: LoadedCase,
    predict: Predict,
    config: TrainConfig,
    *,
    batch_size: int = 1,
    locality: Locality | None = None,
) -> UInt8[np.ndarray, "*spatial"]:
    """Segment a whole case, as :func:`validate_cases` does.

    Returns:
        The mask on the grid that the image has on disk.
    """
    return _mask(*next(_predict([case], predict, config, batch_size, locality)), config)


def _predict(
    cases: Iterable[LoadedCase],
    predict: Predict,
    config: TrainConfig,
    batch_size: int,
    locality: Locality | None,
) -> Iterator[tuple[LoadedCase, Float32[np.ndarray, "*spatial class"]]]:
    """Predict cases on the grids of the preprocessed images."""
    if locality is not None:
        for case in cases:
            yield case, _predict_whole(case.image, predict, config, locality)
        return
    given, taken = itertools.tee(cases)
    probabilities = sliding_windows(
        (case.image for case in taken),
        predict,
        patch_size=config.patch_size,
        overlap=config.overlap,
        batch_size=batch_size,
    )
    yield from zip(given, probabilities, strict=True)


def _predict_whole(
    image: Float32[np.ndarray, "*spatial channel"],
    predict: Predict,
    config: TrainConfig,
    locality: Locality,
) -> Float32[np.ndarray, "*spatial class"]:
    """Predict a volume in one piece, or in tiles; a network of two axes sees slices of depth 1."""
    rank, plane = len(locality.halo), image.shape[: len(locality.halo)]
    most = _TIMES * config.batch_size * math.prod(config.patch_size)
    shape = padded_shape(plane, locality.multiple, config.patch_size[:rank])
    options: dict[str, Any] = {"halo": locality.halo, "multiple": locality.multiple}
    tiles = plan_tiles(shape, most=most, **options)
    classes = 1 if config.activation == "sigmoid" else config.classes
    found = np.empty((*shape, *image.shape[rank:-1], classes), np.float32)
    depths = [slice(at, at + 1) for at in range(image.shape[rank])] if image.ndim - 1 > rank else ()
    pieces: list[Any] = [(..., depth, slice(None)) for depth in depths]
    for piece in pieces or [...]:
        padded = pad_behind(image[piece], locality.multiple, config.patch_size[:rank])
        for tile in tiles:
            answer = np.asarray(predict(padded[tile.read][None]))[0]
            found[piece][tile.write] = answer[tile.inside]
    return found[tuple(slice(0, size) for size in plane)]


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
