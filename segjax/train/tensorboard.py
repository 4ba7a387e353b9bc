"""Curves and pictures of a training as TensorBoard shows them, which survive a crash."""

import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.data.cases import Case
from segjax.data.io.formats import read_image
from segjax.data.labels import IGNORED
from segjax.data.sources import files_in
from segjax.errors import InputError
from segjax.evaluate.scores import Scores, by_label, mean_dice
from segjax.extras import how_to_install
from segjax.files import atomic_path, disk_errors
from segjax.report.plots import overlay
from segjax.runs.folder import RunFolder
from segjax.train.config import TrainConfig
from segjax.train.optimizers import make_schedule
from segjax.volume import Volume

__all__ = ["Board", "check_tensorboard", "overlay_png"]

_PREFIX = "events.out.tfevents."
_TOTAL = "seconds/total"


def check_tensorboard() -> None:
    """Refuse to go on where the package is missing that writes the logs.

    Raises:
        InputError: It is; the message says what to install.
    """
    if find_spec("tensorboardX") is None:
        raise InputError(f"TensorBoard logs need tensorboardX: {how_to_install('tensorboard')}")


class Board:
    """The TensorBoard logs of one training, in the folder ``tensorboard`` of its run.

    The horizontal axis of all curves is the number of steps done. ``loss/step`` and
    ``learning_rate`` have a point for each step; ``loss/epoch``, ``seconds/epoch`` and
    ``seconds/total`` for each epoch; ``dice/mean`` and ``dice/LABEL``, averaged over the cases,
    for each validation; and there may be pictures.

    What a method writes is on the disk when it returns. A training that goes on at an earlier
    step than it had written, because it was killed, drops what came after that step first, so
    that every point is there once.

    Args:
        run: Folder of the run, which exists.
        config: Of the training.
        steps_per_epoch: Steps of each epoch.
        done: Steps done so far.

    Raises:
        InputError: The files cannot be written.

    Example:
        >>> board = Board(Path("run"), TrainConfig("mpunet++", (16, 16, 16)), steps_per_epoch=10)
        >>> board.steps(epoch=0, losses=[0.9, 0.8])

    Source:
        Records and their checksums: tensorflow/core/lib/io/record_writer.h.
    """

    def __init__(self, run: Path, config: TrainConfig, steps_per_epoch: int, done: int = 0):
        self._folder = RunFolder(run).tensorboard
        self._done, self._per_epoch = done, steps_per_epoch
        self._rates = _learning_rates(config, steps_per_epoch)
        with disk_errors(self._folder):
            self._folder.mkdir(exist_ok=True)
            before = _rewind(self._folder, done)
            self._writer = _new_writer(self._folder)
        self._seconds = 0.0 if done < steps_per_epoch else before

    def steps(self, epoch: int, losses: Sequence[float]) -> None:
        """Write the losses of an epoch that were not written yet.

        Args:
            epoch: Epochs done before it.
            losses: Of its steps so far.
        """
        self._losses(epoch, losses)
        self._flush()

    def epoch(
        self, epoch: int, losses: Sequence[float], scores: Scores | None, seconds: float
    ) -> None:
        """Write what an epoch gave.

        Args:
            epoch: Epochs done, this one included.
            losses: Of all of its steps.
            scores: Of its validation; ``None`` where there was none.
            seconds: Time so far, over all epochs.
        """
        self._losses(epoch - 1, losses)
        values = {"loss/epoch": float(np.mean(losses)), _TOTAL: seconds}
        if self._seconds is not None:
            values["seconds/epoch"] = seconds - self._seconds
        self._seconds = seconds
        self._add(epoch * self._per_epoch, values | _means(scores or {}))
        self._flush()

    def picture(self, epoch: int, name: str, png: bytes | None) -> None:
        """Write a picture.

        Args:
            epoch: Epochs done.
            name: Of the picture.
            png: Its file; ``None`` writes nothing.
        """
        if png is None:
            return
        from tensorboardX.proto.summary_pb2 import Summary

        width, height = struct.unpack(">II", png[16:24])  # of the header, by the PNG standard
        image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
        self._write(epoch * self._per_epoch, [Summary.Value(tag=_tag(name), image=image)])
        self._flush()

    def close(self) -> None:
        """Close the file."""
        with disk_errors(self._folder):
            self._writer.close()

    def _losses(self, epoch: int, losses: Sequence[float]) -> None:
        for step, loss in enumerate(losses, start=epoch * self._per_epoch + 1):
            if step > self._done:
                values = {"loss/step": loss}
                if self._rates:
                    values["learning_rate"] = self._rates[step - 1]
                self._add(step, values)
                self._done = step

    def _add(self, step: int, values: dict[str, float]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        points = values.items()
        self._write(step, [Summary.Value(tag=_tag(name), simple_value=v) for name, v in points])

    def _write(self, step: int, values: list[Any]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        with disk_errors(self._folder):
            event = Event(step=step, wall_time=time.time(), summary=Summary(value=values))
            self._writer.write_event(event)

    def _flush(self) -> None:
        with disk_errors(self._folder):
            self._writer.flush()


def overlay_png(
    case: Case, truth: Volume, mask: np.ndarray, *, labels: Sequence[str], title: str
) -> bytes | None:
    """Draw a case, its true mask and a predicted one as a PNG file.

    Where the label map ignores a voxel (255), neither mask is drawn.

    Args:
        case: Where its image is.
        truth: Its label map, as it is on disk.
        mask: Predicted labels on the same grid.
        labels: Name of each label value from 0, the background, on.
        title: Text over the picture.

    Returns:
        The file; ``None`` where the image is gone, as that of a preprocessed case may be.

    Raises:
        InputError: matplotlib is missing, or the image cannot be read.
    """
    if not all(file.exists() for image in case.images for file in files_in(image)):
        return None
    image = read_image(case.images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "overlay.png"
        counts = truth.data != IGNORED
        masks: dict[str, Any] = {
            "truth": truth.with_data(truth.data * counts),
            "prediction": truth.with_data(mask * counts),
        }
        overlay(image, **masks, path=path, title=title, labels=labels)
        return path.read_bytes()


def _learning_rates(config: TrainConfig, steps_per_epoch: int) -> list[float]:
    """Return the learning rate of every step of a training; none of an optimizer handed over."""
    if config.optimizer.is_handed:
        return []
    steps = config.epochs * steps_per_epoch
    schedule = make_schedule(config.optimizer, steps)
    return jax.vmap(lambda step: jnp.asarray(schedule(step)))(np.arange(steps)).tolist()


def _means(scores: Scores) -> dict[str, float]:
    """Return the mean Dice of all pairs and of each label, and mean false positives of the rest."""
    dice = mean_dice(scores)
    means = {} if dice is None else {"dice/mean": dice}
    for label, some in by_label(scores).items():
        values: dict[str, list[float]] = {}
        for one in some:
            values.setdefault(one.metric, []).append(one.value)
        means |= {f"{metric}/{label}": fmean(own) for metric, own in values.items()}
    return means


def _tag(name: str) -> str:
    """Replace what TensorBoard does not take in the name of a curve."""
    return "".join(letter if letter.isalnum() or letter in "/._-" else "_" for letter in name)


def _new_writer(folder: Path) -> Any:
    """Open a file whose name comes after those of all that are there."""
    from tensorboardX.event_file_writer import EventsWriter

    files = _files(folder)
    number = int(files[-1].suffix[1:]) + 1 if files else 0
    return EventsWriter(str(folder / "events"), f".{number:06}")


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}*"))


def _rewind(folder: Path, done: int) -> float | None:
    """Drop the events of later steps, and any that was cut short.

    Returns:
        The last time that is left; ``None`` where there is none.
    """
    total = None
    for path in _files(folder):
        before = path.read_bytes()
        kept = [(record, event) for record, event in _events(before) if event.step <= done]
        for _, event in kept:
            for value in event.summary.value:
                total = value.simple_value if value.tag == _TOTAL else total
        after = b"".join(record for record, _ in kept)
        if after != before:
            with atomic_path(path, overwrite=True) as temporary:
                temporary.write_bytes(after)
    return total


def _events(data: bytes) -> Iterator[tuple[bytes, Any]]:
    """Yield the events of a file, as bytes and read, up to one that was cut short.

    A record is its length, a checksum of that, the event, and a checksum of it.
    """
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    start = 0
    while start + 12 <= len(data):
        length, checksum = struct.unpack("<QI", data[start : start + 12])
        end = start + 12 + length + 4
        if end > len(data) or checksum != masked_crc32c(data[start : start + 8]):
            return
        yield data[start:end], Event.FromString(data[start + 12 : end - 4])
        start = end
