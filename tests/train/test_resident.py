import dataclasses
import re
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data import augment
from segjax.data.augment.noise import Noise
from segjax.data.augment.transform import IntensityTransform, rows
from segjax.data.labels import IGNORED
from segjax.data.loaded import LoadedCase
from segjax.data.loader import Loader, Sampling, prefetch
from segjax.errors import InputError
from segjax.grid import Grid
from segjax.registry import registry
from segjax.train import resident
from segjax.train.resident import (
    ResidentLoader,
    augment_batch,
    keep_on_devices,
    stack_parameters,
)
from segjax.volume import Volume
from tests.data.augment.doubling import Doubling

SHAPES = {2: [(40, 37), (33, 44), (20, 48)], 3: [(24, 21, 18), (20, 26, 17), (12, 25, 30)]}
PATCHES = {2: (24, 24), 3: (16, 14, 12)}


def smooth_case(index, shape, channels=1):
    """Return waves, on which interpolated values change little with the last bit of a place."""
    rng = np.random.default_rng(index)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    waves = rng.uniform(-0.5, 0.5, (len(shape), channels))
    image = (np.sin(places @ waves) + 1.5).astype(np.float32)
    label = (image[..., 0] > 2).astype(np.uint8) + (image[..., 0] > 2.3)
    volume = Volume(label, np.eye(len(shape) + 1))
    return LoadedCase(f"case{index}", image, label.astype(np.uint8), volume, volume)


def make_loader(transforms, rank, *, channels=1, batch_size=4, seed=0):
    cases = [smooth_case(i, shape, channels) for i, shape in enumerate(SHAPES[rank])]
    sampling = Sampling(PATCHES[rank], batch_size, patches_per_case=4)
    return Loader(cases, sampling, augment=tuple(transforms), seed=seed)


def assert_agree(loader, steps):
    on_device = ResidentLoader(loader)
    for step in steps:
        images, labels = loader.batch(step)
        images2, labels2 = on_device.batch(step)
        assert (images2.dtype, labels2.dtype) == (jnp.float32, jnp.uint8)
        wrong = np.abs(images - np.asarray(images2)) > 1e-5 * np.ptp(images)
        # a place may round to the other side of a border: fill instead of image, or a neighbour
        assert wrong.mean() <= 1e-4, wrong.mean()
        assert (labels != np.asarray(labels2)).mean() <= 1e-4


KINDS = [
    kind
    for kind in map(registry("transform").get, registry("transform").names())
    if kind.__module__.startswith("segjax.")  # tests register others
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_transform_gives_the_batch_of_the_loader(kind):
    """In 2D: every patch transformed, some of them, none of them."""
    transform = kind()
    for probability, steps in ((1.0, range(2)), (0.5, range(2))):
        some = dataclasses.replace(transform, probability=probability)
        assert_agree(make_loader([some], 2, seed=2), steps)


def test_all_transforms_together_give_the_batch_of_the_loader_in_3d():
    some = [kind(probability=0.4) for kind in KINDS]
    assert_agree(make_loader(some, 3, channels=2), range(3))


def test_spatial_transforms_interpolate_equally_often_on_host_and_device():
    """Whatever is drawn of them, and whatever of what lies between."""
    often = {"probability": 0.5}
    transforms = (
        augment.Affine(**often),
        augment.Noise(**often),
        augment.Affine(**often),
        augment.Elastic(**often),
        augment.Affine(**often),
        augment.Affine(fill=0.0, **often),
    )
    assert rows(transforms) == [slice(0, 1), slice(1, 2), slice(2, 4), slice(4, 5), slice(5, 6)]
    assert_agree(make_loader(transforms, 2, batch_size=12), range(3))


def test_patches_larger_than_cases_are_padded_with_zeros():
    cases = [smooth_case(0, (9, 30)), smooth_case(1, (30, 11))]
    loader = Loader(cases, Sampling((16, 16), 3, patches_per_case=6))
    on_device = ResidentLoader(loader)
    for step in range(2 * loader.steps_per_epoch):
        for a, b in zip(loader.batch(step), on_device.batch(step), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("foreground", [0.0, 1.0])
def test_ignored_voxels_stay_ignored_and_are_never_drawn_for_foreground(foreground):
    case = smooth_case(0, (40, 40))
    case.label[:] = IGNORED
    case.label[20, 30] = 1
    transforms = (augment.Flip((0, 1)), augment.Affine(), augment.Anisotropy(scalars_only=False))
    loader = Loader([case], Sampling((8, 8), 3, foreground), augment=transforms)
    on_device = ResidentLoader(loader)
    for step in range(5):
        labels = np.asarray(on_device.batch(step)[1])
        assert (labels != loader.batch(step)[1]).mean() <= 1e-2
        assert set(np.unique(labels).tolist()) <= {0, 1, IGNORED}
        assert (labels == IGNORED).any()
    if foreground:
        plain = ResidentLoader(Loader([case], loader.sampling))
        assert all((plain.batch(s)[1] == 1).any((1, 2)).all() for s in range(5))


def test_slices_of_volumes_are_cut():
    loader = Loader([smooth_case(0, (12, 10, 8))], Sampling((8, 8, 1), 3))
    for a, b in zip(loader.batch(5), ResidentLoader(loader).batch(5), strict=True):
        np.testing.assert_array_equal(a, b)


def test_slices_of_long_voxels_are_augmented_as_by_the_loader():
    grids = [Grid((14, 16, 8), np.diag([*spacing, 1.0])) for spacing in ((0.7, 1, 3), (1, 2, 2))]
    cases = [
        dataclasses.replace(smooth_case(i, grid.shape), grids=(grid,))
        for i, grid in enumerate(grids)
    ]
    transforms = (augment.Affine(), augment.Elastic(probability=0.5), augment.Blur((1.0, 1.0)))
    assert_agree(Loader(cases, Sampling((10, 12, 1), 4), augment=transforms), range(2))


def test_transform_without_parameters_is_applied_to_all_of_a_batch_or_refused():
    chain, images, labels = (Doubling(),), jnp.ones((2, 3, 1)), jnp.zeros((2, 3), int)
    for drawn, factor in (({}, 2), (None, 1)):
        stacked = stack_parameters(chain, [[drawn], [drawn]], (3, 1))
        np.testing.assert_array_equal(
            augment_batch(chain, *stacked, images, labels)[0], factor * images
        )
    with pytest.raises(InputError, match="doubling: draws no parameters"):
        stack_parameters(chain, [[{}], [None]], (3, 1))


class Counting(Noise):
    """Count how often the transform is traced."""

    traces = 0

    def apply(self, image, parameters, xp):
        Counting.traces += 1
        return super().apply(image, parameters, xp)


def test_one_program_serves_all_steps():
    transforms = (augment.Affine(probability=0.5), Counting(probability=0.3))
    on_device = ResidentLoader(make_loader(transforms, 2))
    Counting.traces = 0
    for step in range(20):
        on_device.batch(step)
    assert Counting.traces == 1


def test_batches_can_be_made_ahead():
    loader = make_loader((augment.Noise(),), 2)
    on_device = ResidentLoader(loader)
    assert on_device.steps_per_epoch == loader.steps_per_epoch
    batches = list(prefetch(on_device, range(2, 6)))
    for step, (images, _) in zip(range(2, 6), batches, strict=True):
        np.testing.assert_array_equal(images, on_device.batch(step)[0])


def test_memory_is_that_of_the_padded_cases():
    loader = make_loader((), 3, channels=2)
    # 24 × 26 × 30 voxels, 4 more in front of the one of 12, of two float32 and a uint8
    assert ResidentLoader(loader).nbytes == 3 * (24 + 4) * 26 * 30 * 9


def test_cases_that_take_too_much_memory_are_refused(monkeypatch):
    loader = make_loader((), 3)
    needed = ResidentLoader(loader).nbytes
    monkeypatch.setattr(resident, "device_bytes", lambda device: (2 * needed - 1, "GPU"))
    with pytest.raises(InputError, match=r"3 training cases take .* GB .*28 × 26 × 30 .* 50%"):
        ResidentLoader(loader)
    assert ResidentLoader(loader, fraction=0.6).nbytes == needed
    monkeypatch.setattr(resident, "device_bytes", lambda device: None)
    assert ResidentLoader(loader).nbytes == needed
    with pytest.raises(InputError, match="fraction 0 of the memory"):
        ResidentLoader(loader, fraction=0)


@dataclasses.dataclass(frozen=True)
class Mixing(IntensityTransform):
    """Mix the planes of an image by a product that asks for no precision."""

    name: ClassVar[str] = "mixing-of-planes"

    def identity(self, shape):
        return {"matrix": np.eye(shape[0], dtype=np.float32)}

    def parameters(self, rng, shape):
        return self.identity(shape)

    def apply(self, image, parameters, xp):
        return xp.einsum("wx,x...->w...", parameters["matrix"], image)


def test_products_of_matrices_are_exact_on_a_gpu_and_stay_there():
    loader = make_loader([*(kind() for kind in KINDS), Mixing()], 3)
    drawn = [draw.parameters for draw in loader.draw(0)]
    stacked, _ = stack_parameters(loader.augment, drawn, (*PATCHES[3], loader.channels))
    everything = np.ones(len(drawn[0]), bool)
    program = jax.jit(
        lambda drawn, *batch: augment_batch(loader.augment, drawn, everything, *batch)
    )
    traced = program.trace(stacked, *loader.batch(0))
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    products = re.findall(r".*stablehlo.(?:dot_general|convolution).*", text)
    assert len(products) > 3
    assert [line for line in products if line.count("HIGHEST") != 2] == []
    assert not re.findall(r"f64|callback|outfeed|stablehlo.(?:if|case|while)", text)


class ForNumPyAlone(Noise):
    """Leave the array namespace out, as a transform of someone else may."""

    def apply(self, image, parameters, xp):
        return np.sort(image)


@pytest.mark.parametrize(
    ("transform", "reason"),
    [
        (ForNumPyAlone(), "not kept on the device: The numpy.ndarray conversion method"),
        (Doubling(probability=0.5), "not kept on the device: doubling: draws no parameters"),
    ],
)
def test_transforms_that_cannot_run_on_a_device_leave_the_cases_on_the_host(
    transform, reason, monkeypatch, capsys
):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    loader = make_loader((transform,), 2)
    assert keep_on_devices(loader, jax.local_devices()[:1]) == {}
    assert f"training cases: {reason}" in capsys.readouterr().err
    with pytest.raises((InputError, TypeError)):
        keep_on_devices(loader, jax.local_devices()[:1], wanted=True)


def test_cases_are_kept_on_a_device_that_does_not_tell_its_memory_only_where_that_is_wanted(
    monkeypatch, capsys
):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(resident, "device_bytes", lambda device: None)
    loader, devices = make_loader((), 2), jax.local_devices()[:1]
    assert keep_on_devices(loader, devices) == {}
    assert "does not tell how much memory" in capsys.readouterr().err
    assert list(keep_on_devices(loader, devices, wanted=True)) == devices


def test_what_lies_on_a_device_already_counts(monkeypatch):
    loader = make_loader((), 3)
    needed = ResidentLoader(loader).nbytes
    monkeypatch.setattr(resident, "device_bytes", lambda device: (4 * needed, "GPU"))
    monkeypatch.setattr(resident, "taken_bytes", lambda device: needed)
    assert ResidentLoader(loader).nbytes == needed
    monkeypatch.setattr(resident, "taken_bytes", lambda device: needed + 1)
    with pytest.raises(InputError, match=r"50% of its .* GB, where .* GB are taken: crop"):
        ResidentLoader(loader)
