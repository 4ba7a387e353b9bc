"""Keep all cases on the device, and cut and augment patches there."""

import copy
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float32, Int32, Integer, UInt8

from segjax.data.augment.transform import (
    Parameters,
    Transform,
    apply_all,
    for_spacing,
    rows,
)
from segjax.data.loader import Loader, PatchDraw
from segjax.errors import InputError
from segjax.machine import device_bytes, taken_bytes
from segjax.train.display import show_loading

__all__ = ["ResidentLoader", "augment_batch", "keep_on_devices", "stack_parameters"]

DeviceBatch = tuple[Float32[Array, "batch *patch channel"], UInt8[Array, "batch *patch"]]


class _Cases(NamedTuple):
    """All cases, padded to one shape, on the device."""

    images: Float32[Array, "case *spatial channel"]
    labels: UInt8[Array, "case *spatial"]


class ResidentLoader:
    """The batches of a :class:`~segjax.data.loader.Loader`, made on the device.

    The cases lie on the device, padded with 0 to one shape, images in float32 and labels in uint8:
    ``4·channels + 1`` bytes per voxel, so that 500 images of 512² take 0.66 GB, and 200 volumes of
    192×224×192 with two channels 14.9 GB. They are brought there one by one. For each step the
    host draws corners and parameters of the transforms, and sends only these; compiled programs,
    the same for every step, cut all patches of the batch and augment them. A transform that no
    patch of the batch has drawn is skipped; where only some have, the others get the parameters
    that change nothing. Products of matrices are of full float32, where GPUs would round to TF32.

    The images agree with ``loader.batch`` to 1e-5 of their range (host and device round
    differently, so that now and then a voxel has the label of its neighbour), the corners and
    parameters exactly.

    Args:
        loader: Cases, sampling, transforms and seed.
        fraction: Of the memory that JAX may have on the device (``XLA_PYTHON_CLIENT_MEM_FRACTION``
            of all, 75 % by default), in (0, 1]: the cases must fit into it together with what is
            there already; the rest is for the training.
        device: Where to keep them; the first one when None.

    Raises:
        InputError: The cases take more memory than that, or a transform without parameters is to
            be applied to a part of a batch only.

    Example:
        >>> from segjax.data import LoadedCase, Sampling
        >>> from segjax.data.phantom.dataset import phantom
        >>> image, label = phantom(0, shape=(32, 32))
        >>> case = LoadedCase("head", image.channels_last, label.data, image, label)
        >>> resident = ResidentLoader(Loader([case], Sampling((16, 16), batch_size=2)))
        >>> [array.shape for array in resident.batch(0)]
        [(2, 16, 16, 1), (2, 16, 16)]
    """

    def __init__(
        self, loader: Loader, *, fraction: float = 0.5, device: jax.Device | None = None
    ) -> None:
        if not 0 < fraction <= 1:
            raise InputError(f"fraction {fraction} of the memory is out of range: give (0, 1]")
        self._loader = loader
        self._device = device or jax.local_devices()[0]
        self._before, self._shape = _common_shape(loader.shapes, loader.sampling.patch_size)
        _check_memory(self.nbytes, len(loader.cases), self._shape, fraction, self._device)
        _check_transforms(loader.augment, self._patch_shape)
        self._cases = self._store()
        finest = tuple(np.min(loader.spacings, axis=0).tolist())
        self._augment = for_spacing(loader.augment, finest)  # so that kernels in mm are long enough

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches after which every case was drawn ``patches_per_case`` times."""
        return self._loader.steps_per_epoch

    @property
    def nbytes(self) -> int:
        """Memory that the cases take on the device."""
        return _bytes(len(self._loader.cases), self._shape, self._loader.channels)

    def batch(self, step: int) -> DeviceBatch:
        """Make the batch of one training step.

        Args:
            step: Number of the step, counted from 0 over all epochs.

        Returns:
            Images ``(batch, *patch, channel)`` float32 and labels ``(batch, *patch)`` uint8, on
            the device.
        """
        return self._made(self._loader.draw(step))

    def compile(self) -> None:
        """Compile all programs that make batches, since XLA may hang where two threads do so."""
        nothing = _identities(self._loader.augment, self._patch_shape)
        draw = PatchDraw(0, (0,) * (len(self._patch_shape) - 1), nothing)
        self._made([draw] * len(self._loader.draw(0)))

    def reseeded(self, seed: int) -> "ResidentLoader":
        """Return a loader of another seed, which shares the cases and the compiled program."""
        other = copy.copy(self)
        other._loader = self._loader.reseeded(seed)
        return other

    @property
    def _patch_shape(self) -> tuple[int, ...]:
        return (*self._loader.sampling.patch_size, self._loader.channels)

    def _made(self, drawn: Sequence[PatchDraw]) -> DeviceBatch:
        """Cut and augment patches."""
        own = [draw.parameters for draw in drawn]
        parameters, applied = stack_parameters(self._loader.augment, own, self._patch_shape)
        cases = np.array([draw.case for draw in drawn], np.int32)
        starts = np.array([draw.corner for draw in drawn], np.int32) + self._before
        draws = jax.device_put((cases, starts, parameters), self._device)
        patches = _cut_all(self._loader.sampling.patch_size, self._cases, *draws[:2])
        return augment_batch(self._augment, draws[2], applied, *patches)

    def _store(self) -> _Cases:
        """Bring the cases to the device, one after the other."""
        count, channels = len(self._loader.cases), self._loader.channels
        images = jnp.zeros((count, *self._shape, channels), jnp.float32, device=self._device)
        labels = jnp.zeros((count, *self._shape), jnp.uint8, device=self._device)
        for index, case in enumerate(self._loader.cases):
            images = _insert(images, self._pad(case.image), index)
            labels = _insert(labels, self._pad(case.label), index)
        return _Cases(images, labels)

    def _pad(self, array: np.ndarray) -> np.ndarray:
        padded = np.zeros((*self._shape, *array.shape[len(self._shape) :]), array.dtype)
        within = zip(self._before, array.shape, strict=False)
        padded[tuple(slice(int(before), int(before) + size) for before, size in within)] = array
        return padded


def keep_on_devices(
    loader: Loader, devices: Sequence[jax.Device], wanted: bool | None = None
) -> dict[jax.Device, ResidentLoader]:
    """Keep the cases of a loader on every device where that is wanted, or fits an accelerator.

    The programs that make batches are compiled then.

    Args:
        loader: Where batches come from.
        devices: Which are to make batches.
        wanted: Whether to keep them there; ``None``: where it is no CPU and they fit.

    Returns:
        The source of batches on each device; empty where the cases stay on the host.

    Raises:
        InputError: They are wanted there and do not fit.

    Example:
        >>> from segjax.data import LoadedCase, Loader, Sampling
        >>> from segjax.data.phantom.dataset import phantom
        >>> image, label = phantom(0, shape=(32, 32))
        >>> case = LoadedCase("head", image.channels_last, label.data, image, label)
        >>> loader = Loader([case], Sampling((16, 16), batch_size=2))
        >>> keep_on_devices(loader, jax.devices("cpu"))
        {}
    """
    if wanted is False or (wanted is None and jax.default_backend() == "cpu"):
        return {}
    if wanted is None and None in map(device_bytes, devices):
        show_loading("not kept on the device, which does not tell how much memory it has")
        return {}
    try:
        sources = {device: ResidentLoader(loader, device=device) for device in devices}
        for source in sources.values():
            source.compile()
    except (
        InputError,
        jax.errors.JaxRuntimeError,  # too little memory after all
        jax.errors.JAXTypeError,  # a transform for NumPy alone
    ) as error:
        if wanted:
            raise
        show_loading(f"not kept on the device: {str(error).splitlines()[0]}")
        return {}
    size = _gb(max(source.nbytes for source in sources.values()))
    each = f"each of {len(devices)} devices" if len(devices) > 1 else "the device"
    show_loading(f"kept on {each}, {size}")
    return sources


def stack_parameters(
    transforms: tuple[Transform, ...],
    drawn: Sequence[Sequence[Parameters | None]],
    shape: tuple[int, ...],
) -> tuple[tuple[Parameters, ...], Bool[np.ndarray, " transforms"]]:
    """Stack the parameters of a batch, for :func:`augment_batch`.

    Args:
        transforms: What is applied to every image of the batch, in order.
        drawn: For every image, what :func:`~segjax.data.augment.draw_all` drew.
        shape: Of one image, ``(*spatial, channel)``.

    Returns:
        For every transform its parameters, with a first axis of the batch, those that change
        nothing where it was not drawn; and whether it was drawn for any image.

    Raises:
        InputError: A transform without parameters is to be applied to a part of the batch only.

    Example:
        >>> from segjax.data.augment import Gamma, draw_all
        >>> rng, often = np.random.default_rng(0), (Gamma(probability=0.9),)
        >>> drawn = [draw_all(rng, (8, 8, 1), often) for _ in range(4)]
        >>> parameters, applied = stack_parameters(often, drawn, (8, 8, 1))
        >>> parameters[0]["gamma"].shape, applied.tolist()
        ((4, 1), [True])
    """
    by_transform = list(zip(*drawn, strict=True))
    identities = _identities(transforms, shape)
    stacked = tuple(map(_stack, transforms, by_transform, identities))
    applied = [any(one is not None for one in batch) for batch in by_transform]
    return stacked, np.array(applied, bool)


def _stack(
    transform: Transform, batch: Sequence[Parameters | None], nothing: Parameters
) -> Parameters:
    """Stack one transform's parameters, those that change nothing where there are none."""
    if not nothing and 0 < batch.count(None) < len(batch):
        raise _not_in_part(transform)
    return {
        name: np.stack([(nothing if p is None else p)[name] for p in batch]).astype(value.dtype)
        for name, value in nothing.items()
    }


def _check_transforms(transforms: tuple[Transform, ...], shape: tuple[int, ...]) -> None:
    for transform, nothing in zip(transforms, _identities(transforms, shape), strict=True):
        if not nothing and 0 < transform.probability < 1:
            raise _not_in_part(transform)


def _not_in_part(transform: Transform) -> InputError:
    return InputError(
        f"{transform.name}: draws no parameters, so that it cannot be left out for a part of "
        "the batch: draw a factor that is 0 in identity, or apply it with probability 1"
    )


def augment_batch(
    transforms: tuple[Transform, ...],
    parameters: tuple[Parameters, ...],
    applied: Bool[np.ndarray, " transforms"],
    images: Float[Array, "batch *spatial channel"],
    labels: Integer[Array, "batch *spatial"],
) -> tuple[Float[Array, "batch *spatial channel"], Integer[Array, "batch *spatial"]]:
    """Augment a batch on the device.

    Neighbouring spatial transforms interpolate once; each such row is a compiled program of its
    own, and what no image has drawn is skipped. The host decides that: a condition within a program
    would have a GPU wait for the host.

    Args:
        transforms: What to apply to every image, in order.
        parameters: Of :func:`stack_parameters`.
        applied: As well.
        images: The images.
        labels: Their label maps.

    Returns:
        Images and label maps, changed alike.

    Example:
        >>> from segjax.data.augment import Flip, draw_all
        >>> flip, rng = (Flip(probability=1.0),), np.random.default_rng(0)
        >>> images = jnp.array([[[1.0], [2.0]], [[3.0], [4.0]]])
        >>> drawn = [draw_all(rng, (2, 1), flip) for _ in images]
        >>> stacked = stack_parameters(flip, drawn, (2, 1))
        >>> augment_batch(flip, *stacked, images, jnp.array([[0, 1], [0, 1]]))[1].tolist()
        [[1, 0], [1, 0]]
    """
    for row in rows(transforms):
        if applied[row].any():
            images, labels = _augment(transforms[row], images, labels, parameters[row])
    return images, labels


@functools.partial(jax.jit, donate_argnums=0)
def _insert(store: Array, array: Array, index: ArrayLike) -> Array:
    return lax.dynamic_update_index_in_dim(store, array, index, 0)


@functools.partial(jax.jit, static_argnums=0)
def _cut_all(
    patch_size: tuple[int, ...],
    store: _Cases,
    cases: Int32[Array, " batch"],
    starts: Int32[Array, "batch rank"],
) -> DeviceBatch:
    cut = jax.vmap(functools.partial(_cut, patch_size), (None, 0, 0))
    return cut(store.images, cases, starts), cut(store.labels, cases, starts)


def _cut(patch_size: tuple[int, ...], store: Array, case: Array, start: Array) -> Array:
    channels = store.shape[len(patch_size) + 1 :]
    corner = (case, *start, *(0 for _ in channels))
    return lax.dynamic_slice(store, corner, (1, *patch_size, *channels))[0]


@functools.partial(jax.jit, static_argnums=0)
def _augment(
    transforms: tuple[Transform, ...],
    patches: Array,
    masks: Array,
    parameters: Sequence[Parameters],
) -> tuple[Array, Array]:
    def one(image: Array, label: Array, drawn: Sequence[Parameters]) -> tuple[Array, Array]:
        image, label = apply_all(transforms, drawn, image, label, jnp)
        return image.astype(patches.dtype), label.astype(masks.dtype)

    with jax.default_matmul_precision("highest"):  # places of voxels need more bits than TF32 has
        return jax.vmap(one)(patches, masks, parameters)


@functools.lru_cache(maxsize=16)
def _identities(
    transforms: tuple[Transform, ...], shape: tuple[int, ...]
) -> tuple[dict[str, np.ndarray], ...]:
    return tuple(
        {name: np.asarray(value) for name, value in transform.identity(shape).items()}
        for transform in transforms
    )


def _common_shape(
    shapes: Sequence[tuple[int, ...]], patch_size: tuple[int, ...]
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return how much is padded in front, and the shape that every patch of every case fits in."""
    sizes, patch = np.array(shapes), np.array(patch_size)
    before = np.maximum(0, patch - sizes).max(axis=0)
    after = before + np.maximum(sizes, patch).max(axis=0)
    return before.astype(np.int32), tuple(after.tolist())


def _bytes(count: int, shape: Sequence[int], channels: int) -> int:
    return count * int(np.prod(shape)) * (4 * channels + 1)


def _check_memory(
    needed: int, count: int, shape: Sequence[int], fraction: float, device: jax.Device
) -> None:
    memory = device_bytes(device)
    taken = taken_bytes(device)
    if memory is not None and taken + needed > fraction * memory[0]:
        beside = f", where {_gb(taken)} are taken" if taken else ""
        raise InputError(
            f"the {count} training cases take {_gb(needed)} on the device, padded to "
            f"{' × '.join(map(str, shape))} voxels each, and may take {fraction:.0%} of its "
            f"{_gb(memory[0])}{beside}: crop or resample them, or load them from the disk instead"
        )


def _gb(count: float) -> str:
    return f"{count / 1e9:.3g} GB"
