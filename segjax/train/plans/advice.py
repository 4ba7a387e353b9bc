"""Propose a configuration from what the data are like, each choice with its reason."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax import models
from segjax.data import augment
from segjax.data.cases import Dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import (
    Clip,
    ClipPercentiles,
    CropToForeground,
    Reorient,
    Resample,
    Resize,
    Step,
    TissuePeak,
    ZScore,
)
from segjax.data.synthesis.transform import PutLesions
from segjax.errors import InputError
from segjax.machine import device_bytes
from segjax.models.unet import UNet
from segjax.models.unet_plus_plus import UNetPlusPlus
from segjax.text import plural
from segjax.train.config import OptimizerConfig, TrainConfig
from segjax.train.losses import Loss, Term
from segjax.train.plans.examine import Look, examine, fixed_sides, hit_rate, read_labels
from segjax.train.plans.survey import SAME_SPACING, Survey, spacing_spread, survey

__all__ = ["Advice", "Reason", "advise", "training_bytes"]

_LOOKED_AT = 60  # cases whose images are read, evenly spaced over all
_USUAL = "mpunet++"  # the network that is trained where none is asked for
_LARGEST = {2: 256, 3: 64}  # voxels along an axis of a patch, by the network's rank
_SMALL_PATCH = 48**3  # voxels; of smaller patches four make a batch
_STEPS = 1000  # of a training, about
_ANISOTROPIC = 3.0  # from this ratio of spacings on, slices are networks' better food
_STRIPPED = 0.2  # fraction of exact zeros that only a removed background has
_LONG_TAIL = 3.0  # see Look.tail
_SYMMETRIC = 0.7  # correlation of a mirror image
_FEW = 20  # cases; of more, a network learns turns and sizes from the cases themselves
_PIECE = 1000  # times a patch is as large as a piece of foreground whose patches are to be small
_AROUND = 32  # voxels along an axis of such patches
_FEWEST = 3  # cases; of so few, lesions of other sizes and places have to be made up
_RARE = 0.01  # of the brain that is lesion; where more is, the labelled lesions are enough
_SEEN = 0.5  # interquartile ranges that lesions differ from the brain, where they can be made up
_DRAWN = (2 / 3, 5 / 3)  # of the labelled lesions' contrast, that drawn ones have
_TOLD = 5  # cases that can tell on which side labels lie
_AXES = {"R": "left-right", "A": "front-back", "S": "up-down"}
_AXES |= {"L": _AXES["R"], "P": _AXES["A"], "I": _AXES["S"]}
_KEPT = 8.5  # bytes that a step keeps for each byte of a layer's output


@dataclass(frozen=True)
class Reason:
    """One choice.

    Attributes:
        choice: What it is about.
        value: What was chosen.
        why: What in the data speaks for it.
    """

    choice: str
    value: str
    why: str


@dataclass(frozen=True)
class Advice:
    """A configuration for a dataset.

    Attributes:
        config: What to train.
        facts: What the data are like, by name.
        reasons: Why the configuration is as it is.
    """

    config: TrainConfig
    facts: Mapping[str, str]
    reasons: tuple[Reason, ...]


def advise(
    dataset: Dataset,
    *,
    model: str | None = None,
    pipeline: Pipeline | None = None,
    look: bool = True,
    small_patches: bool = True,
    put_lesions: bool = True,
    memory_gb: float | None = None,
) -> Advice:
    """Propose how to train on a dataset.

    Volumes are turned to RAS and brought to the median spacing of the set, where theirs differs
    from it by more than 5 %; intensities become z-scores. A patch covers 95 of 100 cases where they
    are small, and has at most 64 voxels along an axis of a volume, 256 of an image; a 2D network on
    volumes gets patches of one slice. About 1000 steps are made, in epochs that see each case about
    once as a whole. Intensities are scaled and noise is added; fewer than 20 volumes are turned,
    scaled, bent and blemished as in the MS study, images and slices as in the meningioma study.
    The zoo's networks get no dropout: on hippocampi, MPU-Net++ reached 0.887 without it and with
    its study's 0.3 of 6 to 9 channels 0.867, at different learning rates.

    All label maps and the headers of all images are read for that. With ``look``, up to 60 images
    are read besides, and these choices may differ: the coarse axis of anisotropic volumes goes
    last, at the 10th percentile of its spacings; thick slices, flat volumes and images get a 2D
    network; removed backgrounds are left out of the z-scores, and long tails clipped; batch, then
    patch are halved until a training fits the memory; where pieces of foreground are tiny, eight
    patches of 32³ make a batch, and of up to three brain-extracted cases lesions are drawn into
    them, as bright as those that are labelled, and scaled by the upper half of the tissue peak if
    these are bright; rare foreground is drawn more often; patches are mirrored along axes along
    which images are symmetric and labels take no side. Nothing is mirrored without a look, since
    left and right differ in a brain.

    Args:
        dataset: Labelled cases, as files or, without a look, from a cache.
        model: The network, if it is decided already; without a look ``"mpunet++"`` else.
        pipeline: Preprocessing, if it is decided already; for a cache the one it was made by.
        look: Whether to look at the images, too.
        small_patches: Whether small patches are taken where pieces of foreground are tiny; many of
            them make a batch and a case, which is too much of larger ones.
        put_lesions: Whether lesions are drawn into such patches of very few cases.
        memory_gb: Memory that a training may take; by default that of the GPU, or half of what
            the computer has or this container may have of it; no limit where neither is known.

    Raises:
        InputError: The dataset cannot be used, the network does not fit it, or not even a single
            patch of its smallest size fits the memory.

    Example:
        >>> from segjax.data import find_cases
        >>> advise(find_cases("brains"), look=False).config.patch_size
        (24, 32, 24)
    """
    found = survey(dataset, pipeline or Pipeline((Reorient("RAS"),)))
    grid = _choose_grid(found, look=look) if pipeline is None else _given_grid(found, pipeline)
    network = _choose_network(grid, model, look=look)
    looks = _looks(dataset, grid, found) if look else []
    few = look and len(dataset.cases) <= _FEWEST and len(found.labels) == 2
    contrasts = _rare_lesions(looks) if few else None
    norm, because = _choose_normalisation(looks, pipeline, contrasts)
    after = found if pipeline else functools.reduce(Survey.after, grid.steps, found)
    pipeline = pipeline or Pipeline((*grid.steps, *norm))
    config = _usual(network.value, pipeline, after, len(dataset.cases))
    config, usual = _choose_augmentation(config, len(dataset.cases))
    augmented: tuple[Reason, ...] = (usual,)
    if look:
        small = None
        if small_patches:
            config, small = _choose_small_patches(config, looks, len(dataset.cases))
        if small and put_lesions and contrasts is not None:
            config, augmented = _choose_lesions(config, contrasts, usual)
        config, chosen = _looked_at(config, dataset, grid, looks, memory_gb)
        chosen = (small or chosen[0], *chosen[1:])
    else:
        chosen = (_patch(config), Reason("batch", f"{config.batch_size} in a step", "the usual"))
    chosen = (*chosen, *augmented)
    reasons = (grid.reason, network, because, *chosen, _length(config, dataset))
    return Advice(config, _facts(found, looks, len(dataset.cases)), reasons)


def _usual(model: str, pipeline: Pipeline, found: Survey, cases: int) -> TrainConfig:
    """Return what the sizes, channels and labels of cases suggest, after preprocessing."""
    channels = {"in_channels": found.channels, "out_channels": len(found.labels)}
    network = models.create(model, rank=found.spatial_dims, **channels)
    if network.spatial_dims > found.spatial_dims:
        raise InputError(f"model {model} needs volumes, but the cases are 2D: use a 2D model")
    patch = _patch_size(found.shapes, network)
    flat = network.spatial_dims == 2
    batch_size = 8 if flat else 4 if math.prod(patch) <= _SMALL_PATCH else 2
    config = TrainConfig(
        model,
        patch,
        in_channels=found.channels,
        labels=found.labels,
        pipeline=pipeline,
        batch_size=batch_size,
        dropout=0.0 if isinstance(network, UNet | UNetPlusPlus) else None,
        optimizer=OptimizerConfig(
            learning_rate=1e-2 if model == _USUAL else 5e-3 if flat else 1e-3
        ),
        augment=(augment.ScaleIntensity(), augment.Noise()),
    )
    return _lasting(config, cases, _patches_per_case(found.shapes, patch))


def _lasting(config: TrainConfig, cases: int, patches_per_case: int) -> TrainConfig:
    """Return a configuration of about the usual number of steps."""
    epochs = math.ceil(_STEPS / math.ceil(cases * patches_per_case / config.batch_size))
    return dataclasses.replace(
        config,
        patches_per_case=patches_per_case,
        epochs=max(10, epochs),
        validate_every=max(1, epochs // 20),
    )


def _patch_size(shapes: Sequence[tuple[int, ...]], model: Any) -> tuple[int, ...]:
    largest, multiple = _LARGEST[model.spatial_dims], model.size_multiple
    usual = np.percentile(np.array(shapes), 95, axis=0)
    sizes = [max(multiple, -(-min(int(n), largest) // multiple) * multiple) for n in np.ceil(usual)]
    return (*sizes[: model.spatial_dims], *[1] * (len(sizes) - model.spatial_dims))


def _patches_per_case(shapes: Sequence[tuple[int, ...]], patch: tuple[int, ...]) -> int:
    voxels = float(np.median(np.prod(np.array(shapes), axis=1)))
    return min(8, max(1, round(voxels / math.prod(patch))))


def _looked_at(
    config: TrainConfig,
    dataset: Dataset,
    grid: "_Grid",
    looks: Sequence[Look],
    memory_gb: float | None,
) -> tuple[TrainConfig, tuple[Reason, ...]]:
    """Change what memory, the places of the foreground and symmetry speak against."""
    config, memory = _fit_memory(config, memory_gb)
    hits = hit_rate(read_labels(_some(dataset), Pipeline(grid.steps)), config.patch_size)
    config, drawing = _choose_foreground(config, hits)
    config, mirrors = _choose_mirrors(config, looks, grid)
    return config, (*memory, drawing, mirrors)


def _looks(dataset: Dataset, grid: "_Grid", found: Survey) -> list[Look]:
    return examine(_some(dataset), Pipeline(grid.turns), len(found.labels))


def _some(dataset: Dataset) -> Sequence[Any]:
    return dataset.cases[:: math.ceil(len(dataset.cases) / _LOOKED_AT)]


@dataclass(frozen=True)
class _Grid:
    """The orientation and spacing that a training sees.

    Attributes:
        steps: What brings images there.
        spacing: In mm, in the order of the axes then.
        size: Median number of voxels, in that order.
        reason: Why.
    """

    steps: tuple[Step, ...]
    spacing: tuple[float, ...]
    size: tuple[int, ...]
    reason: Reason

    @property
    def turns(self) -> tuple[Reorient, ...]:
        """The steps that only turn images."""
        return tuple(step for step in self.steps if isinstance(step, Reorient))


def _choose_grid(found: Survey, *, look: bool) -> _Grid:
    """Take the median spacing; with a look, the coarse axis of anisotropic volumes goes last."""
    spacings, shapes = np.array(found.spacings), np.array(found.shapes)
    target = np.median(spacings, axis=0)
    coarse = int(target.argmax())
    anisotropic = look and bool(target.max() / target.min() >= _ANISOTROPIC)
    if anisotropic:  # a few thin series must not be thrown to the coarseness of the others
        target[coarse] = np.percentile(spacings[:, coarse], 10)
    order = [axis for axis in range(len(target)) if axis != coarse] + [coarse]
    order = order if anisotropic else list(range(len(target)))
    orientation = "".join("RAS"[axis] for axis in order) if len(order) == 3 else "RAS"
    size = np.median(shapes * spacings / target, axis=0)[order]
    ordered = tuple(float(target[axis]) for axis in order)
    steps = (Reorient(orientation), *_resampling(found, ordered))
    reason = _spacing_reason(found, ordered, anisotropic=anisotropic)
    return _Grid(steps, ordered, tuple(round(n) for n in size), reason)


def _resampling(found: Survey, spacing: Sequence[float]) -> tuple[Step, ...]:
    """Return what brings volumes, and later ones, to a spacing; pictures have none."""
    if found.spatial_dims == 2:
        return ()
    rounded = tuple(float(f"{value:.3g}") for value in spacing)
    return (Resample(rounded, tolerance=SAME_SPACING),)


def _given_grid(found: Survey, pipeline: Pipeline) -> _Grid:
    """Take the grid of a preprocessing that is decided, and warn where it leaves spacings apart."""
    steps = tuple(step for step in pipeline.steps if isinstance(step, Reorient | Resample | Resize))
    resized = any(isinstance(step, Resize) for step in steps)
    if not resized and spacing_spread(found.spacings) > SAME_SPACING:
        rows = np.array(found.spacings)
        low, high = (" × ".join(f"{mm:.3g}" for mm in row) for row in (rows.min(0), rows.max(0)))
        warnings.warn(
            f"voxels go from {low} to {high} mm, and nothing resamples them: lesions of one size "
            "look different in size to the network; segjax plan proposes a spacing",
            stacklevel=4,
        )
    spacing, size = (np.median(np.array(rows), axis=0) for rows in (found.spacings, found.shapes))
    reason = Reason("spacing", _spacing_range(found), "that of the preprocessing asked for")
    return _Grid(steps, tuple(map(float, spacing)), tuple(map(round, size)), reason)


def _spacing_reason(found: Survey, target: Sequence[float], *, anisotropic: bool) -> Reason:
    said = _spacing_range(found)
    if found.spatial_dims == 2:
        return Reason("spacing", "as it is", "pictures have none")
    if spacing_spread(found.spacings) <= SAME_SPACING:
        why = f"all cases have {said}; other images are brought to it"
        return Reason("spacing", _mm(target), why)
    coarse_too = ", the 10th percentile along the coarse axis" if anisotropic else ""
    return Reason("spacing", _mm(target), f"spacings go from {said}: the median{coarse_too}")


def _choose_network(grid: _Grid, model: str | None, *, look: bool) -> Reason:
    if model is not None:
        return Reason("network", model, "asked for")
    if not look:
        return Reason("network", _USUAL, "the usual")
    if len(grid.size) == 2:
        return Reason("network", "unet2d-k3", "the images are 2D")
    ratio = max(grid.spacing) / min(grid.spacing)
    if ratio >= _ANISOTROPIC:
        why = f"voxels are {ratio:.1f} times as long as wide: slices, not volumes"
        return Reason("network", "unet2d-k3", why)
    least = models.create(_USUAL).size_multiple
    if min(grid.size) < least:
        why = f"volumes of {_times(grid.size)} voxels are too flat for a 3D network: slices"
        return Reason("network", "unet2d-k3", why)
    why = (
        "nearly isotropic volumes; 38 thousand parameters were as good as 1.7 million in the study"
    )
    return Reason("network", _USUAL, why)


def _choose_normalisation(
    looks: Sequence[Look], pipeline: Pipeline | None, contrasts: np.ndarray | None
) -> tuple[tuple[Step, ...], Reason]:
    if pipeline is not None:
        return (), Reason("normalisation", "as it is", "that of the preprocessing asked for")
    if contrasts is not None and (contrasts > 0).all():
        upper = (CropToForeground(), TissuePeak(side="upper"), Clip(low=-5.0, high=8.0))
        said = "few brains with bright lesions: so one MS patient served another (docs/recipes.md)"
        return upper, Reason("normalisation", "upper half of the tissue peak", said)
    if not looks:
        return (ZScore(),), Reason("normalisation", "z-score of all voxels", "the usual")
    zeros = float(np.median([look.background for look in looks]))
    tail = float(np.median([look.tail for look in looks]))
    medians = [look.median for look in looks]
    why = [f"median intensities go from {min(medians):.3g} to {max(medians):.3g}"]
    steps: dict[str, Step] = {}
    if tail > _LONG_TAIL:
        steps["clip percentiles"] = ClipPercentiles()
        why.append(f"the brightest voxel lies {tail:.1f} times as far out as the 99.5th percentile")
    if zeros >= _STRIPPED:
        steps["z-score of what is not 0"] = ZScore("nonzero")
        why.append(f"{zeros:.0%} of the voxels are exactly 0, a background that was removed")
    else:
        steps["z-score of all voxels"] = ZScore("all")
    return tuple(steps.values()), Reason("normalisation", ", then ".join(steps), "; ".join(why))


def _fit_memory(
    config: TrainConfig, memory_gb: float | None
) -> tuple[TrainConfig, tuple[Reason, ...]]:
    """Make batch, then patch, smaller until a training fits."""
    limit, whose = (memory_gb, " allowed") if memory_gb else _device_memory()
    usual = config
    while training_bytes(config) / 1e9 > limit:
        config = _smaller(config, limit)
    there = f"of {limit:.3g} GB{whose}" if math.isfinite(limit) else f"GB{whose}"
    needs = f"takes about {training_bytes(config) / 1e9:.2g} {there}"
    cut = "" if config == usual else "; a usual one would not fit"
    patch = _patch(config)
    if config.patch_size != usual.patch_size:
        patch = dataclasses.replace(patch, why=f"{_times(usual.patch_size)} is too much")
    return config, (patch, Reason("batch", f"{config.batch_size} in a step", needs + cut))


def _patch(config: TrainConfig) -> Reason:
    why = "most of a case, at most 64³ voxels or 256² pixels"
    return Reason("patch", _times(config.patch_size), why)


def _smaller(config: TrainConfig, limit: float) -> TrainConfig:
    if config.batch_size > 1:
        return dataclasses.replace(config, batch_size=config.batch_size // 2)
    model = _model(config)
    sizes = list(config.patch_size)
    axis = int(np.argmax(sizes))
    sizes[axis] = (sizes[axis] // 2) // model.size_multiple * model.size_multiple
    if not sizes[axis]:
        raise InputError(
            f"{config.model} does not fit {limit:g} GB even with a single patch of "
            f"{_times(config.patch_size)} voxels: give more memory or another network"
        )
    return dataclasses.replace(config, patch_size=tuple(sizes))


def training_bytes(config: TrainConfig) -> float:
    """Estimate the memory of a training step, apart from the data.

    The outputs of all layers for a batch, times what is kept beside them for the backward pass
    and as scratch, plus four copies of the parameters. XLA's own plan on a CPU was 0.83 of that
    for MPU-Net++ (2 × 64³), 1.0 for the 3D U-Net and 0.4 for the 2D one (8 × 256²).

    Args:
        config: What is trained.

    Example:
        >>> one = TrainConfig("mpunet++", (64, 64, 64), batch_size=1)
        >>> two = dataclasses.replace(one, batch_size=2)
        >>> bool(1.9 < training_bytes(two) / training_bytes(one) < 2.1)
        True
    """
    channels = config.in_channels, config.out_channels
    parameters, outputs = _sizes(config.model, channels, config.patch_size[: config.rank])
    return 4 * (4 * parameters + _KEPT * config.batch_size * outputs)


@functools.cache
def _sizes(name: str, channels: tuple[int, int], patch: tuple[int, ...]) -> tuple[int, int]:
    """Return the numbers of a network's parameters and of all layers' outputs for a patch."""
    ends = {"in_channels": channels[0], "out_channels": channels[1]}
    model = models.create(name, rank=len(patch), **ends)
    images = jax.ShapeDtypeStruct((1, *patch, channels[0]), jnp.float32)

    def run(images: jax.Array) -> Any:
        variables = model.init(jax.random.key(0), images)
        options = {"capture_intermediates": True, "mutable": ["intermediates"]}
        return variables, model.apply(variables, images, **options)[1]

    variables, found = jax.eval_shape(run, images)
    return _numbers(variables), _numbers(found)


def _numbers(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _model(config: TrainConfig) -> Any:
    return models.create(config.model, **config.interface)


def _device_memory() -> tuple[float, str]:
    found = device_bytes(jax.local_devices()[0])
    if found is None:
        return math.inf, "; how much there is cannot be told here: say it (--memory)"
    size, whose = found
    if whose == "GPU":
        return size / 1e9, " of the GPU"
    return size / 2e9, f", half of the {whose}'s memory"


def _choose_small_patches(
    config: TrainConfig, looks: Sequence[Look], cases: int
) -> tuple[TrainConfig, Reason | None]:
    """Take eight small patches for a few large ones where the pieces of foreground are tiny."""
    pieces = [size for look in looks for size in look.lesions]
    middle = float(np.median(pieces)) if pieces else math.inf
    voxels = math.prod(config.patch_size)
    if config.rank == 2 or min(config.patch_size) <= _AROUND or voxels < _PIECE * middle:
        return config, None
    if _AROUND % _model(config).size_multiple:
        return config, None
    per_case = min(64, max(8, 8 * math.ceil(128 / cases)))
    small = dataclasses.replace(config, patch_size=(_AROUND,) * 3, batch_size=8)
    changed = _lasting(small, cases, per_case)
    why = (
        f"pieces of foreground have {middle:g} voxels in the median: the loss of patches of "
        f"{_times(config.patch_size)} hardly sees them (docs/recipes.md)"
    )
    return changed, Reason("patch", _times(changed.patch_size), why)


def _choose_augmentation(config: TrainConfig, cases: int) -> tuple[TrainConfig, Reason]:
    """Turn, bend and blemish the patches of few volumes."""
    usual = "intensities scaled, noise"
    if config.rank == 2:
        moved = (
            augment.Affine(),
            augment.Elastic(),
            augment.Noise(std=(0.0, 0.25), probability=0.25),
            augment.ScaleIntensity(probability=0.25),
            augment.BiasField(probability=0.2),
            augment.Motion(probability=0.05),
        )
        value = "turned, scaled, bent, noise, intensities scaled, bias field, motion"
        why = "meningiomas: Dice 0.895 with these, 0.847 with less (docs/recipes.md)"
        return dataclasses.replace(config, augment=moved), Reason("augmentation", value, why)
    if cases >= _FEW:
        why = f"{cases} cases show turns and sizes themselves: hippocampi got worse by more of it"
        return config, Reason("augmentation", usual, f"{why} (docs/recipes.md)")
    strong = (
        augment.Affine(),
        augment.Elastic(),
        augment.Gamma(probability=0.25),
        augment.Noise(std=(0.0, 0.1), probability=0.25),
        augment.BiasField(probability=0.2),
        augment.Motion(probability=0.05),
    )
    why = f"{plural(cases, 'case')}: with these, two patients taught MS lesions (docs/recipes.md)"
    value = "turned, scaled, bent, gamma, noise, bias field, motion"
    return dataclasses.replace(config, augment=strong), Reason("augmentation", value, why)


def _rare_lesions(looks: Sequence[Look]) -> np.ndarray | None:
    """Return the contrast of rare lesions in extracted brains, for each channel in their units."""
    seen = [look.contrasts for look in looks if look.lesions]
    if not seen:
        return None
    stripped = np.median([look.background for look in looks]) >= _STRIPPED
    share = np.mean([sum(look.fractions) / max(1 - look.background, 1e-9) for look in looks])
    contrasts = np.median(seen, axis=0)
    told = np.isfinite(contrasts).all() and np.abs(contrasts).max() >= _SEEN
    return contrasts if stripped and told and share < _RARE else None


def _choose_lesions(
    config: TrainConfig, contrasts: np.ndarray, usual: Reason
) -> tuple[TrainConfig, tuple[Reason, ...]]:
    """Draw lesions into the patches, about as bright as those that are labelled.

    From patches with hardly any lesion, a network that learns by cross-entropy finds next to none
    in a patient who has many: the loss is Tversky's alone, which weighs missed ones more.
    """
    bounds = np.sort(np.outer(contrasts, _DRAWN), axis=1).round(2)
    contrast = tuple(bounds.ravel().tolist())
    drawn = (
        PutLesions(lesions=(1, 4), contrast=contrast, probability=0.6),
        PutLesions(lesions=(1, 2), contrast=contrast, by_volume=True, box=40, probability=0.3),
    )
    loss = Loss((Term("tversky", alpha=0.8),))
    config = dataclasses.replace(config, augment=(*drawn, *config.augment), loss=loss)
    lie = ", ".join(f"{contrast:+.2g}" for contrast in contrasts)
    why = (
        f"few and rare lesions, {lie} interquartile ranges off the brain's median: with more of "
        "them drawn, one patient taught MS lesions (docs/recipes.md)"
    )
    return config, (
        Reason("augmentation", f"lesions drawn, {usual.value}", why),
        Reason("loss", "tversky (alpha 0.8)", "what is missed weighs more where lesions are rare"),
    )


def _choose_foreground(config: TrainConfig, hits: float) -> tuple[TrainConfig, Reason]:
    """Draw around the foreground the more often, the rarer it is met by chance."""
    fraction = 0.33 if hits >= 0.5 else 0.5 if hits >= 0.1 else 0.75
    why = f"{hits:.0%} of the patches drawn anywhere hold some"
    changed = dataclasses.replace(config, foreground=fraction)
    return changed, Reason("foreground", f"{fraction:.0%} of the patches around it", why)


def _choose_mirrors(
    config: TrainConfig, looks: Sequence[Look], grid: _Grid
) -> tuple[TrainConfig, Reason]:
    """Mirror along axes along which the images are symmetric and the labels take no side."""
    names = _axis_names(grid)
    seen = [look for look in looks if look.lesions]
    if len(seen) < _TOLD:
        why = f"{plural(len(seen), 'labelled case')} cannot tell whether labels keep to a side"
        return config, Reason("mirroring", "none", why)
    told, axes = [], []
    for axis, name in enumerate(names):
        alike, why = _judge_sides(looks, axis, fixed=fixed_sides(seen, axis))
        if alike and config.patch_size[axis] > 1:
            axes.append(axis)
        told.append(f"{name}: {why}")
    value = ", ".join(names[axis] for axis in axes) or "none"
    flips = (augment.Flip(axes=tuple(axes)),) if axes else ()
    changed = dataclasses.replace(config, augment=(*flips, *config.augment))
    return changed, Reason("mirroring", value, "; ".join(told))


def _judge_sides(looks: Sequence[Look], axis: int, *, fixed: bool) -> tuple[bool, str]:
    """Say whether images may be mirrored along an axis, and why."""
    symmetry = float(np.median([look.symmetry[axis] for look in looks]))
    side = "labels keep to their side" if fixed else "labels lie on either side"
    return symmetry >= _SYMMETRIC and not fixed, f"{side}, likeness {symmetry:.2f}"


def _axis_names(grid: _Grid) -> list[str]:
    if len(grid.size) == 2 or not grid.turns:
        return [f"axis {axis}" for axis in range(len(grid.size))]
    return [_AXES[letter] for letter in grid.turns[-1].orientation]


def _length(config: TrainConfig, dataset: Dataset) -> Reason:
    steps = math.ceil(len(dataset.cases) * config.patches_per_case / config.batch_size)
    drawn = f"{config.patches_per_case} from each case in an epoch"
    why = f"about {config.epochs * steps} steps; patches drawn: {drawn}"
    return Reason("length", plural(config.epochs, "epoch"), why)


def _facts(found: Survey, looks: Sequence[Look], cases: int) -> dict[str, str]:
    facts = {
        "cases": str(cases),
        "shape": _shape_range(np.array(found.shapes)),
        "spacing": _spacing_range(found),
        "channels": str(found.channels),
        "labels": ", ".join(found.labels[1:]),
    }
    return facts | _foreground_facts(found, looks, cases) if looks else facts


def _foreground_facts(found: Survey, looks: Sequence[Look], cases: int) -> dict[str, str]:
    fractions = np.mean([look.fractions for look in looks], axis=0)
    lesions = [size for look in looks for size in look.lesions]
    voxel = float(np.median(np.prod(np.array(found.spacings), axis=1)))
    unit, size = ("ml", voxel / 1000) if found.spatial_dims == 3 else ("pixels", 1.0)
    low, middle, high = np.percentile(lesions or [0], (5, 50, 95)) * size
    empty = sum(not look.lesions for look in looks)
    shares = zip(found.labels[1:], fractions, strict=True)
    return {
        "cases": f"{cases} ({plural(len(looks), 'image')} looked at, {empty} without any label)",
        "labels": ", ".join(f"{name} {share:.2%} of the voxels" for name, share in shares),
        "pieces": f"{len(lesions) / len(looks):.1f} of foreground in a case, of {middle:.3g} "
        f"{unit} (5th to 95th percentile: {low:.3g} to {high:.3g})",
    }


def _shape_range(shapes: np.ndarray) -> str:
    low, high = _times(shapes.min(axis=0)), _times(shapes.max(axis=0))
    median = _times(np.median(shapes, axis=0))
    return low if low == high else f"{low} to {high}, median {median}"


def _spacing_range(found: Survey) -> str:
    rows = np.array(found.spacings)
    low, high = _mm(rows.min(axis=0)), _mm(rows.max(axis=0))
    return low if low == high else f"{low} to {high}"


def _mm(spacing: Sequence[float] | np.ndarray) -> str:
    return " × ".join(f"{value:.3g}" for value in spacing) + " mm"


def _times(sizes: Sequence[int] | np.ndarray) -> str:
    return " × ".join(f"{size:g}" for size in sizes)
