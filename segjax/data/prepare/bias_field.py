"""Correct the slow intensity drift of receive coils: N4, as SimpleITK computes it."""

import math
import warnings
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Real

from segjax.errors import InputError
from segjax.extras import needed_for
from segjax.progress import track
from segjax.volume import Volume

__all__ = ["N4", "correct_bias_field", "estimate_bias_field"]

_ORDER = 3  # of the B-splines
_FEWEST = 4  # voxels that shrinking leaves of an axis
_OTSU_BINS = 200
_FEWEST_STEPS = 4  # of float32, between logs that are told apart
_NO_FIELD = (
    "the voxels that the bias field is estimated on all have the same value, or none is left "
    "after shrinking: the field is taken as 1, and the image stays as it is"
)
_RINGING = 0.1  # of the 99.9th percentile of magnitudes; what interpolation undershoots by
_MOST_NEGATIVE = 0.1  # of the sum of magnitudes, that negative values beyond ringing make up


@dataclass(frozen=True)
class N4:
    """Options of N4.

    Attributes:
        shrink: The field is estimated on every n-th voxel along each axis; an axis keeps at
            least 4 voxels.
        spline_spacing: Distance between the knots of the coarsest B-spline, in mm; every further
            level halves it. Along an axis of length L there are ``ceil(L / spacing) + 3`` control
            points.
        iterations: Most iterations at each level, from coarse to fine.
        tolerance: A level ends when the field changes by less (coefficient of variation of the
            ratio of two successive fields).

    Raises:
        InputError: A number is out of range.

    Example:
        >>> N4(shrink=2, iterations=(50, 50))
        N4(shrink=2, spline_spacing=200.0, iterations=(50, 50), tolerance=0.001)
    """

    shrink: int = 4
    spline_spacing: int | float = 200.0
    iterations: tuple[int, ...] = (50, 50, 50, 50)
    tolerance: int | float = 0.001

    def __post_init__(self) -> None:
        if self.shrink < 1 or int(self.shrink) != self.shrink:
            raise InputError(f"shrink {self.shrink}: give a whole factor of at least 1")
        if not 0 < self.spline_spacing < np.inf:
            raise InputError(f"spline spacing {self.spline_spacing}: give positive millimetres")
        if not self.iterations or any(n < 1 or int(n) != n for n in self.iterations):
            raise InputError(f"iterations {self.iterations}: give a positive number for each level")
        if not 0 <= self.tolerance < np.inf:
            raise InputError(f"tolerance {self.tolerance}: give a number of at least 0")


def correct_bias_field(
    image: Volume,
    *,
    mask: Volume | None = None,
    options: N4 | None = None,
    threads: int | None = None,
) -> Volume:
    """Divide an image by its bias field.

    Args:
        image: Image of rank 2 or 3, not negative in the tissue; channels are corrected apart.
        mask: Where the field is estimated: voxels over 0, on the image's grid. By default those
            over Otsu's threshold, of each channel.
        options: Options of N4.
        threads: CPU threads; by default ITK's own choice.

    Returns:
        ``image / field`` with the field of :func:`estimate_bias_field`, float32.

    Raises:
        InputError: As :func:`estimate_bias_field`.

    Example:
        >>> from segjax.data.phantom.dataset import phantom
        >>> head, _ = phantom(0, shape=(32, 32))
        >>> correct_bias_field(head, options=N4(shrink=2, iterations=(20,))).data.dtype
        dtype('float32')
    """
    field = estimate_bias_field(image, mask=mask, options=options, threads=threads)
    return image.with_data(image.data.astype(np.float32) / field.data)


def estimate_bias_field(
    image: Volume,
    *,
    mask: Volume | None = None,
    options: N4 | None = None,
    threads: int | None = None,
) -> Volume:
    """Estimate the smooth factor that a coil multiplies an image with.

    The model is ``image = tissue * field``, with the log of the field a cubic B-spline. It is
    fitted on the shrunken image and evaluated at every voxel of the full one. Axes of one voxel
    are left out. In a terminal a bar shows the iterations where they take over 2 seconds.

    Only positive tissue has a log. An image is refused where, of its voxels other than 0 (those of
    the mask, if one is given), the values below -10 % of the 99.9th percentile of magnitudes make
    up over a tenth of the sum of all magnitudes: images with their mean subtracted, standardised,
    or in Hounsfield units do; the ringing of interpolation and noise about 0 do not. Where all
    values that the field is estimated on are equal, to the precision of float32, it is 1.

    Args:
        image: Image of rank 2 or 3, not negative in the tissue; channels have fields of their own.
        mask: Where the field is estimated: voxels over 0, on the image's grid. By default those
            over Otsu's threshold, of each channel.
        options: Options of N4.
        threads: CPU threads; by default ITK's own choice. The field may depend on it in the last
            digits.

    Returns:
        The field, positive, float32, of the image's shape.

    Raises:
        InputError: Tissue is negative (said with the percentage), no voxel of the mask is
            positive, the mask has another shape, values are NaN or infinite, or the image has
            fewer than two axes of more than one voxel.

    Warns:
        UserWarning: The field is 1, as all values that it is estimated on are equal, or shrinking
            leaves none of them.

    Example:
        >>> from segjax.data.phantom.dataset import phantom
        >>> head, _ = phantom(0, shape=(32, 32))
        >>> field = estimate_bias_field(head, options=N4(shrink=2, iterations=(20,)))
        >>> bool((field.data > 0).all())
        True

    Source: N. J. Tustison et al., "N4ITK: improved N3 bias correction", IEEE Trans Med Imaging 29
        (2010) 1310-1320. Equals ``SimpleITK.N4BiasFieldCorrectionImageFilter`` on
        ``SimpleITK.Shrink`` of image and mask, and its ``GetLogBiasFieldAsImage`` of the image,
        along the image's own axes: the direction of oblique images, which changes ITK's field by
        up to a few percent, is not handed over.
    """
    options = N4() if options is None else options
    if mask is not None and (mask.spatial_shape != image.spatial_shape or mask.channels != 1):
        raise InputError(
            f"a mask of shape {mask.data.shape} does not fit an image of {image.spatial_shape}"
        )
    inside = None if mask is None else mask.channels_last[..., 0] > 0
    data = image.channels_last
    fields = np.empty(data.shape, np.float32)
    total = data.shape[-1] * sum(options.iterations)
    with closing(_counter(total)) as counter:
        for c in range(data.shape[-1]):
            task = _Channel(data[..., c].astype(np.float32), image.spacing, options, threads)
            fields[..., c] = task.field(inside, counter)
    return image.with_data(fields.reshape(image.data.shape))


@dataclass(frozen=True, eq=False)
class _Channel:
    """One channel and how to estimate its field."""

    data: Float32[np.ndarray, "*spatial"]
    spacing: tuple[float, ...]
    options: N4
    threads: int | None

    def field(
        self, inside: Bool[np.ndarray, "*spatial"] | None, counter: Iterator[int]
    ) -> Float32[np.ndarray, "*spatial"]:
        """Return the field; one step of the counter per iteration."""
        with needed_for("correcting a bias field"):
            import SimpleITK as sitk  # noqa: N813

        _check(self.data, inside)
        image = self._image(self.data)
        mask = (
            sitk.OtsuThreshold(image, 0, 1, _OTSU_BINS)
            if inside is None
            else self._image((inside & (self.data > 0)).astype(np.uint8))
        )
        factors = [max(1, min(self.options.shrink, n // _FEWEST)) for n in image.GetSize()]
        small_image, small_mask = sitk.Shrink(image, factors), sitk.Shrink(mask, factors)
        if not _varies(small_image, small_mask):
            warnings.warn(_NO_FIELD, stacklevel=4)
            return np.ones(self.data.shape, np.float32)
        n4 = self._filter(image)
        n4.AddCommand(sitk.sitkIterationEvent, lambda: next(counter, None))
        n4.Execute(small_image, small_mask)
        log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).T
        return np.exp(log_field.reshape(self.data.shape))

    def _image(self, data: Real[np.ndarray, "*spatial"]) -> Any:
        """Return an image of SimpleITK, without axes of one voxel."""
        import SimpleITK as sitk  # noqa: N813

        image = sitk.GetImageFromArray(data.squeeze().T)
        image.SetSpacing([s for s, n in zip(self.spacing, data.shape, strict=True) if n > 1])
        return image

    def _filter(self, image: Any) -> Any:
        import SimpleITK as sitk  # noqa: N813

        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        extent = np.multiply(image.GetSize(), image.GetSpacing())
        spans = [max(1, math.ceil(e / self.options.spline_spacing)) for e in extent]
        n4.SetNumberOfControlPoints([span + _ORDER for span in spans])
        n4.SetMaximumNumberOfIterations(self.options.iterations)
        n4.SetConvergenceThreshold(self.options.tolerance)
        if self.threads is not None:
            n4.SetNumberOfThreads(self.threads)
        return n4


def _check(data: Real[np.ndarray, "*spatial"], inside: Bool[np.ndarray, "*spatial"] | None) -> None:
    if sum(n > 1 for n in data.shape) < 2:
        raise InputError(f"an image of shape {data.shape} is too small for a bias field")
    if not np.isfinite(data).all():
        raise InputError("the image holds NaN or infinite values; mend it first")
    chosen = data if inside is None else data[inside]
    _check_sign(chosen[chosen != 0])
    if not (chosen > 0).any() or data.max() == data.min():
        raise InputError(
            "no voxel of the mask is positive, or all voxels are equal: a bias field needs the "
            "image as the scanner made it, and a mask of its tissue"
        )


def _varies(image: Any, mask: Any) -> bool:
    """Say whether float32 can tell the logs of an image's positive values in a mask apart."""
    import SimpleITK as sitk  # noqa: N813

    values = sitk.GetArrayViewFromImage(image)[sitk.GetArrayViewFromImage(mask) != 0]
    logs = np.log(values[values > 0], dtype=np.float64)
    resolution = np.finfo(np.float32).eps * max(1.0, np.abs(logs).max(initial=0.0))
    return bool(logs.size and np.ptp(logs) > _FEWEST_STEPS * resolution)


def _check_sign(values: Real[np.ndarray, "..."]) -> None:
    """Refuse tissue that is negative; let ringing and noise about 0 pass."""
    sizes = np.abs(values)
    beyond = values < -_RINGING * np.percentile(sizes, 99.9) if values.size else values < 0
    if sizes[beyond].sum(dtype=np.float64) <= _MOST_NEGATIVE * sizes.sum(dtype=np.float64):
        return
    raise InputError(
        f"{np.mean(values < 0):.1%} of the voxels other than 0 are negative, but N4 corrects "
        "positive tissue only: give it the image as the scanner made it, or put N4 before the "
        "steps that subtract"
    )


def _counter(total: int) -> Generator[int, None, None]:
    """Yield once per iteration, and show how many there were: mostly far fewer than the total."""
    yield from track(iter(range(total)), "Correcting the bias field", unit="iteration")
