"""Put lesions into the patches of a training."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32, Int, Integer, UInt32

from segjax.data.augment.transform import (
    Parameters,
    Transform,
    check_bounds,
    check_spacing,
    long_axes,
    spacing_of,
)
from segjax.data.synthesis.shapes import (
    LesionShapes,
    draw_part,
    draw_shape,
    ellipsoids,
    read_shapes,
)
from segjax.data.synthesis.soften import soften
from segjax.data.synthesis.tissue import Room, background, find_tissue
from segjax.errors import InputError

__all__ = ["PutLesions"]

_EDGE, _APART, _TISSUE = 2, 2, 2  # voxels, see Room
_HALF = np.float32(0.5)
_LARGEST = {False: 12.0, True: 24.0}  # mm, of drawn ellipsoids, by ``by_volume``


@dataclass(frozen=True)
class PutLesions(Transform):
    """Put lesions of other patients into an image, where it is white matter.

    Each lesion is a shape, turned, mirrored, scaled by U(0.8, 1.25) and bent, put at a random
    place (see :func:`~segjax.data.synthesis.tissue.find_tissue`). Where it takes the share ``s`` of
    a voxel, blurred as the scanner does, a channel gains ``s · contrast · q`` with q its
    interquartile range within the brain of the patch; the texture below stays. The label becomes
    ``value`` where the share, not blurred, is at least a half: so the labelled volume is that of
    the lesion, however soft its edge is. Nothing is put outside of the brain, within 2 voxels of
    its edge or of another label, nor where most is no white matter.

    The brain is what is not constant (:func:`~segjax.data.synthesis.tissue.background`): for images
    whose brain was extracted. List it before transforms that change the background, such as noise.

    Args:
        shapes: Folder of masks whose lesions are put in; None draws ellipsoids of 3 to
            12 mm, with ``by_volume`` to 24 mm. It is read when the first patch is drawn, once in
            each process.
        lesions: Bounds of their number, both included.
        contrast: Bounds of the contrast, drawn uniformly for every lesion; one pair for all
            channels, or a pair for each.
        softness: Bounds of the standard deviation of the Gaussian blur, in mm.
        window: What is white matter: intensities of the first channel, in interquartile ranges from
            the median.
        value: Of the lesions in the label.
        box: Longest extent of a lesion in voxels; larger ones are not drawn.
        spacing: Distance between voxels along each axis in mm; when empty, that of the image where
            a loader knows it, else 1 mm.
        by_volume: Draw shapes in proportion to their volumes, cut to the box, so that large ones
            come as well; by default all that fit in are drawn alike, and most are small.
        probability: Of lesions being put in, in [0, 1].

    Raises:
        InputError: Where a field is out of range; when drawn, where the folder has no lesions, or
            none that fits into the box.

    Example:
        >>> lesions = PutLesions(box=12, lesions=(1, 1), probability=1.0)
        >>> noise = np.random.default_rng(0).standard_normal((24, 24, 24, 1)).astype(np.float32)
        >>> drawn = lesions.draw(np.random.default_rng(0), noise.shape)
        >>> image, label = lesions.apply_both(noise, np.zeros((24, 24, 24), np.uint8), drawn, np)
        >>> bool(label.any()), bool((image[label == 1] > noise[label == 1]).all())
        (True, True)
    """

    name: ClassVar[str] = "put-lesions"
    shapes: str | None = None
    lesions: tuple[int, int] = (1, 3)
    contrast: tuple[float, ...] = (0.9, 2.0)
    softness: tuple[float, float] = (0.4, 0.9)
    window: tuple[float, float] = (-1.0, 0.5)
    value: int = 1
    box: int = 24
    spacing: tuple[float, ...] = ()
    by_volume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self, "lesions", least=0)
        check_bounds(self, "softness", least=0)
        check_bounds(self, "window")
        check_spacing(self)
        if len(self.contrast) % 2 or not self.contrast or not np.isfinite(self.contrast).all():
            raise InputError(f"{self.name}: contrast {self.contrast}: give pairs of numbers")
        if not 1 <= self.value <= 254:
            raise InputError(f"{self.name}: value {self.value} is no label: give 1 to 254")
        if self.box < 4:
            raise InputError(f"{self.name}: box {self.box}: give 4 voxels or more")

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters | None:
        """Draw whether lesions are put in, and which; the folder is read in any case.

        So a folder that is missing is told at the first patch, whatever is drawn.
        """
        if self.probability > 0:
            self._library(int(long_axes(shape).sum()))
        return super().draw(rng, shape)

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw ``count``, ``shares``, ``weights``, ``contrasts`` and ``order``.

        Shares are those of the voxels of each lesion's box that it takes, weights the same with a
        soft edge, ``(lesion, *box)``. Contrasts are ``(lesion, channel)``. The order, whole
        numbers ``(lesion, voxels of all axes)``, decides among the places that the image allows.
        """
        drawn = dict(self.identity(shape))
        drawn["count"] = np.int32(rng.integers(self.lesions[0], self.lesions[1] + 1))
        drawn["contrasts"] = self._contrasts(rng, shape[-1])
        order = rng.integers(2**32, size=drawn["order"].shape, dtype=np.uint32)
        drawn["order"] = order
        axes = long_axes(shape)
        spacing = tuple(np.array(spacing_of(self, len(shape) - 1))[axes].tolist())
        library, reach = self._library(len(spacing)), (self.box / 2 - 1) * min(spacing)
        for lesion in range(drawn["count"]):
            draw_one = draw_part if self.by_volume else draw_shape
            shares = draw_one(rng, library, spacing, reach=reach)
            blurred = soften(shares, rng.uniform(*self.softness), spacing)
            for key, values in (("shares", shares), ("weights", blurred)):
                box = drawn[key][lesion]
                box[...] = _centred(values, self.box).reshape(box.shape)
        return drawn

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return parameters of no lesion."""
        most, spatial = self.lesions[1], shape[:-1]
        box = tuple(self.box if size > 1 else 1 for size in spatial)
        return {
            "count": np.int32(0),
            "shares": np.zeros((most, *box), np.float32),
            "weights": np.zeros((most, *box), np.float32),
            "contrasts": np.zeros((most, shape[-1]), np.float32),
            "order": np.zeros((most, sum(spatial)), np.uint32),
        }

    def apply_both(
        self,
        image: Float[Any, "*spatial channel"],
        label: Integer[Any, "*spatial"],
        parameters: Parameters,
        xp: ModuleType,
    ) -> tuple[Float[Any, "*spatial channel"], Integer[Any, "*spatial"]]:
        """Put the lesions into the image and its label map."""
        spatial = image.shape[:-1]
        room = Room(*(tuple(n * (size > 1) for size in spatial) for n in (_EDGE, _APART, _TISSUE)))
        brain = ~background(image[..., 0], xp)
        tissue = find_tissue(image, brain, label != 0, self.window, room, xp)
        added, marked = xp.zeros(image.shape, dtype=np.float32), xp.zeros(spatial, dtype=bool)
        for lesion in range(len(parameters["order"])):
            if xp is np and lesion >= parameters["count"]:
                break
            own = {key: parameters[key][lesion] for key in ("shares", "weights", "order")}
            centre = _first(tissue.centres, own["order"], xp)
            room_here = tissue.room & tissue.centres.any() & (lesion < parameters["count"])
            weight = (_placed(own["weights"], centre, spatial, xp) * room_here)[..., None]
            added = added * (1 - weight) + weight * parameters["contrasts"][lesion]
            marked = marked | ((_placed(own["shares"], centre, spatial, xp) >= _HALF) & room_here)
        changed = xp.where(added != 0, image + added * tissue.spread, image)
        value = np.asarray(self.value, label.dtype)
        return changed.astype(image.dtype), xp.where(marked, value, label)

    def apply(
        self, image: Float[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Put the lesions into an image without any."""
        return self.apply_both(image, np.zeros(image.shape[:-1], np.uint8), parameters, xp)[0]

    def apply_label(
        self, label: Integer[Any, "*spatial"], parameters: Parameters, xp: ModuleType
    ) -> Integer[Any, "*spatial"]:
        """Refuse: the image tells where lesions may lie.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{self.name}: needs the image besides the label: use apply_both")

    def _library(self, rank: int) -> LesionShapes:
        if self.shapes is not None:
            return read_shapes(self.shapes)
        return ellipsoids(rank=rank, largest=_LARGEST[self.by_volume])

    def _contrasts(
        self, rng: np.random.Generator, channels: int
    ) -> Float32[np.ndarray, "lesion channel"]:
        if len(self.contrast) not in (2, 2 * channels):
            raise InputError(
                f"{self.name}: contrast {self.contrast}: give (low, high), or {channels} such "
                "pairs for this image"
            )
        low, high = np.resize(np.array(self.contrast), (channels, 2)).T
        return rng.uniform(low, high, (self.lesions[1], channels)).astype(np.float32)


def _centred(values: Float32[np.ndarray, "*own"], size: int) -> Float32[np.ndarray, "*box"]:
    """Cut or pad a box of odd sizes around its centre, which becomes voxel ``size // 2``."""
    pads = [max(size // 2 - n // 2, 0) for n in values.shape]
    padded = np.pad(values, [(n, n) for n in pads])
    starts = [n // 2 - size // 2 for n in padded.shape]
    padded = np.pad(padded, [(0, 1)] * values.ndim)
    return padded[tuple(slice(start, start + size) for start in starts)]


def _first(centres: Any, order: UInt32[Any, " voxels"], xp: ModuleType) -> list[Int[Any, ""]]:
    """Return the place that comes first of those that are allowed.

    A place's number is the sum of those of its rows along all axes, modulo 2³², so that it does not
    depend on which other places are allowed: these may differ in a voxel between libraries.
    """
    start, numbers = 0, np.uint32(0)
    for axis, size in enumerate(centres.shape):
        line = order[start : start + size]
        numbers = numbers + line.reshape([size if a == axis else 1 for a in range(centres.ndim)])
        start += size
    found = xp.where(centres, numbers, np.uint32(0)).reshape(-1).argmax()
    place: list[Any] = []
    for size in reversed(centres.shape):
        place.insert(0, found % size)
        found = found // size
    return place


def _placed(
    box: Float[Any, "*box"], centre: list[Int[Any, ""]], spatial: tuple[int, ...], xp: ModuleType
) -> Float[Any, "*spatial"]:
    """Return an image of a box around a place, and 0 elsewhere.

    Products with matrices of one 1 in a row, one for each axis, which are exact.
    """
    values, exact = box, {} if xp is np else {"precision": "highest"}
    for place, size in zip(reversed(centre), reversed(spatial), strict=True):
        lines = xp.moveaxis(values, -1, 0)
        own = lines.shape[0]
        rows = np.arange(size, dtype=np.int32)[:, None] - place + own // 2
        chosen = (rows == np.arange(own, dtype=np.int32)).astype(np.float32)
        values = xp.matmul(chosen, lines.reshape(own, -1), **exact).reshape(size, *lines.shape[1:])
    return values
