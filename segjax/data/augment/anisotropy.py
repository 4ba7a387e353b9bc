"""Make images coarse along one axis, as thick slices are."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int, Integer, Num

from segjax.data.augment._arrays import as_float
from segjax.data.augment._axes import along, check_axes, present_axes, visited_axes
from segjax.data.augment.transform import Parameters, Transform, check_bounds


@dataclass(frozen=True)
class Anisotropy(Transform):
    """Leave out voxels along one axis and interpolate them again.

    Of the n voxels along the axis, the ones nearest to ⌊n / m⌋ places at a distance of m voxels,
    in the middle of the axis, are kept; between them the image is interpolated linearly, and
    within m/2 of the outermost ones it is constant. What lies further out becomes 0, as TorchIO
    has it: at most m/2 voxels at either end.

    Args:
        axes: Spatial axes of which one is drawn; those that an image lacks, or that have one voxel,
            are left out.
        downsampling: Bounds of m, drawn uniformly.
        scalars_only: Leave label maps as they are. Otherwise each voxel gets the label of the
            kept voxel that is nearest.
        probability: Of the image being changed, in [0, 1].

    Raises:
        InputError: Where bounds, axes or probability are out of range; when drawing, where an
            image has none of the axes.

    Example:
        >>> image = np.arange(6, dtype=np.float32)[:, None] ** 2
        >>> parameters = coarse_grid((6, 1), axis=0, downsampling=3.0)
        >>> Anisotropy().apply(image, parameters, np).round(1).ravel().tolist()
        [1.0, 1.0, 6.0, 11.0, 16.0, 16.0]

    Source:
        ``torchio.RandomAnisotropy``. B. Billot et al., "Partial Volume Segmentation of Brain MRI
        Scans of any Resolution and Contrast", MICCAI 2020.
    """

    name: ClassVar[str] = "anisotropy"
    axes: tuple[int, ...] = (0, 1, 2)
    downsampling: tuple[float, float] = (1.5, 5.0)
    scalars_only: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_axes(self.name, self.axes)
        check_bounds(self, "downsampling", least=1.0)

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[int, float]:
        """Draw the axis and m."""
        axis = rng.choice(present_axes(self.name, self.axes, shape))
        return int(axis), float(rng.uniform(*self.downsampling))

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters | None:
        """Draw whether the transform is applied; refuse an image that has none of the axes."""
        present_axes(self.name, self.axes, shape)
        return super().draw(rng, shape)

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw the axis and m, and work out what :func:`coarse_grid` says."""
        axis, downsampling = self.sample(rng, shape)
        return coarse_grid(shape, axis=axis, downsampling=downsampling)

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return that every voxel is kept."""
        axis = present_axes(self.name, self.axes, shape)[0]
        return coarse_grid(shape, axis=axis, downsampling=1.0)

    def apply(
        self, image: Num[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Make the image coarse along the axis."""
        image = as_float(image, xp)
        for axis in visited_axes(parameters["axis"], image.shape[:-1], xp):
            places, weights = _rows(parameters, axis, image.shape[axis], xp)
            weights = [along(w.astype(image.dtype), axis, image.ndim) for w in weights]
            below, above = (xp.take(image, p, axis=axis, mode="clip") for p in places)
            image = below * weights[0] + above * weights[1]
        return image

    def apply_label(
        self, label: Integer[Any, "*spatial"], parameters: Parameters, xp: ModuleType
    ) -> Integer[Any, "*spatial"]:
        """Return the label map as it is, or made coarse with the nearest labels."""
        if self.scalars_only:
            return label
        for axis in visited_axes(parameters["axis"], label.shape, xp):
            places, weights = _rows(parameters, axis, label.shape[axis], xp)
            nearest = xp.where(weights[1] >= 0.5, places[1], places[0])
            label = xp.take(label, nearest, axis=axis, mode="clip")
        return label


def coarse_grid(shape: tuple[int, ...], *, axis: int, downsampling: float) -> Parameters:
    """Return where the values along an axis come from once it is coarse.

    Args:
        shape: Of the image, ``(*spatial, channel)``.
        axis: The axis.
        downsampling: Distance m between the voxels that are kept, in voxels.

    Returns:
        ``axis``; ``places``, the kept voxels below and above each voxel of the axis; and
        ``weights``, what each of the two counts. Both are ``(2, size)`` for the longest axis.

    Example:
        >>> parameters = coarse_grid((4, 1), axis=0, downsampling=2.0)
        >>> parameters["places"].tolist(), parameters["weights"].tolist()
        ([[1, 1, 1, 3], [1, 3, 3, 3]], [[0.25, 0.75, 0.25, 0.75], [0.75, 0.25, 0.75, 0.25]])
    """
    size = shape[axis]
    count = max(int(size / downsampling), 1)
    place = (np.arange(size) - (size - 1) / 2) / downsampling + (count - 1) / 2
    pair = np.floor(place).astype(int) + np.array([[0], [1]])
    kept = (np.arange(count) - (count - 1) / 2) * downsampling + (size - 1) / 2
    kept = np.clip(np.floor(kept + 0.5), 0, size - 1).astype(np.int32)
    weights = 1 - np.abs(place - pair)
    padding = ((0, 0), (0, max(shape[:-1]) - size))
    inside = (place >= -0.5) & (place < count - 0.5)
    return {
        "axis": np.int32(axis),
        "places": np.pad(kept[np.clip(pair, 0, count - 1)], padding),
        "weights": np.pad((weights * inside).astype(np.float32), padding),
    }


def _rows(
    parameters: Parameters, axis: int, size: int, xp: ModuleType
) -> tuple[Int[Any, "2 size"], Float[Any, "2 size"]]:
    """Return places and weights along an axis: any but the drawn one is left as it is."""
    drawn = parameters["axis"] == axis
    places = xp.where(drawn, parameters["places"][:, :size], np.arange(size, dtype=np.int32))
    same = np.array([[1], [0]], np.float32)
    return places, xp.where(drawn, parameters["weights"][:, :size], same)
