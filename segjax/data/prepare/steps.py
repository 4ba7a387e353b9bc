"""Preprocessing steps: frozen, plain values that are applied, inverted and stored."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np

from segjax.codec import Named
from segjax.data.prepare import histogram, intensity, spatial
from segjax.data.prepare.bias_field import N4, correct_bias_field
from segjax.data.prepare.brain import check_method, extract_brain
from segjax.data.prepare.spatial import Interpolation
from segjax.errors import InputError
from segjax.grid import Grid, crop_to_grid, reorient, reorient_grid, restore_orientation
from segjax.grid import grid as grid_of
from segjax.text import brief
from segjax.volume import Volume

__all__ = [
    "BiasFieldCorrection",
    "BrainExtraction",
    "Clip",
    "ClipPercentiles",
    "CropOrPad",
    "CropToForeground",
    "HistogramStandardization",
    "MinMax",
    "Reorient",
    "Resample",
    "Rescale",
    "Resize",
    "RobustZScore",
    "Step",
    "TissuePeak",
    "ZScore",
]


@dataclass(frozen=True)
class Step(Named, kind="step"):
    """Change an image in one way; this base class changes nothing.

    A step of intensities overrides ``apply``; a spatial step overrides ``apply_label``, ``grid``
    and ``invert`` too; a step that learns from a set of images overrides ``fitted``, ``fit`` and
    ``unfitted``. A frozen dataclass with a ``name`` that derives from this one registers itself:
    pipelines take it, and files that hold it are read wherever its module is imported.

    Example:
        >>> @dataclass(frozen=True)
        ... class Clip(Step):
        ...     name: ClassVar[str] = "clip-example"
        ...     most: int | float = 1.0
        ...
        ...     def apply(self, image):
        ...         return image.with_data(np.clip(image.data, 0, self.most))
        >>> Clip(2).to_json()
        {'step': 'clip-example', 'most': 2}
    """

    @property
    def fitted(self) -> bool:
        """Whether the step knows all that it needs."""
        return True

    def fit(self, images: Iterable[Volume]) -> "Step":
        """Return the step with what it learns from images as they are before it."""
        return self

    def unfitted(self) -> "Step":
        """Return the step without what it learned."""
        return self

    def apply(self, image: Volume) -> Volume:
        """Return the image (float32, channels last) after this step."""
        return image

    def apply_label(self, label: Volume, after: Grid) -> Volume:
        """Return the label map on the grid that the image has after this step."""
        return label

    def grid(self, before: Grid) -> Grid | None:
        """Return where the voxels lie after this step; None where that depends on the image."""
        return before

    def invert(self, volume: Volume, before: Grid, interpolation: Interpolation) -> Volume:
        """Return a volume that lies on the grid after this step on the grid before it."""
        return volume


@dataclass(frozen=True)
class Reorient(Step):
    """Let the voxel axes point to the given sides of the patient (:func:`segjax.grid.reorient`).

    Attributes:
        orientation: Three letters, such as "RAS". Volumes of rank 2 stay as they are.

    Example:
        >>> lps = Grid((2, 3, 4), np.diag([-1.0, -1.0, 1.0, 1.0]))
        >>> Reorient("RAS").grid(lps).affine.diagonal().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    name: ClassVar[str] = "reorient"
    orientation: str = "RAS"

    def __post_init__(self) -> None:
        reorient_grid(Grid((1, 1, 1), np.eye(4)), self.orientation)

    def apply(self, image: Volume) -> Volume:
        """Return the reoriented image."""
        return reorient(image, self.orientation)

    def apply_label(self, label: Volume, after: Grid) -> Volume:
        """Return the reoriented label map."""
        return reorient(label, self.orientation)

    def grid(self, before: Grid) -> Grid:
        """Return the reoriented grid."""
        return reorient_grid(before, self.orientation)

    def invert(self, volume: Volume, before: Grid, interpolation: Interpolation) -> Volume:
        """Return the volume in the orientation it had, exactly."""
        return restore_orientation(volume, before, self.orientation)


class _Resampling(Step):
    """Bring images onto the grid that `grid` says, whatever they hold."""

    def apply(self, image: Volume) -> Volume:
        """Return the image on the new grid, linearly interpolated."""
        return spatial.resample(image, self.grid(grid_of(image)), interpolation="linear")

    def apply_label(self, label: Volume, after: Grid) -> Volume:
        """Return the label map on the new grid, each voxel with its nearest label."""
        return spatial.resample(label, after, interpolation="nearest")

    @abstractmethod
    def grid(self, before: Grid) -> Grid:
        """Return the new grid."""

    def invert(self, volume: Volume, before: Grid, interpolation: Interpolation) -> Volume:
        """Return the volume resampled onto the grid it had."""
        return spatial.resample(volume, before, interpolation=interpolation)


@dataclass(frozen=True)
class Resample(_Resampling):
    """Resample to another spacing: linearly, labels to the nearest (:func:`spatial.resample`).

    Attributes:
        spacing: Distance between voxels along each axis, in mm. Volumes of rank 2 take the first
            two.
        tolerance: Images whose spacing differs by no more than this fraction along every axis stay
            as they are.

    Example:
        >>> Resample((1.0, 1.0, 1.0)).grid(Grid((24, 24, 8), np.diag([1.0, 1, 3, 1]))).shape
        (24, 24, 24)
    """

    name: ClassVar[str] = "resample"
    spacing: tuple[int | float, ...] = (1.0, 1.0, 1.0)
    tolerance: int | float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "spacing", _positive("spacing", self.spacing, float))
        tolerance = self.tolerance
        if isinstance(tolerance, bool) or not isinstance(tolerance, Real) or not 0 <= tolerance < 1:
            raise InputError(f"tolerance {tolerance!r}: give a fraction from 0 to below 1")
        object.__setattr__(self, "tolerance", float(tolerance))

    def grid(self, before: Grid) -> Grid:
        """Return the grid of the new spacing; the same one where it is near enough."""
        spacing = _of_rank(self.spacing, before)
        ratios = np.divide(before.spacing, spacing)
        if self.tolerance and np.abs(ratios - 1).max() <= self.tolerance:
            return before
        return spatial.spacing_grid(before, spacing)


@dataclass(frozen=True)
class Resize(_Resampling):
    """Resample slices so that their longer side has a given number of pixels, which are square.

    For pictures, which tell no spacing, and for slices of volumes that are to look like them: the
    first two axes are resampled to the distance (longer side in mm) / `size`, linearly and labels
    to the nearest (:func:`spatial.resample`), and slices stay as many and as far apart as they
    are. MONAI's `Resized(size_mode="longest")`, of slices, but that the shorter side is rounded
    down, so that pixels are square.

    Attributes:
        size: Number of pixels along the longer side, positive.

    Example:
        >>> picture, series = Grid((512, 400), np.eye(3)), Grid((256, 192, 22), np.eye(4))
        >>> Resize(256).grid(picture).shape, Resize(128).grid(series).shape
        ((256, 200), (128, 96, 22))
    """

    name: ClassVar[str] = "resize"
    size: int

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, Integral) or self.size < 1:
            raise InputError(f"size {brief(self.size)}: give a whole number of pixels from 1 up")
        object.__setattr__(self, "size", int(self.size))

    def grid(self, before: Grid) -> Grid:
        """Return the grid of the resized slices; the same one where it has that size."""
        sides = np.multiply(before.shape[:2], before.spacing[:2])
        pixel = float(sides.max()) / self.size
        spacing = (pixel, pixel, *before.spacing[2:])
        if np.allclose(before.spacing, spacing, rtol=1e-6, atol=0):
            return before
        return spatial.spacing_grid(before, spacing)


@dataclass(frozen=True)
class CropOrPad(Step):
    """Crop or pad with 0 about the centre (:func:`spatial.crop_or_pad`).

    Attributes:
        shape: Number of voxels along each axis. Volumes of rank 2 take the first two.

    Example:
        >>> CropOrPad((20, 20, 20)).grid(Grid((24, 24, 8), np.eye(4))).shape
        (20, 20, 20)
    """

    name: ClassVar[str] = "crop-or-pad"
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _positive("shape", self.shape, int))

    def apply(self, image: Volume) -> Volume:
        """Return the image of the new shape."""
        return spatial.crop_or_pad(image, _of_rank(self.shape, grid_of(image)))

    def apply_label(self, label: Volume, after: Grid) -> Volume:
        """Return the label map of the new shape."""
        return spatial.crop_or_pad(label, after.shape)

    def grid(self, before: Grid) -> Grid:
        """Return the grid of the new shape."""
        return spatial.crop_or_pad_grid(before, _of_rank(self.shape, before))

    def invert(self, volume: Volume, before: Grid, interpolation: Interpolation) -> Volume:
        """Return the volume of the shape it had; voxels that were cropped are 0."""
        return spatial.crop_or_pad(volume, before.shape)


@dataclass(frozen=True)
class CropToForeground(Step):
    """Crop to the box around the voxels that are not 0 (:func:`spatial.crop_to_foreground`).

    Where the box lies depends on the image. Put the step after brain extraction, and before steps
    that give the background another value than 0.

    Attributes:
        margin: Distance to keep around the box, in mm.

    Example:
        >>> image = Volume(np.pad(np.ones((2, 2, 1), np.float32), 3)[..., 3:4], np.eye(3))
        >>> CropToForeground(margin=1.0).apply(image).spatial_shape
        (4, 4)
    """

    name: ClassVar[str] = "crop-to-brain"
    margin: int | float = 5.0

    def __post_init__(self) -> None:
        _numbers(self)
        if not 0 <= self.margin < np.inf:
            raise InputError(f"margin {self.margin}: give millimetres, at least 0")

    def apply(self, image: Volume) -> Volume:
        """Return the cropped image."""
        return spatial.crop_to_foreground(image, margin=self.margin)

    def apply_label(self, label: Volume, after: Grid) -> Volume:
        """Return the label map, cropped as the image was."""
        return crop_to_grid(label, after)

    def grid(self, before: Grid) -> Grid | None:
        """Return None: the grid after this step depends on the image."""
        return None

    def invert(self, volume: Volume, before: Grid, interpolation: Interpolation) -> Volume:
        """Return the volume on the grid it had, exactly; what was cropped is 0."""
        return crop_to_grid(volume, before)


@dataclass(frozen=True)
class ClipPercentiles(Step):
    """Clip each channel to its percentiles (:func:`intensity.clip_percentiles`).

    Attributes:
        low: Lower percentile, 0 to 100.
        high: Upper percentile, 0 to 100.

    Example:
        >>> image = Volume(np.arange(4.0, dtype=np.float32).reshape(2, 2, 1), np.eye(3))
        >>> ClipPercentiles(0, 50).apply(image).data.ravel().tolist()
        [0.0, 1.0, 1.5, 1.5]
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
class Clip(Step):
    """Clip intensities to a range, the same in all images.

    After :class:`TissuePeak` the background, which is 0 before, differs between images; clipped, it
    is alike.

    Attributes:
        low: Value that what is darker gets.
        high: Value that what is brighter gets.

    Example:
        >>> image = Volume(np.arange(4.0, dtype=np.float32).reshape(2, 2, 1), np.eye(3))
        >>> Clip(1, 2.5).apply(image).data.ravel().tolist()
        [1.0, 1.0, 2.0, 2.5]
    """

    name: ClassVar[str] = "clip"
    low: int | float
    high: int | float

    def __post_init__(self) -> None:
        _numbers(self)
        if not self.low < self.high:
            raise InputError(f"range {self.low} to {self.high}: give low < high")

    def apply(self, image: Volume) -> Volume:
        """Return the clipped image."""
        low, high = np.float32(self.low), np.float32(self.high)
        return image.with_data(np.clip(image.data, low, high))


@dataclass(frozen=True)
class ZScore(Step):
    """Normalise each channel to mean 0 and standard deviation 1 (:func:`intensity.z_score`).

    Attributes:
        where: Voxels that mean and standard deviation come from.

    Example:
        >>> image = Volume(np.array([[[1]], [[3]]], np.float32), np.eye(3))
        >>> ZScore().apply(image).data.ravel().tolist()
        [-1.0, 1.0]
    """

    name: ClassVar[str] = "z-score"
    where: intensity.Where = "all"

    def __post_init__(self) -> None:
        intensity.z_score(np.zeros((1, 1)), where=self.where)

    def apply(self, image: Volume) -> Volume:
        """Return the normalised image."""
        return image.with_data(intensity.z_score(image.data, where=self.where))


@dataclass(frozen=True)
class RobustZScore(Step):
    """Bring each channel's median to 0 and its quartiles to ±0.67, about.

    See :func:`intensity.robust_z_score`.

    Attributes:
        where: Voxels that median and quartiles come from.

    Example:
        >>> image = Volume(np.array([[[0]], [[1]], [[2]], [[3]], [[90]]], np.float32), np.eye(3))
        >>> RobustZScore("all").apply(image).data.ravel().round(2)
        array([-1.35, -0.67,  0.  ,  0.67, 59.36], dtype=float32)
    """

    name: ClassVar[str] = "robust-z-score"
    where: intensity.Where = "nonzero"

    def __post_init__(self) -> None:
        intensity.robust_z_score(np.zeros((1, 1)), where=self.where)

    def apply(self, image: Volume) -> Volume:
        """Return the normalised image."""
        return image.with_data(intensity.robust_z_score(image.data, where=self.where))


@dataclass(frozen=True)
class TissuePeak(Step):
    """Bring a peak of each channel's histogram to 0 and width 1 (:func:`intensity.tissue_peak`).

    Attributes:
        peak: The "largest" peak, the "first" or the "last" one.
        side: Of the peak, that its width is taken from: "both", "lower" or "upper".
        where: Voxels that the histogram is of.

    Example:
        >>> values = np.random.default_rng(0).normal(80, 5, (40, 40, 1)).astype(np.float32)
        >>> scaled = TissuePeak().apply(Volume(values, np.eye(3))).data
        >>> bool(abs(np.median(scaled)) < 0.3)
        True
    """

    name: ClassVar[str] = "tissue-peak"
    peak: intensity.Peak = "largest"
    side: intensity.Side = "both"
    where: intensity.Where = "nonzero"

    def __post_init__(self) -> None:
        self._scaled(np.zeros((1, 1)))

    def apply(self, image: Volume) -> Volume:
        """Return the normalised image."""
        return image.with_data(self._scaled(image.data))

    def _scaled(self, data: np.ndarray) -> np.ndarray:
        return intensity.tissue_peak(data, peak=self.peak, side=self.side, where=self.where)


@dataclass(frozen=True)
class MinMax(Step):
    """Scale each channel to 0 … 1 (:func:`intensity.min_max`).

    Example:
        >>> image = Volume(np.arange(5.0, dtype=np.float32).reshape(5, 1, 1), np.eye(3))
        >>> MinMax().apply(image).data.ravel().tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """

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

    Example:
        >>> image = Volume(np.arange(5.0, dtype=np.float32).reshape(5, 1, 1), np.eye(3))
        >>> Rescale(-1, 1).apply(image).data.ravel().tolist()
        [-1.0, -0.5, 0.0, 0.5, 1.0]
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


@dataclass(frozen=True)
class BiasFieldCorrection(Step):
    """Divide each channel by its bias field (:func:`bias_field.correct_bias_field`).

    The fields are those of :class:`bias_field.N4`, with the same meaning.

    Attributes:
        where: Voxels that the field is estimated on: those over "otsu"'s threshold, or the
            "nonzero" ones of all channels, for images whose brain is extracted.
        shrink: The field is estimated on every so-manieth voxel.
        spline_spacing: Distance between the knots of the coarsest B-spline, in mm.
        iterations: Most iterations at each level.
        tolerance: Change of the field that ends a level.

    Example:
        >>> BiasFieldCorrection(where="nonzero").to_json()["step"]
        'n4'
    """

    name: ClassVar[str] = "n4"
    where: Literal["otsu", "nonzero"] = "otsu"
    shrink: int = 4
    spline_spacing: int | float = 200.0
    iterations: tuple[int, ...] = (50, 50, 50, 50)
    tolerance: int | float = 0.001

    def __post_init__(self) -> None:
        if self.where not in ("otsu", "nonzero"):
            raise InputError(f"where {self.where!r}: give 'otsu' or 'nonzero'")
        self._options()

    def _options(self) -> N4:
        return N4(self.shrink, self.spline_spacing, self.iterations, self.tolerance)

    def apply(self, image: Volume) -> Volume:
        """Return the corrected image."""
        mask = None
        if self.where == "nonzero":
            mask = image.with_data((image.data != 0).any(axis=-1))
        return correct_bias_field(image, mask=mask, options=self._options())


@dataclass(frozen=True)
class BrainExtraction(Step):
    """Set what is not brain to 0 (:func:`brain.extract_brain`).

    Attributes:
        method: "classical", "hd-bet", "zero-background" or another registered name; or the path of
            a segjax ONNX file, which must be there wherever the step is applied.
        channel: The channel that the brain is found in; all are masked.

    Example:
        >>> image = Volume(np.ones((2, 2, 2, 1), np.float32), np.eye(4))
        >>> BrainExtraction("zero-background").apply(image).data.sum().item()
        8.0
    """

    name: ClassVar[str] = "brain-extraction"
    method: str = "classical"
    channel: int = 0

    def __post_init__(self) -> None:
        check_method(self.method)
        if isinstance(self.channel, bool) or not isinstance(self.channel, int) or self.channel < 0:
            raise InputError(f"channel {self.channel!r}: give a number from 0")

    def apply(self, image: Volume) -> Volume:
        """Return the image with 0 outside the brain."""
        mask = extract_brain(image, self.method, channel=self.channel)
        return image.with_data(image.data * mask.data[..., None])


@dataclass(frozen=True)
class HistogramStandardization(Step):
    """Map each channel's histogram to a standard one (:func:`histogram.standardize`).

    Attributes:
        landmarks: 13 per channel, as :func:`histogram.train_landmarks` returns them; empty until
            the step is fitted.
        where: Voxels that percentiles come from, in training and later.
        cutoff: Quantiles of the first and the last landmark.

    Example:
        >>> images = [Volume(np.random.default_rng(i).random((16, 16, 1), np.float32), np.eye(3))
        ...           for i in range(2)]
        >>> HistogramStandardization().fit(images).fitted
        True
    """

    name: ClassVar[str] = "histogram-standardization"
    landmarks: tuple[tuple[float, ...], ...] = ()
    where: intensity.Where = "all"
    cutoff: tuple[int | float, int | float] = (0.01, 0.99)

    def __post_init__(self) -> None:
        if not isinstance(self.where, str) or len(self.cutoff) != 2:
            raise InputError(
                f"where {self.where!r}, cutoff {self.cutoff}: give a word, two numbers"
            )
        intensity.choose(np.zeros(1), self.where)
        histogram.landmark_percentiles(self.cutoff)
        if len(self.landmarks):
            marks = histogram.check_landmarks(self.landmarks).tolist()
            object.__setattr__(self, "landmarks", tuple(tuple(row) for row in marks))

    @property
    def fitted(self) -> bool:
        """Whether the landmarks are known."""
        return len(self.landmarks) > 0

    def fit(self, images: Iterable[Volume]) -> "HistogramStandardization":
        """Return the step with landmarks trained on images as they are before it."""
        marks = histogram.train_landmarks(images, where=self.where, cutoff=self.cutoff).tolist()
        return replace(self, landmarks=tuple(tuple(row) for row in marks))

    def unfitted(self) -> "HistogramStandardization":
        """Return the step without landmarks."""
        return replace(self, landmarks=())

    def apply(self, image: Volume) -> Volume:
        """Return the standardised image.

        Raises:
            InputError: The step has not been fitted, or cannot take the image.
        """
        if not self.fitted:
            raise InputError(f"step {self.name!r} has no landmarks yet: fit the pipeline first")
        return image.with_data(
            histogram.standardize(
                image.data, np.array(self.landmarks), where=self.where, cutoff=self.cutoff
            )
        )


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
