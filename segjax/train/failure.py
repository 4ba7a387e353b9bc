"""What is left of a training whose loss is not finite any more: the batch that did it."""

from pathlib import Path

import numpy as np

from segjax.data.loader import Batch, Loader
from segjax.errors import InputError
from segjax.files import atomic_path
from segjax.runs.folder import RunFolder
from segjax.train.config import TrainConfig

__all__ = ["save_failed_batch"]


def save_failed_batch(
    run: Path, config: TrainConfig, loader: Loader, step: int, loss: float
) -> InputError:
    """Save the batch of a step, drawn again, and say what can be done.

    The file holds ``images``, ``labels``, the names of the ``cases``, ``step`` and ``seed``.

    Args:
        run: Folder of the run; gets ``failed-batch.npz``, in the place of an older one.
        config: Of the training.
        loader: Where its batches come from.
        step: Number of the step, counted from 0 as :meth:`Loader.batch` counts.
        loss: What the loss became.

    Returns:
        The error to raise: it names the file, the step and what to try.

    Raises:
        InputError: The file cannot be written.
    """
    whole = Loader(loader.cases, loader.sampling, augment=loader.augment, seed=loader.seed)
    images, labels = whole.batch(step)
    names = [loader.cases[draw.case].name for draw in whole.draw(step)]
    path = RunFolder(run).failed_batch
    with atomic_path(path, overwrite=True) as temporary:
        np.savez_compressed(
            temporary,
            images=images,
            labels=labels,
            cases=np.array(names),
            step=np.int64(step),
            seed=np.int64(loader.seed),
        )
    return InputError(
        f"{path}: the loss became {loss} at step {step + 1} with this batch, "
        f"{_described(names, (images, labels))}: train in a new folder with {_advice(config)}, "
        "and look for extreme values in the images"
    )


def _described(names: list[str], batch: Batch) -> str:
    images = batch[0]
    extent = f"intensities from {images.min():g} to {images.max():g}"
    return f"from {', '.join(dict.fromkeys(names))}, {extent}"


def _advice(config: TrainConfig) -> str:
    rate = "" if config.optimizer.is_handed else f" than {config.optimizer.learning_rate:g}"
    advice = [f"a lower learning rate{rate}"]
    if config.optimizer.gradient_clip is None:
        advice.append("gradient_clip")
    if config.compute_dtype != "float32":
        advice.append("compute_dtype float32")
    return " or ".join(advice)
