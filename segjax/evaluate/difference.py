"""What changed between two images of one head: tissue that became bright, or is so no longer.

Two images of one head never subtract to nothing: scanners differ, and so do slices. What is
compared here is therefore brought together first: resolution, contrast (by the curve on which
unchanged tissue lies) and bias fields. What then remains is measured against its own scatter. That
is learned from the pair: it is larger where both images have structure, as along sulci, ventricles
and old lesions, and where the surroundings scatter more.

Neither image is the reference: swapping them turns the sign of every difference, and nothing else.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int8

from segjax.components import box_of, label_components
from segjax.errors import InputError
from segjax.extras import needed_for
from segjax.grid import grid, same_grid
from segjax.volume import Volume

__all__ = ["ChangeRules", "ImageDifference", "compare_images"]

Image = Float32[np.ndarray, "x y z"]
Where = Bool[np.ndarray, "x y z"]
Spacing = tuple[float, ...]

_BINS = 40  # of as many voxels each
_OLD_BINS, _LEAST_BIN = 5, 40  # of what is bright in both images
_BLURS = (0.35, 0.5, 0.7, 1.0, 1.4)  # standard deviations, in voxels
_GAIN = 0.97  # of the mismatch along edges: what a blur leaves at most to be worth it
_EDGES_MM, _CURVE_MM, _TISSUE_MM = 0.7, 1.0, 1.5  # smoothing before something is measured
_CLIPPED = 1.0
_OUTLIER = 9.0  # squared differences above it, in units of scatter, are changes
_MARGIN_MM = 12.0
_REACH_MM = 1.0  # from the core of the tissue to its border, beyond the depth of the core
_FEWEST = 500  # voxels
_ALIKE = 0.3  # correlation
_VISIBLE = 2.0  # about the contrast of lesions to normal tissue in FLAIR
_MOST = 0.1  # of the brain
_EVEN, _STEP = 5.5, 0.5  # where the confidence is 1/2, and how fast it rises


@dataclass(frozen=True)
class ChangeRules:
    """Hold what counts as a change.

    Intensities are in interquartile ranges of normal tissue, of which lesions in FLAIR exceed the
    median by 1.5 to 3. Results depend little on any of these numbers: ``benchmarks/followup.py``
    measures how much.

    Attributes:
        smoothing_mm: Standard deviation of the Gaussian that both images are smoothed with.
        bias_mm: That of the Gaussian that a difference of bias fields is smoother than.
        least_scatter: What unchanged tissue scatters at least, however alike the images are.
        scatter_mm: Over what distance the scatter may differ.
        certain: How many scatters a change must reach, after what a shift by half a voxel could
            explain has been taken off.
        least: What every voxel of it must differ by.
        border: Share of the largest difference within ``border_mm`` that every voxel must reach.
        border_mm: See ``border``.
        fluid: Voxels that are darker in either image hold fluid, and do not change.
        bright: What voxels of a lesion exceed in one of the images.
        core_mm: Brain is what hangs together where it is thicker than twice this; vessels and
            choroid plexus, in fluid, are none.
        edge_mm: Distance from the border of the brain within which nothing is looked for.
        smallest_mm3: Volume that must be certain.
    """

    smoothing_mm: float = 0.7
    bias_mm: float = 20.0
    least_scatter: float = 0.1
    scatter_mm: float = 12.0
    certain: float = 6.0
    least: float = 0.4
    border: float = 0.25
    border_mm: float = 5.0
    fluid: float = -1.0
    bright: float = 0.2
    core_mm: float = 3.0
    edge_mm: float = 2.0
    smallest_mm3: float = 4.0


_RULES = ChangeRules()


@dataclass(frozen=True, eq=False)
class ImageDifference:
    """Hold what changed between two images on one grid; all volumes lie on it.

    Attributes:
        baseline: The first image with matched resolution and intensities, float32: 0 is the
            median of the brain, 1 its interquartile range. Where nothing was compared, which is
            outside the brain and where either image is 0, it is 0.
        followup: The second.
        difference: The second less the first, smoothed, in units of what unchanged tissue
            scatters there; float32. It goes on for 12 mm about the brain, and is 0 further off.
        changed: int8: 1 where bright tissue appeared, -1 where it vanished, 0 elsewhere.
        confidence: How sure the change of each voxel is, in [0, 1], float32. Voxels of one change
            share that of its clearest.
        reliable: Whether the intensities can be compared; if not, ``changed`` and ``confidence``
            are 0 everywhere.
        reason: Why not, in one sentence; empty where they can.

    Example:
        >>> from segjax.data.phantom.dataset import phantom
        >>> image, _ = phantom(0, shape=(48, 48, 48), spacing=3.5)
        >>> brain = image.with_data((image.data > 0).astype(np.uint8))
        >>> compare_images(image, image, brain).difference.data.max()
        np.float32(0.0)
    """

    baseline: Volume
    followup: Volume
    difference: Volume
    changed: Volume
    confidence: Volume
    reliable: bool
    reason: str


class _Pair(NamedTuple):
    first: Image
    second: Image

    @property
    def step(self) -> Image:
        return self.second - self.first

    @property
    def mean(self) -> Image:
        return (self.first + self.second) / 2

    @property
    def darker(self) -> Image:
        return np.minimum(self.first, self.second)

    @property
    def brighter(self) -> Image:
        return np.maximum(self.first, self.second)

    def smoothed(self, mm: float, spacing: Spacing) -> "_Pair":
        from scipy.ndimage import gaussian_filter

        widths = [mm / size for size in spacing]
        return _Pair(*(gaussian_filter(one, widths, truncate=3.0) for one in self))

    def without(self, step: Image) -> "_Pair":
        """Return the images with a part of their difference taken out, half from each."""
        return _Pair(self.first + step / 2, self.second - step / 2)


def compare_images(
    baseline: Volume, followup: Volume, brain: Volume, *, rules: ChangeRules = _RULES
) -> ImageDifference:
    """Find where bright tissue appeared, and where it vanished, between two images of one head.

    Meant for lesions that are bright: in FLAIR, T2 or, with contrast agent, T1. The steps:

    1. Each image less its median in the brain, over its interquartile range there.
    2. Resolution: along each axis that image is blurred by the Gaussian, if any, with which both
       agree best along edges.
    3. Contrast and bias, three times: the median difference as a function of the images' mean, and
       what remains of it smoothed over ``bias_mm``, are taken out, half from either image.
    4. Scatter σ: ``1.4826 · median |d|`` of the difference d of both images, smoothed, among
       voxels of as much structure (range of the 27 voxels around, in that image in which it is
       smaller), times the root mean square of ``d / σ``, clipped to 3, over ``scatter_mm``.
    5. A change is a connected region of brain, no fluid and bright in one image, in which d is at
       least ``least`` and ``border`` of its largest value around, and in which ``smallest_mm3``
       have ``c / σ`` of at least ``certain``: c is d less what an image would differ by from
       itself, half a voxel further along any axis.

    Confidence is ``1 / (1 + exp((5.5 - |c| / σ) / 0.5))``. On the two real pairs of the benchmark,
    experts had drawn 12 of the 13 changes that reach 6 (the other is a new lesion by eye), and 2
    of the 7 from 5 to 6. They drew many small ones that do not stand out: of 27 lesions of at least
    27 mm³, 9 are found.

    The images are not comparable where, in the brain or in its tissue alone, their structure of
    under 20 mm correlates by less than 0.3; where a change would have to exceed 2 interquartile
    ranges to be certain; or where over a tenth of the brain changed.

    Args:
        baseline: First image on the half-way grid, of rank 3, without channels. Voxels of 0 lie
            outside what it shows. A bias field that both images share is not removed.
        followup: Second image, on the same grid.
        brain: Mask of the brain on the same grid: every voxel over 0.
        rules: What counts as a change.

    Raises:
        InputError: The volumes lie on different grids, have channels or another rank than 3, or
            hold numbers that are not finite; or fewer than 500 voxels of brain lie in both images,
            or an image is constant there.

    Example:
        >>> from segjax.data.phantom.dataset import phantom
        >>> image, lesions = phantom(0, shape=(48, 48, 48), spacing=3.5)
        >>> brain = image.with_data((image.data > 0).astype(np.uint8))
        >>> same = compare_images(image, image, brain)
        >>> same.reliable, int(abs(same.changed.data).sum())
        (True, 0)

    Source: To subtract images of matched intensities is O. Ganiler et al., A subtraction pipeline
        for automatic detection of new appearing multiple sclerosis lesions in longitudinal
        studies, Neuroradiology 56, 2014; to judge a difference by that of unchanged tissue,
        P. Schmidt et al., Automated segmentation of changes in FLAIR-hyperintense white matter
        lesions in multiple sclerosis on serial magnetic resonance imaging, NeuroImage: Clinical
        23, 2019.
    """
    _check(baseline, followup, brain)
    with needed_for("comparing images"):
        import scipy.ndimage  # noqa: F401

    box, spacing = _box(brain), baseline.spacing
    pair = _Pair(*(one.data[box].astype(np.float32) for one in (baseline, followup)))
    inside = (brain.data[box] > 0) & (pair.first != 0) & (pair.second != 0)
    pair = _same_resolution(_standardised(pair, inside), inside, spacing)
    alike = _correlation(pair, inside, spacing, rules)
    pair = _same_contrast(pair, inside, spacing, rules)
    smooth = pair.smoothed(rules.smoothing_mm, spacing)
    scatter = _scatter(smooth, inside, spacing, rules)
    clear = _clear(smooth) / scatter
    changed = _changed(smooth, clear, inside, spacing, rules)
    needed = rules.certain * float(np.median(scatter[inside]))
    reason = _reason(alike, needed, float(np.mean(changed[inside] != 0)))
    confidence = _confidence(clear, changed)

    def whole(values: Float[np.ndarray, "x y z"] | Int8[np.ndarray, "x y z"]) -> Volume:
        full = np.zeros(brain.data.shape, values.dtype)
        full[box] = values
        return Volume(full, baseline.affine)

    return ImageDifference(
        baseline=whole(np.where(inside, pair.first, np.float32(0))),
        followup=whole(np.where(inside, pair.second, np.float32(0))),
        difference=whole(smooth.step / scatter),
        changed=whole(changed * np.int8(not reason)),
        confidence=whole(confidence * np.float32(not reason)),
        reliable=not reason,
        reason=reason,
    )


def _check(baseline: Volume, followup: Volume, brain: Volume) -> None:
    for name, one in (("baseline", baseline), ("follow-up", followup), ("brain", brain)):
        if one.data.ndim != 3 or one.spatial_dims != 3:
            raise InputError(f"{name}: is {one}; images are compared as volumes of one channel")
        if not same_grid(grid(one), grid(baseline)):
            raise InputError(f"{name}: lies on another grid than the baseline; resample it first")
        if not np.isfinite(one.data).all():
            raise InputError(f"{name}: holds numbers that are not finite")


def _box(brain: Volume) -> tuple[slice, ...]:
    return tuple(
        slice(max(edge.start - round(_MARGIN_MM / size), 0), edge.stop + round(_MARGIN_MM / size))
        for edge, size in zip(box_of(brain.data > 0), brain.spacing, strict=True)
    )


def _standardised(pair: _Pair, inside: Where) -> _Pair:
    if np.count_nonzero(inside) < _FEWEST:
        raise InputError(
            f"{np.count_nonzero(inside)} voxels of brain lie in both images: too few to compare "
            "intensities; is it the mask of this head, and are the images registered?"
        )
    found = []
    for name, image in zip(("baseline", "follow-up"), pair, strict=True):
        low, middle, high = np.percentile(image[inside], [25, 50, 75])
        if not high > low:
            raise InputError(f"{name}: is constant in the brain")
        found.append(((image - middle) / (high - low)).astype(np.float32))
    return _Pair(*found)


def _same_resolution(pair: _Pair, inside: Where, spacing: Spacing) -> _Pair:
    """Blur the finer image along each axis until edges agree best."""
    from scipy.ndimage import gaussian_filter1d

    structure = _structure(pair.mean)
    low, high = np.quantile(structure[inside], [0.5, 0.75])
    edges, flat = inside & (structure >= high), inside & (structure <= low)

    def mismatch(one: _Pair) -> float:
        squares = np.minimum(np.abs(one.smoothed(_EDGES_MM, spacing).step), _CLIPPED) ** 2
        return float(squares[edges].mean() - squares[flat].mean())  # of what is no noise

    least = mismatch(pair)
    for axis in np.argsort(spacing)[::-1]:
        trials = []
        for which in (0, 1):
            before = least
            for width in _BLURS:
                blurred = gaussian_filter1d(pair[which], width, axis=axis, truncate=3.0)
                trial = _Pair(blurred, pair.second) if which == 0 else _Pair(pair.first, blurred)
                trials.append((mismatch(trial), trial))
                if trials[-1][0] > before:
                    break
                before = trials[-1][0]
        left, best = min(trials, key=lambda one: one[0])
        if left < _GAIN * least:
            least, pair = left, best
    return pair


def _correlation(pair: _Pair, inside: Where, spacing: Spacing, rules: ChangeRules) -> float:
    """Return by how much local structure correlates, in the brain or in tissue, the smaller.

    With fluid, T2 differs from FLAIR; without, T1 does.
    """
    smooth = pair.smoothed(_TISSUE_MM, spacing)
    found = []
    for where in (inside, inside & (smooth.darker > rules.fluid)):
        first, second = (
            np.clip((one - _around(one, where, rules.bias_mm, spacing))[where], -2, 2)
            for one in smooth
        )
        spread = float(first.std() * second.std()) if where.any() else 0.0
        shared = float(np.mean(first * second) - first.mean() * second.mean()) if spread else 0.0
        found.append(shared / max(spread, 1e-6))
    return min(found)


def _same_contrast(pair: _Pair, inside: Where, spacing: Spacing, rules: ChangeRules) -> _Pair:
    for mm, most in ((2 * rules.bias_mm, 1.0), *[(rules.bias_mm, rules.least)] * 2):
        pair = pair.without(_curve(pair, inside, spacing))
        tissue = inside & (pair.darker > rules.fluid)
        pair = pair.without(_around(np.clip(pair.step, -most, most), tissue, mm, spacing))
    return pair


def _curve(pair: _Pair, inside: Where, spacing: Spacing) -> Image:
    """Return the median difference at each voxel's mean of both images.

    Few voxels are as bright as lesions, and those may have changed: there, the curve is that of
    voxels which are bright in both images, and beyond the last a line.
    """
    smooth = pair.smoothed(_CURVE_MM, spacing)
    mean, step = smooth.mean, smooth.step
    levels, steps = _medians(mean[inside], step[inside], _BINS)
    x, y = levels[_BINS // 2 :], steps[_BINS // 2 :]
    slope = np.sum((x - x.mean()) * (y - y.mean())) / max(np.sum((x - x.mean()) ** 2), 1e-6)
    old = inside & (smooth.darker > levels[-1])
    if more := min(int(np.count_nonzero(old)) // _LEAST_BIN, _OLD_BINS):
        brighter, theirs = _medians(mean[old], step[old], more)
        levels, steps = np.append(levels, brighter), np.append(steps, theirs)
    beyond = np.maximum(mean - levels[-1], 0)
    return (np.interp(mean, levels, steps) + slope * beyond).astype(np.float32)


def _medians(
    by: Float[np.ndarray, " voxel"], values: Float[np.ndarray, " voxel"], count: int
) -> tuple[Float[np.ndarray, " bin"], Float[np.ndarray, " bin"]]:
    """Return the medians of both in bins of as many voxels, in the order of the first."""
    bins = np.array_split(np.argsort(by, kind="stable"), count)
    first, second = ([float(np.median(one[places])) for places in bins] for one in (by, values))
    return np.array(first), np.array(second)


def _around(image: Image, where: Where, mm: float, spacing: Spacing) -> Image:
    """Return the mean around each voxel, by three boxes that are nearly a Gaussian."""
    from scipy.ndimage import uniform_filter

    sizes = [2 * round(np.sqrt((mm / size) ** 2 + 0.25) - 0.5) + 1 for size in spacing]
    total, weight = image * where, where.astype(np.float32)
    for _ in range(3):
        total, weight = (uniform_filter(one, sizes, mode="constant") for one in (total, weight))
    return total / np.maximum(weight, np.float32(1e-3))


def _structure(image: Image) -> Image:
    from scipy.ndimage import maximum_filter, minimum_filter

    return maximum_filter(image, 3) - minimum_filter(image, 3)


def _scatter(smooth: _Pair, inside: Where, spacing: Spacing, rules: ChangeRules) -> Image:
    structure = np.minimum(*(_structure(one) for one in smooth))
    levels, typical = _medians(structure[inside], np.abs(smooth.step[inside]), _BINS)
    typical = 1.4826 * np.maximum.accumulate(typical)
    scatter = np.interp(structure, levels, typical) * np.maximum(
        structure / max(levels[-1], rules.least_scatter), 1
    )
    scatter = np.maximum(scatter, rules.least_scatter).astype(np.float32)
    squares = np.minimum((smooth.step / scatter) ** 2, _OUTLIER)
    mean = _around(squares, inside, rules.scatter_mm, spacing)
    return scatter * np.sqrt(np.maximum(mean, 1))


def _clear(smooth: _Pair) -> Image:
    """Return the difference less what a shift by half a voxel could explain."""
    below = smooth.second - np.clip(smooth.second, *_reach(smooth.first))
    above = np.clip(smooth.first, *_reach(smooth.second)) - smooth.first
    return np.where(np.abs(below) > np.abs(above), below, above)


def _reach(image: Image) -> tuple[Image, Image]:
    low, high = image, image
    for axis in range(3):
        for step in (-1, 1):
            between = (image + np.roll(image, step, axis)) / 2
            low, high = np.minimum(low, between), np.maximum(high, between)
    return low, high


def _changed(
    smooth: _Pair, clear: Image, inside: Where, spacing: Spacing, rules: ChangeRules
) -> Int8[np.ndarray, "x y z"]:
    tissue = _tissue(smooth, inside, spacing, rules) & (smooth.brighter > rules.bright)
    changed = np.zeros(clear.shape, np.int8)
    for sign in (np.int8(1), np.int8(-1)):
        where = tissue & (sign * smooth.step > rules.least)
        seeds = sign * clear >= rules.certain
        changed[_regions(sign * smooth.step, where, seeds, spacing, rules)] = sign
    return changed


def _tissue(smooth: _Pair, inside: Where, spacing: Spacing, rules: ChangeRules) -> Where:
    from scipy.ndimage import binary_erosion, distance_transform_edt

    solid = inside & (smooth.mean > rules.fluid)
    labels, count = label_components(distance_transform_edt(solid, spacing) > rules.core_mm)
    if count:
        core = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
        solid &= distance_transform_edt(~core, spacing) <= rules.core_mm + _REACH_MM
    deep = distance_transform_edt(inside, spacing) > rules.edge_mm
    return solid & deep & binary_erosion(inside) & (smooth.darker > rules.fluid)


def _regions(
    step: Image, where: Where, seeds: Where, spacing: Spacing, rules: ChangeRules
) -> Where:
    from scipy.ndimage import maximum_filter

    least = rules.smallest_mm3 / float(np.prod(spacing))
    where = _seeded(where, seeds, least)
    if where.any():
        sizes = [2 * int(rules.border_mm / size) + 1 for size in spacing]
        peak = maximum_filter(np.where(where, step, np.float32(0)), sizes)
        where = _seeded(where & (step >= rules.border * peak), seeds, least)
    return where


def _seeded(where: Where, seeds: Where, least: float) -> Where:
    """Return the connected parts in which enough voxels are seeds."""
    labels, count = label_components(where)
    enough = np.bincount(labels[seeds & where], minlength=count + 1) >= max(least, 1)
    enough[0] = False
    return enough[labels]


def _reason(alike: float, needed: float, share: float) -> str:
    if alike < _ALIKE:
        return (
            f"the structure of the images correlates by {alike:.2f}, too little for one sequence: "
            "are they of different contrast, or not registered?"
        )
    if needed > _VISIBLE:
        return (
            f"only changes of over {needed:.1f} interquartile ranges of the brain would stand out, "
            "more than lesions have: the images are too noisy or differ too much in contrast"
        )
    if share > _MOST:
        return f"{share:.0%} of the brain would have changed: the images are not comparable"
    return ""


def _confidence(clear: Image, changed: Int8[np.ndarray, "x y z"]) -> Image:
    sure = 1 / (1 + np.exp(np.clip((_EVEN - np.abs(clear)) / _STEP, -50, 50)))
    for sign in (1, -1):
        labels, count = label_components(changed == sign)
        best = np.zeros(count + 1, np.float32)
        np.maximum.at(best, labels.ravel(), sure.ravel())
        sure = np.where(labels > 0, best[labels], sure)
    return sure.astype(np.float32)
