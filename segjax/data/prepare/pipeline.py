"""Preprocessing as data: a list of steps that is applied, inverted and stored with a model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.prepare.spatial import Interpolation
from segjax.data.prepare.steps import Step
from segjax.errors import InputError
from segjax.files import read_json
from segjax.grid import Grid, same_grid
from segjax.grid import grid as grid_of
from segjax.progress import track
from segjax.text import brief
from segjax.volume import Volume, check_volume

__all__ = ["Pipeline", "read_pipeline"]


@dataclass(frozen=True)
class Pipeline:
    """Apply steps in order; bring what was made on their result back.

    Attributes:
        steps: Steps, first one first.

    Example:
        >>> from segjax.data import Reorient, Resample, ZScore
        >>> pipeline = Pipeline((Reorient(), Resample((1.0, 1.0, 1.0)), ZScore("nonzero")))
        >>> flair = Volume(np.ones((8, 8, 3), np.int16), np.diag([-1.0, 1.0, 2.0, 1.0]))
        >>> processed = pipeline.apply(flair)
        >>> processed.data.shape
        (8, 8, 6, 1)
        >>> mask = processed.with_data(processed.data[..., 0] > 0.5)
        >>> pipeline.invert(mask, flair).data.shape
        (8, 8, 3)
    """

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        for step in self.steps:
            if not isinstance(step, Step):
                raise InputError(f"a pipeline holds steps, such as ZScore(), not {brief(step)}")

    @property
    def fitted(self) -> bool:
        """Whether no step has to learn from a set of images any more."""
        return all(step.fitted for step in self.steps)

    def fit(self, images: Callable[[], Iterable[Volume]]) -> "Pipeline":
        """Let the steps that are not fitted learn, in order, from images as they are before them.

        The images are gone through once for every such step, one at a time.

        Args:
            images: Returns the images of the set, anew at every call.

        Returns:
            The fitted pipeline; this one where there is nothing to learn.

        Raises:
            InputError: There is no image, or a step cannot learn from one.

        Example:
            >>> from segjax.data.phantom.dataset import phantom
            >>> from segjax.data import HistogramStandardization, ZScore
            >>> pipeline = Pipeline((HistogramStandardization(), ZScore("above-mean")))
            >>> heads = lambda: (phantom(seed, shape=(32, 32))[0] for seed in range(3))
            >>> pipeline.fitted, pipeline.fit(heads).fitted
            (False, True)
        """
        if self.fitted:
            return self
        done: list[Step] = []
        for step in self.steps:
            if not step.fitted:
                before = Pipeline(tuple(done))
                with_bar = track(images(), f"Fitting {step.name}", unit="image")
                step = step.fit(before.apply(image) for image in with_bar)  # noqa: PLW2901
            done.append(step)
        return Pipeline(tuple(done))

    def unfitted(self) -> "Pipeline":
        """Return the pipeline without what its steps learned from images.

        Example:
            >>> from segjax.data import HistogramStandardization, MinMax
            >>> learned = HistogramStandardization(landmarks=(tuple(range(13)),))
            >>> Pipeline((learned, MinMax())).unfitted().steps[0].landmarks
            ()
        """
        return Pipeline(tuple(step.unfitted() for step in self.steps))

    def trace(self, image: Volume) -> tuple[Volume, tuple[Grid, ...]]:
        """Process an image, and say where its voxels lie all along.

        Args:
            image: Image of any type, with or without a channel axis.

        Returns:
            The processed image, as :meth:`apply` returns it, and its grids: the one before the
            first step, and the one after each.

        Raises:
            InputError: As :meth:`apply`.

        Example:
            >>> flair = Volume(np.eye(5), np.eye(3))
            >>> from segjax.data import CropOrPad
            >>> processed, grids = Pipeline((CropOrPad((3, 3)),)).trace(flair)
            >>> [grid.shape for grid in grids]
            [(5, 5), (3, 3)]
        """
        with np.errstate(over="ignore"):
            image = image.with_data(image.channels_last.astype(np.float32, copy=False))
        wrong = int(np.count_nonzero(~np.isfinite(image.data)))
        if wrong:
            raise InputError(
                f"{wrong:,} voxels of the image are NaN or infinite in float32; mend it first"
            )
        grids = [grid_of(image)]
        for step in self.steps:
            image = check_volume(step.apply(image), f"what step {step.name!r} returns")
            grids.append(grid_of(image))
        return image.with_data(np.ascontiguousarray(image.data)), tuple(grids)

    def apply(self, image: Volume) -> Volume:
        """Process an image.

        Args:
            image: Image of any type, with or without a channel axis.

        Returns:
            The processed image: float32, with a channel axis, in C order.

        Raises:
            InputError: Voxels are NaN or infinite, or a step cannot take the image or has not
                been fitted.
        """
        return self.trace(image)[0]

    def grids(self, like: Volume) -> tuple[Grid, ...] | None:
        """Return what :meth:`trace` says of the grids, without processing the image.

        Args:
            like: The image, or its label map; only its grid counts.

        Returns:
            The grid before the first step and the one after each; None where one depends on the
            image.

        Raises:
            InputError: A step cannot take an image on this grid.
        """
        grids, obstacle = self._walk(like)
        return None if obstacle else grids

    def apply_label(self, label: Volume, grids: Sequence[Grid] | None = None) -> Volume:
        """Process a label map: spatial steps only, by the nearest label.

        Args:
            label: Label map on the grid of an image.
            grids: What :meth:`trace` returned for the image; needed only where a step's grid
                depends on the image.

        Returns:
            The label map on the grid of the processed image, of the same type, in C order.

        Raises:
            InputError: The grids are missing or belong to another image or pipeline.
        """
        grids = self._checked(grids, label)
        label = Volume(label.data, grids[0].affine)
        for step, after in zip(self.steps, grids[1:], strict=True):
            label = Volume(step.apply_label(label, after).data, after.affine)
        return label.with_data(np.ascontiguousarray(label.data))

    def invert(
        self,
        volume: Volume,
        like: Volume,
        *,
        grids: Sequence[Grid] | None = None,
        interpolation: Interpolation = "nearest",
    ) -> Volume:
        """Bring a volume from the processed grid back to the grid of the original image.

        Reorientation, cropping and padding are undone exactly; resampling by one more
        resampling. Voxels that lie outside the processed field of view are 0.

        Args:
            volume: Mask or probabilities on the grid of ``apply(like)``.
            like: The original image; only its grid counts.
            grids: What :meth:`trace` returned for the image; needed only where a step's grid
                depends on the image.
            interpolation: "nearest" for labels, "linear" for probabilities.

        Returns:
            The volume with exactly the spatial shape and affine of ``like``, in C order.

        Raises:
            InputError: The volume has not the spatial shape of ``apply(like)``, or the grids are
                missing or belong to another image or pipeline.
        """
        grids = self._checked(grids, like)
        if volume.spatial_shape != grids[-1].shape:
            raise InputError(
                f"a volume of shape {volume.spatial_shape} does not lie on the processed grid of "
                f"shape {grids[-1].shape}"
            )
        volume = Volume(volume.data, grids[-1].affine)
        for step, before in zip(reversed(self.steps), reversed(grids[:-1]), strict=True):
            volume = Volume(step.invert(volume, before, interpolation).data, before.affine)
        return Volume(np.ascontiguousarray(volume.data), like.affine)

    def restore(
        self, probabilities: Volume, like: Volume, *, grids: Sequence[Grid] | None = None
    ) -> Volume:
        """Bring probabilities from the processed grid back to the grid of the original image.

        As :meth:`invert` does it linearly; but of several labels the first, the background, is
        what the others leave, ``clip(1 - Σ others, 0, 1)``, so that what lies outside the
        processed field of view is background. Where no step moves a voxel all is left as it is.

        Args:
            probabilities: ``(*spatial, label)``, float32, on the grid of ``apply(like)``.
            like: The original image; only its grid counts.
            grids: As :meth:`invert` takes them.

        Returns:
            Probabilities with exactly the spatial shape and affine of ``like``, in C order.

        Raises:
            InputError: As :meth:`invert`.

        Example:
            >>> from segjax.data import CropOrPad
            >>> cropped = Pipeline((CropOrPad((1, 2)),))
            >>> sure = Volume(np.array([[[0.0, 1.0], [0.0, 1.0]]], np.float32), np.eye(3))
            >>> cropped.restore(sure, Volume(np.zeros((1, 3)), np.eye(3))).data[..., 0].tolist()
            [[1.0, 0.0, 0.0]]
        """
        restored = self.invert(probabilities, like, grids=grids, interpolation="linear")
        if probabilities.channels == 1 or self.keeps_grid(like, grids):
            return restored
        shared = np.may_share_memory(restored.data, probabilities.data)
        data = restored.data.copy() if shared else restored.data
        np.clip(1 - data[..., 1:].sum(-1), 0, 1, out=data[..., 0])
        return restored.with_data(data)

    def keeps_grid(self, like: Volume, grids: Sequence[Grid] | None = None) -> bool:
        """Say whether no step moves a voxel of an image.

        Args:
            like: The image, or its label map; only its grid counts.
            grids: What :meth:`trace` returned for the image; needed only where a step's grid
                depends on the image.

        Raises:
            InputError: The grids are missing or belong to another image or pipeline.
        """
        first, *others = self._checked(grids, like)
        return all(same_grid(first, grid) for grid in others)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the steps as plain data.

        Returns:
            One dictionary per step: its name under "step", and its fields.

        Example:
            >>> from segjax.data import ZScore
            >>> Pipeline((ZScore("nonzero"),)).to_json()
            [{'step': 'z-score', 'where': 'nonzero'}]
        """
        return [step.to_json() for step in self.steps]

    @classmethod
    def from_json(cls, steps: Any) -> "Pipeline":
        """Return the pipeline that :meth:`to_json` wrote.

        Args:
            steps: Parsed JSON: a list of one dictionary per step.

        Returns:
            The pipeline.

        Raises:
            InputError: A step or a field is unknown, missing or has a value that cannot be.

        Example:
            >>> Pipeline.from_json([{"step": "min-max"}])
            Pipeline(steps=(MinMax(),))
        """
        if isinstance(steps, str | Mapping) or not isinstance(steps, Sequence):
            raise InputError(f"a pipeline is a list of steps, not {steps!r}")
        return cls(tuple(Step.from_json(step) for step in steps))

    def _walk(self, like: Volume) -> tuple[tuple[Grid, ...], Step | None]:
        """Return the grids up to the first step that needs the image, and that step."""
        grids = [grid_of(like)]
        for step in self.steps:
            after = step.grid(grids[-1])
            if after is None:
                return tuple(grids), step
            grids.append(after)
        return tuple(grids), None

    def _checked(self, grids: Sequence[Grid] | None, like: Volume) -> Sequence[Grid]:
        """Return the grids of an image: those that were handed over, or those of the steps."""
        if grids is None:
            grids, obstacle = self._walk(like)
            if obstacle:
                raise InputError(
                    f"where the voxels lie after {obstacle.name!r} depends on the image: hand over "
                    "the grids that Pipeline.trace returned for it"
                )
            return grids
        if len(grids) != len(self.steps) + 1 or grids[0].shape != like.spatial_shape:
            raise InputError(
                f"{len(grids)} grids, the first of shape {grids[0].shape if grids else ()}, do "
                f"not fit {len(self.steps)} steps on an image of shape {like.spatial_shape}: hand "
                "over those that Pipeline.trace returned for this image"
            )
        return grids


def read_pipeline(path: str | Path) -> Pipeline:
    """Read a pipeline from a JSON file: a list of steps, or an object that has one.

    Args:
        path: What :meth:`Pipeline.to_json` returns, or a run's ``config.json``.

    Raises:
        InputError: The file holds no pipeline; the message names the file.

    Example:
        >>> [step.name for step in read_pipeline("run/config.json").steps]
        ['reorient', 'resample', 'z-score']
    """
    values = read_json(path)
    try:
        return Pipeline.from_json(values["pipeline"] if isinstance(values, dict) else values)
    except KeyError as error:
        raise InputError(
            f'{path}: has no \'pipeline\', and is no list of steps, such as [{{"step": "z-score"}}]'
        ) from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
