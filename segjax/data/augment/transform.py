"""What a transform is, and how an image goes through several."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from functools import lru_cache, reduce
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer, Num

from segjax.codec import Named
from segjax.data.augment._arrays import as_float
from segjax.data.augment._deformation import Deformation, compose
from segjax.data.augment._sampling import Fill, warp, warp_label, warp_pair
from segjax.errors import InputError

Parameters = Mapping[str, Any]
"""What a transform draws, by name; None leaves the transform out."""


@dataclass(frozen=True)
class Transform(Named, ABC, kind="transform"):
    """A random change of an image and its label map, in two halves.

    :meth:`parameters` takes all randomness from a NumPy generator; :meth:`apply` and
    :meth:`apply_label` are pure functions of arrays, written for any array namespace
    (``numpy``, ``jax.numpy``), and may run under ``jax.jit`` and ``jax.vmap``. Parameters are
    small arrays whose shapes depend on the shape of the image alone, so that those of a batch can
    be stacked.

    An axis of one voxel is no axis: of a slice of a volume, ``(x, y, 1, channel)``, a transform
    makes what it makes of an image ``(x, y, channel)``. A dataclass that measures in mm has a field
    ``spacing``, empty by default: :func:`for_spacing` puts that of the image there.

    A frozen dataclass with a ``name`` that derives from :class:`IntensityTransform`,
    :class:`SpatialTransform` or this class registers itself: trainings take and store it.

    Args:
        probability: Of being applied at all, in [0, 1].

    Raises:
        InputError: Where the probability is out of range.

    Example:
        >>> @dataclass(frozen=True)
        ... class Brighten(IntensityTransform):
        ...     name: ClassVar[str] = "brighten-example"
        ...     most: float = 0.5
        ...
        ...     def parameters(self, rng, shape):
        ...         return {"added": np.float32(rng.uniform(0, self.most))}
        ...
        ...     def identity(self, shape):
        ...         return {"added": np.float32(0)}
        ...
        ...     def apply(self, image, parameters, xp):
        ...         return image + parameters["added"]
        >>> Brighten(most=0.2).to_json()
        {'transform': 'brighten-example', 'most': 0.2, 'probability': 0.5}
    """

    probability: float = field(default=0.5, kw_only=True)

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise InputError(
                f"{self.name}: probability {self.probability} is out of range: "
                "give a number in [0, 1]"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the name, the fields and, last, the probability as JSON values."""
        plain = super().to_json()
        plain["probability"] = plain.pop("probability")
        return plain

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters | None:
        """Draw whether the transform is applied, and its parameters.

        Args:
            rng: Source of randomness.
            shape: Of the image, ``(*spatial, channel)``.

        Returns:
            None, with probability ``1 - probability``, where nothing is to be applied; no
            parameters, ``{}``, are applied.
        """
        return self.parameters(rng, shape) if rng.random() < self.probability else None

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw the parameters for an image of shape ``(*spatial, channel)``; none by default."""
        return {}

    @abstractmethod
    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return the parameters that change nothing, in the form of :meth:`parameters`'."""

    @abstractmethod
    def apply(
        self, image: Float[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Change the image, with the array functions of ``xp``."""

    @abstractmethod
    def apply_label(
        self, label: Integer[Any, "*spatial"], parameters: Parameters, xp: ModuleType
    ) -> Integer[Any, "*spatial"]:
        """Change the label map in the same way; no value appears that was not there."""

    def apply_both(
        self,
        image: Float[Any, "*spatial channel"],
        label: Integer[Any, "*spatial"],
        parameters: Parameters,
        xp: ModuleType,
    ) -> tuple[Float[Any, "*spatial channel"], Integer[Any, "*spatial"]]:
        """Change image and label map; overridden where one depends on the other."""
        return self.apply(image, parameters, xp), self.apply_label(label, parameters, xp)


class IntensityTransform(Transform):
    """A transform that moves nothing, so that label maps stay as they are.

    Example:
        >>> from segjax.data.augment import Gamma, Flip
        >>> isinstance(Gamma(), IntensityTransform), isinstance(Flip(), IntensityTransform)
        (True, False)
    """

    def apply_label(
        self, label: Integer[Any, "*spatial"], parameters: Parameters, xp: ModuleType
    ) -> Integer[Any, "*spatial"]:
        """Return the label map as it is."""
        return label


class SpatialTransform(Transform):
    """A transform that moves voxels: several in a row are one deformation, one interpolation.

    Example:
        >>> from segjax.data.augment import Affine, Gamma
        >>> isinstance(Affine(), SpatialTransform), isinstance(Gamma(), SpatialTransform)
        (True, False)
    """

    fill: Fill
    ends_row: ClassVar[bool] = False  # whether no other can be composed after it

    @abstractmethod
    def deformation(self, parameters: Parameters) -> Deformation:
        """Return where the voxels come from."""

    def apply(
        self, image: Float[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Deform the image, interpolating linearly."""
        return warp(image, self.deformation(parameters), xp, fill=self.fill)

    def apply_label(
        self, label: Integer[Any, "*spatial"], parameters: Parameters, xp: ModuleType
    ) -> Integer[Any, "*spatial"]:
        """Deform the label map; each voxel gets the nearest label, or 0 from outside."""
        return warp_label(label, self.deformation(parameters), xp)


def draw_all(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    transforms: Iterable[Transform],
    *,
    spacing: tuple[float, ...] = (),
) -> list[Parameters | None]:
    """Draw the parameters of several transforms.

    Args:
        rng: Source of randomness.
        shape: Of the image, ``(*spatial, channel)``.
        transforms: Transforms that keep the shape.
        spacing: Of the image: see :func:`for_spacing`.

    Returns:
        Parameters for each transform, None for those that are not to be applied.

    Example:
        >>> draw_all(np.random.default_rng(0), (8, 8, 1), [])
        []
    """
    return [transform.draw(rng, shape) for transform in for_spacing(transforms, spacing)]


def measures_in_mm(transform: Transform) -> bool:
    """Return whether a transform needs the spacing of the image: its field ``spacing`` is empty.

    Example:
        >>> from segjax.data.augment import Affine, Noise
        >>> [measures_in_mm(t) for t in (Affine(), Affine(spacing=(1.0, 3.0)), Noise())]
        [True, False, False]
    """
    return is_dataclass(transform) and getattr(transform, "spacing", None) == ()


def for_spacing(
    transforms: Iterable[Transform], spacing: tuple[float, ...]
) -> tuple[Transform, ...]:
    """Tell transforms that measure in mm the distance between voxels.

    Args:
        transforms: Any transforms; those with a spacing of their own keep it.
        spacing: Distance between voxels along each axis of the image in mm; when empty, transforms
            take voxels for cubes of 1 mm.

    Returns:
        The transforms, in order.

    Example:
        >>> from segjax.data.augment import Blur
        >>> for_spacing([Blur()], (0.5, 0.5, 3.0))[0].spacing
        (0.5, 0.5, 3.0)
    """
    if not spacing:
        return tuple(transforms)
    return tuple(_with_spacing(t, spacing) if measures_in_mm(t) else t for t in transforms)


def _with_spacing(transform: Any, spacing: tuple[float, ...]) -> Transform:
    return replace(transform, spacing=spacing)


def apply_all(
    transforms: Sequence[Transform],
    parameters: Sequence[Parameters | None],
    image: Num[Any, "*spatial channel"],
    label: Integer[Any, "*spatial"],
    xp: ModuleType,
) -> tuple[Float[Any, "*spatial channel"], Integer[Any, "*spatial"]]:
    """Apply transforms one after the other, with parameters that were drawn.

    Spatial transforms that follow each other and have the same fill are composed and interpolate
    once; an elastic one ends such a row.

    Args:
        transforms: What to apply, in order.
        parameters: Those of each transform; None where it is left out.
        image: The image; whole numbers become float32 first.
        label: Its label map.
        xp: ``numpy`` or ``jax.numpy``.

    Returns:
        Image and label map, changed alike.

    Example:
        >>> image, label = np.ones((2, 1), np.float32), np.array([0, 1])
        >>> apply_all([], [], image, label, np)[1].tolist()
        [0, 1]
    """
    image = as_float(image, xp)
    for row in rows(transforms):
        pairs = zip(transforms[row], parameters[row], strict=True)
        drawn = [(t, p) for t, p in pairs if p is not None]
        moves = [t.deformation(p) for t, p in drawn if isinstance(t, SpatialTransform)]
        if moves:
            whole = reduce(lambda first, second: compose(first, second, xp), moves)
            first: Any = transforms[row.start]
            image, label = warp_pair(image, label, whole, xp, fill=first.fill)
        else:
            for transform, own in drawn:
                image, label = transform.apply_both(image, label, own, xp)
    return image, label


def rows(transforms: Sequence[Transform]) -> list[slice]:
    """Group the transforms that are one interpolation: neighbours that move voxels.

    The groups do not depend on what is drawn, so that an image is interpolated equally often
    whatever that is.

    Args:
        transforms: What is applied, in order.

    Returns:
        Where the groups lie in ``transforms``; most have one member.

    Example:
        >>> from segjax.data.augment import Affine, Elastic, Noise
        >>> rows([Affine(), Elastic(), Noise()])
        [slice(0, 2, None), slice(2, 3, None)]
    """
    count = len(transforms)
    starts = [i for i in range(count) if not i or not _joins(transforms[i - 1], transforms[i])]
    return [slice(*bounds) for bounds in itertools.pairwise([*starts, count])]


def _joins(one: Transform, other: Transform) -> bool:
    if not isinstance(one, SpatialTransform) or not isinstance(other, SpatialTransform):
        return False
    return not one.ends_row and one.fill == other.fill


def augment_patch(
    rng: np.random.Generator,
    image: Num[np.ndarray, "*spatial channel"],
    label: Integer[np.ndarray, "*spatial"],
    transforms: Sequence[Transform],
    *,
    spacing: tuple[float, ...] = (),
) -> tuple[Float[np.ndarray, "*spatial channel"], Integer[np.ndarray, "*spatial"]]:
    """Draw the parameters of transforms and apply them, one after the other.

    Args:
        rng: Source of randomness.
        image: The image; whole numbers become float32 first.
        label: Its label map.
        transforms: Applied in order, each with its own probability.
        spacing: Distance between voxels along each axis in mm, for transforms that have none of
            their own; 1 mm when empty.

    Returns:
        Image and label map, changed alike.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> augment_patch(rng, np.ones((2, 1), np.float32), np.array([0, 1]), [])[1].tolist()
        [0, 1]
    """
    parameters = draw_all(rng, image.shape, transforms, spacing=spacing)
    return apply_all(transforms, parameters, image, label, np)


def uniform(
    rng: np.random.Generator, bounds: tuple[float, float], count: int
) -> Float32[np.ndarray, " count"]:
    """Draw numbers uniformly between two bounds.

    Args:
        rng: Source of randomness.
        bounds: Least and greatest value.
        count: How many.

    Example:
        >>> uniform(np.random.default_rng(0), (2.0, 2.0), 3).tolist()
        [2.0, 2.0, 2.0]
    """
    return rng.uniform(*bounds, size=count).astype(np.float32)


@lru_cache(maxsize=64)
def long_axes(shape: tuple[int, ...]) -> Bool[np.ndarray, " rank"]:
    """Return which spatial axes have more than one voxel: along others nothing can be moved.

    Args:
        shape: Of an image, ``(*spatial, channel)``.

    Example:
        >>> long_axes((64, 64, 1, 2)).tolist()
        [True, True, False]
    """
    return _read_only(np.array(shape[:-1]) > 1)


@lru_cache(maxsize=64)
def turning_axes(shape: tuple[int, ...]) -> Bool[np.ndarray, " angles"]:
    """Return about which of three axes an image can be turned, or whether a 2D one can.

    Args:
        shape: Of an image, ``(*spatial, channel)``.

    Example:
        >>> turning_axes((64, 64, 1, 2)).tolist(), turning_axes((64, 64, 2)).tolist()
        ([False, False, True], [True])
    """
    long = long_axes(shape)
    planes = [long[1:], long[::2], long[:2]] if len(long) == 3 else [long]
    return _read_only(np.array([plane.all() for plane in planes]))


def _read_only(array: Bool[np.ndarray, " axes"]) -> Bool[np.ndarray, " axes"]:
    array.flags.writeable = False
    return array


def uniform_by_axis(
    rng: np.random.Generator,
    transform: Transform,
    field: str,
    axes: Bool[np.ndarray, " axes"],
    *,
    otherwise: float = 0.0,
) -> Float32[np.ndarray, " axes"]:
    """Draw one number per axis between the bounds that a field holds.

    Args:
        rng: Source of randomness.
        transform: The transform.
        field: Name of a field ``(low, high)`` for all axes, or with such a pair for each.
        axes: For which axes to draw.
        otherwise: Number for the other ones.

    Raises:
        InputError: The field has pairs for another number of axes.
    """
    bounds, count = getattr(transform, field), len(axes)
    if len(bounds) not in (2, 2 * count):
        raise InputError(
            f"{transform.name}: {field} {bounds}: give (low, high), or {count} such pairs for this "
            "image"
        )
    pairs = np.resize(np.array(bounds, np.float64), (count, 2))[axes]
    numbers = np.full(count, otherwise, np.float32)
    numbers[axes] = rng.uniform(pairs[:, 0], pairs[:, 1])
    return numbers


def spacing_of(transform: Any, rank: int) -> tuple[float, ...]:
    """Return the spacing that a transform holds, or 1 mm along each axis.

    Args:
        transform: A transform with a field ``spacing``.
        rank: Number of spatial axes of the image.

    Raises:
        InputError: The spacing is that of another number of axes.
    """
    if transform.spacing and len(transform.spacing) != rank:
        raise InputError(
            f"{transform.name}: spacing {transform.spacing} does not fit an image of {rank} axes"
        )
    return tuple(transform.spacing) or (1.0,) * rank


def check_bounds(transform: Transform, field: str, *, least: float = -np.inf) -> None:
    """Raise InputError where a transform's field is no pair ``least <= low <= high``."""
    bounds = getattr(transform, field)
    if len(bounds) != 2 or not least <= bounds[0] <= bounds[1] < np.inf:
        limit = "" if least == -np.inf else f", not under {least:g}"
        raise InputError(
            f"{transform.name}: {field} {bounds} is no range: give the least and the greatest "
            f"value{limit}"
        )


def check_pairs(transform: Transform, field: str, *, least: float = -np.inf) -> None:
    """Raise InputError where a field is not one pair, or one per axis, ``least <= low <= high``."""
    bounds = getattr(transform, field)
    pairs = list(zip(bounds[::2], bounds[1::2], strict=False))
    if len(bounds) not in (2, 4, 6) or not all(least <= a <= b < np.inf for a, b in pairs):
        limit = "" if least == -np.inf else f", not under {least:g}"
        raise InputError(
            f"{transform.name}: {field} {bounds}: give the least and the greatest value{limit}, "
            "for all axes or for each"
        )


def check_spacing(transform: Any) -> None:
    """Raise InputError where a transform's spacing is not positive."""
    if not all(0 < value < np.inf for value in transform.spacing):
        raise InputError(
            f"{transform.name}: spacing {transform.spacing}: give positive numbers of mm"
        )


def check_fill(transform: Any) -> None:
    """Raise InputError where a transform's fill is neither a number nor "minimum"."""
    fill = transform.fill
    if fill != "minimum" and (isinstance(fill, str) or not np.isfinite(fill)):
        raise InputError(f"{transform.name}: fill {fill!r}: give a number or 'minimum'")
