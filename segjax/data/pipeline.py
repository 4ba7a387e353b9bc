"""Preprocessing as data: a list of steps that is applied, inverted and stored with a model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import accumulate
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from segjax.data import intensity, spatial
from segjax.data.spatial import Grid, Interpolation
from segjax.errors import InputError
from segjax.volume import Volume

__all__ = [
    "ClipPercentiles",
    "CropOrPad",
    "MinMax",
    "Pipeline",
    "Reorient",
    "Resample",
    "Rescale",
    "Step",
    "ZScore",
]


@dataclass(frozen=True)
class Step:
    """Change an image in one way; this base class changes nothing.

    A step of intensities overrides ``apply``; a spatial step overrides all four methods.
    """

    name: ClassVar[str] = ""

    def apply(self, image: Volume) -> Volume:
        """Return the image (float32, channels last) after this step."""
        return image

    def apply_label(self, label: Volume) -> Volume:
        """Return the label map after this step."""
        return label

    def grid(self, before: Grid) -> Grid:
        """Return where the voxels lie after this step."""
        return before

    def invert(self, volume: Volume, before: Grid, interpolation: Interpolation) -> Volume:
        """Return a volume that lies on the grid after this step on the grid before it."""
        return volume


@dataclass(frozen=True)
class Reorient(Step):
    """Let the voxel axes point to the given sides of the patient (:func:`spatial.reorient`).

    Attributes:
        orientation: Three letters, such as "RAS". Volumes of rank 2 stay as they are.
    """

    name: ClassVar[str] = "reorient"
    orientation: str = "RAS"

    def __post_init__(self) -> None:
        spatial.reorient_grid(Grid((1, 1, 1), np.eye(4)), self.orientation)

    def apply(self, image: Volume) -> Volume:
        """Return the reoriented image."""
        return spatial.reorient(image, self.orientation)

    def apply_label(self, label: Volume) -> Volume:
        """Return the reoriented label map."""
        return spatial.reorient(label, self.orientation)

    def grid(self, before: Grid) -> Grid:
        """Return the reoriented grid."""
        return spatial.reorient_grid(before, self.orientation)

    def invert(self, volume: Volume, before: Grid, interpolation: Interpolation) -> Volume:
        """Return the volume in the orientation it had, exactly."""
        return spatial.restore_orientation(volume, before, self.orientation)


@dataclass(frozen=True)
class Resample(Step):
    """Resample to another spacing: linearly, labels to the nearest (:func:`spatial.resample`).

    Attributes:
        spacing: Distance between voxels along each axis, in mm. Volumes of rank 2 take the first
            two.
    """

    name: ClassVar[str] = "resample"
    spacing: tuple[int | float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spacing", _positive("spacing", self.spacing, float))

    def apply(self, image: Volume) -> Volume:
        """Return the image at the new spacing, linearly interpolated."""
        return spatial.resample(image, self.grid(spatial.grid(image)), interpolation="linear")

    def apply_label(self, label: Volume) -> Volume:
        """Return the label map at the new spacing, each voxel with its nearest label."""
        return spatial.resample(label, self.grid(spatial.grid(label)), interpolation="nearest")

    def grid(self, before: Grid) -> Grid:
        """Return the grid of the new spacing."""
        return spatial.spacing_grid(before, _of_rank(self.spacing, before))

    def invert(self, volume: Volume, before: Grid, interpolation: Interpolation) -> Volume:
        """Return the volume resampled onto the grid it had."""
        return spatial.resample(volume, before, interpolation=interpolation)


@dataclass(frozen=True)
class CropOrPad(Step):
    """Crop or pad with 0 about the centre (:func:`spatial.crop_or_pad`).

    Attributes:
        shape: Number of voxels along each axis. Volumes of rank 2 take the first two.
    """

    name: ClassVar[str] = "crop-or-pad"
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _positive("shape", self.shape, int))

    def apply(self, image: Volume) -> Volume:
        """Return the image of the new shape."""
        return spatial.crop_or_pad(image, _of_rank(self.shape, spatial.grid(image)))

    def apply_label(self, label: Volume) -> Volume:
        """Return the label map of the new shape."""
        return self.apply(label)

    def grid(self, before: Grid) -> Grid:
        """Return the grid of the new shape."""
        return spatial.crop_or_pad_grid(before, _of_rank(self.shape, before))

    def invert(self, volume: Volume, before: Grid, interpolation: Interpolation) -> Volume:
        """Return the volume of the shape it had; voxels that were cropped are 0."""
        return spatial.crop_or_pad(volume, before.shape)


@dataclass(frozen=True)
class ClipPercentiles(Step):
    """Clip each channel to its percentiles (:func:`intensity.clip_percentiles`).

    Attributes:
        low: Lower percentile, 0 to 100.
        high: Upper percentile, 0 to 100.
    """

    name: ClassVar[str] = "clip-percentiles"
    low: int | float = 0.5
    high: int | float = 99.5

    def __post_init__(self) -> None:
        _numbers(self)
        intensity.clip_percentiles(np.zeros((1, 1)), self.low, self.high)

    def apply(self, image: Volume) -> Volume:
        """Return the clipped image."""
        return image.with_data(intensity.clip_percentiles(image.data, self.low, self.high))


@dataclass(frozen=True)
class ZScore(Step):
    """Normalise each channel to mean 0 and standard deviation 1 (:func:`intensity.z_score`).

    Attributes:
        where: Voxels that mean and standard deviation come from.
    """

    name: ClassVar[str] = "z-score"
    where: intensity.Where = "all"

    def __post_init__(self) -> None:
        intensity.z_score(np.zeros((1, 1)), where=self.where)

    def apply(self, image: Volume) -> Volume:
        """Return the normalised image."""
        return image.with_data(intensity.z_score(image.data, where=self.where))


@dataclass(frozen=True)
class MinMax(Step):
    """Scale each channel to 0 … 1 (:func:`intensity.min_max`)."""

    name: ClassVar[str] = "min-max"

    def apply(self, image: Volume) -> Volume:
        """Return the scaled image."""
        return image.with_data(intensity.min_max(image.data))


@dataclass(frozen=True)
class Rescale(Step):
    """Scale each channel to a range (:func:`intensity.rescale`).

    Attributes:
        low: Value that the minimum gets.
        high: Value that the maximum gets.
    """

    name: ClassVar[str] = "rescale"
    low: int | float = -1.0
    high: int | float = 1.0

    def __post_init__(self) -> None:
        _numbers(self)
        intensity.rescale(np.zeros((1, 1)), self.low, self.high)

    def apply(self, image: Volume) -> Volume:
        """Return the scaled image."""
        return image.with_data(intensity.rescale(image.data, self.low, self.high))


_STEPS: dict[str, type[Step]] = {
    step.name: step
    for step in (Reorient, Resample, CropOrPad, ClipPercentiles, ZScore, MinMax, Rescale)
}


@dataclass(frozen=True)
class Pipeline:
    """Apply steps in order; bring what was made on their result back.

    Attributes:
        steps: Steps, first one first.

    Example:
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

    def apply(self, image: Volume) -> Volume:
        """Process an image.

        Args:
            image: Image of any type, with or without a channel axis.

        Returns:
            The processed image: float32, with a channel axis, in C order.

        Raises:
            InputError: Voxels are NaN or infinite, or a step cannot take the image.
        """
        with np.errstate(over="ignore"):
            image = image.with_data(image.channels_last.astype(np.float32, copy=False))
        wrong = int(np.count_nonzero(~np.isfinite(image.data)))
        if wrong:
            raise InputError(f"{wrong:,} voxels of the image are NaN or infinite; mend it first")
        for step in self.steps:
            image = step.apply(image)
        return image.with_data(np.ascontiguousarray(image.data))

    def apply_label(self, label: Volume) -> Volume:
        """Process a label map: spatial steps only, by the nearest label.

        Args:
            label: Label map on the grid of an image.

        Returns:
            The label map on the grid of the processed image, of the same type, in C order.
        """
        for step in self.steps:
            label = step.apply_label(label)
        return label.with_data(np.ascontiguousarray(label.data))

    def invert(
        self, volume: Volume, like: Volume, *, interpolation: Interpolation = "nearest"
    ) -> Volume:
        """Bring a volume from the processed grid back to the grid of the original image.

        Reorientation, cropping and padding are undone exactly; resampling by one more
        resampling. Voxels that lie outside the processed field of view are 0.

        Args:
            volume: Mask or probabilities on the grid of ``apply(like)``.
            like: The original image; only its grid counts.
            interpolation: "nearest" for labels, "linear" for probabilities.

        Returns:
            The volume with exactly the spatial shape and affine of ``like``, in C order.

        Raises:
            InputError: The volume has not the spatial shape of ``apply(like)``.
        """
        grids = list(
            accumulate(self.steps, lambda g, step: step.grid(g), initial=spatial.grid(like))
        )
        if volume.spatial_shape != grids[-1].shape:
            raise InputError(
                f"a volume of shape {volume.spatial_shape} does not lie on the processed grid of "
                f"shape {grids[-1].shape}"
            )
        volume = Volume(volume.data, grids[-1].affine)
        for step, before in zip(reversed(self.steps), reversed(grids[:-1]), strict=True):
            volume = step.invert(volume, before, interpolation)
        return Volume(np.ascontiguousarray(volume.data), like.affine)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the steps as plain data.

        Returns:
            One dictionary per step: its name under "step", and its fields.

        Example:
            >>> Pipeline((ZScore("nonzero"),)).to_json()
            [{'step': 'z-score', 'where': 'nonzero'}]
        """
        return [{"step": step.name, **_plain(asdict(step))} for step in self.steps]

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
        return cls(tuple(_step(entry) for entry in steps))


def _step(entry: Any) -> Step:
    name = entry.get("step") if isinstance(entry, Mapping) else None
    if not isinstance(name, str) or name not in _STEPS:
        raise InputError(f"unknown step {name or entry!r}: give one of {', '.join(_STEPS)}")
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items() if k != "step"}
    known = [field.name for field in fields(_STEPS[name])]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InputError(f"step {name!r}: unknown field {unknown[0]!r}; it has {known}")
    try:
        return _STEPS[name](**given)
    except InputError as error:
        raise InputError(f"step {name!r}: {error}") from error
    except TypeError as error:
        raise InputError(f"step {name!r}: give it {known}, not {given}") from error


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}


def _positive(what: str, values: Iterable[Any], kind: type) -> tuple[Any, ...]:
    try:
        numbers = tuple(kind(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    exact = numbers == tuple(values) if numbers else False
    if len(numbers) not in (2, 3) or not exact or not all(0 < n < np.inf for n in numbers):
        raise InputError(f"{what} {values!r}: give two or three positive numbers")
    return numbers


def _numbers(step: Step) -> None:
    for field in fields(step):
        value = getattr(step, field.name)
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InputError(f"{field.name} {value!r}: give a number")
        object.__setattr__(step, field.name, float(value))


def _of_rank(values: tuple[Any, ...], grid: Grid) -> tuple[Any, ...]:
    rank = len(grid.shape)
    if len(values) < rank:
        raise InputError(f"{values}: give {rank} numbers for a volume of shape {grid.shape}")
    return values[:rank]
