"""Motion."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from segjax.data.augment import Motion
from segjax.data.augment.motion import motion_matrices
from segjax.errors import InputError
from tests.data.augment.peers import assert_close, assert_libraries_agree, assert_same_law
from tests.peers import torch, torchio


def through_torchio(image, degrees, translation, times, spacing):
    """Move an image; the origin of world space, about which TorchIO turns, lies at its centre.

    A slice is handed over as a sagittal one, so that k-space is cut along its second axis. Seen
    so, the axes run to the back and up, and the angle is one about the first axis.
    """
    if image.ndim == 3:
        image = image[None]
        spacing = (1.0, *spacing)
        degrees = np.pad(-degrees, ((0, 0), (0, 2)))
        translation = np.pad(translation * (1, -1), ((0, 0), (1, 0)))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(np.array(image.shape[:3]) - 1) / 2 * spacing
    peer = torchio.Motion(degrees, translation, times, "linear")
    tensor = torch.tensor(np.ascontiguousarray(np.moveaxis(image, -1, 0)))
    result = peer(torchio.ScalarImage(tensor=tensor, affine=affine)).numpy()
    return np.moveaxis(result, 0, -1)


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("num_transforms", [1, 2, 3])
def test_equal_movements_give_torchios_image(any_image, num_transforms):
    rank = any_image.ndim - 1
    spacing = (1.0, 2.0, 0.5)[:rank]
    motion = Motion(num_transforms=num_transforms)
    movements = motion.sample(np.random.default_rng(num_transforms), any_image.shape)
    degrees, translation, times = movements
    expected = through_torchio(any_image, *movements, spacing).reshape(any_image.shape)
    matrices = motion_matrices(degrees, translation, spacing=spacing)
    result = motion.apply(any_image, {"matrices": matrices, "times": times}, np)
    assert_close(result, expected)


@pytest.mark.peer("torchio")
def test_movements_follow_the_law_of_torchio():
    rng, motion = np.random.default_rng(0), Motion()
    torch.manual_seed(0)
    peer = torchio.RandomMotion()
    ranges = peer.degrees_range, peer.translation_range, 2
    ours = [
        np.concatenate([p.ravel() for p in motion.sample(rng, (9, 9, 9, 1))]) for _ in range(3_000)
    ]
    asked = [peer.get_params(*ranges) for _ in range(3_000)]
    theirs = [np.concatenate([d.ravel(), t.ravel(), times]) for times, d, t in asked]
    assert_same_law(ours, theirs)


@given(seed=st.integers(0, 2**31), shape=st.sampled_from([(5, 9, 2), (7, 4, 6, 1)]))
@settings(max_examples=10, deadline=None)
def test_numpy_and_jax_agree(seed, shape):
    motion = Motion(translation=(-1.0, 1.0), spacing=(0.7,) * (len(shape) - 1), probability=1.0)
    assert_libraries_agree(motion, shape, seed)


def test_movements_of_nothing_change_nothing():
    image = np.random.default_rng(0).random((6, 7, 9, 2)).astype(np.float32)
    still = Motion(degrees=(0.0, 0.0), translation=(0.0, 0.0), num_transforms=3, probability=1.0)
    parameters = still.draw(np.random.default_rng(0), image.shape)
    assert_close(still.apply(image, parameters, np), image)


def test_one_early_movement_leaves_all_but_the_first_planes_as_they_were():
    rng = np.random.default_rng(0)
    image = rng.random((6, 10, 1)).astype(np.float32)
    matrices = motion_matrices(np.zeros((1, 1)), np.array([[2.0, 0.0]]), spacing=(1.0, 1.0))
    parameters = {"matrices": matrices, "times": np.array([0.25], np.float32)}
    result = Motion(num_transforms=1).apply(image, parameters, np)
    # to the left by 2 is the first axis read from 2 before: rows 0 and 1 become the least value
    moved = np.concatenate([np.full((2, 10, 1), image.min()), image[:4]])
    planes = [np.fft.fftshift(np.fft.fft(a[..., 0]), axes=1) for a in (image, moved)]
    planes[0][:, :2] = planes[1][:, :2]
    expected = np.fft.ifft(np.fft.ifftshift(planes[0], axes=1)).real
    assert_close(result[..., 0], expected)


@pytest.mark.parametrize("flat", range(3))
def test_patient_moves_in_the_plane_of_a_slice(flat):
    shape = np.insert([6, 7], flat, 1).tolist()
    parameters = Motion(probability=1.0).draw(np.random.default_rng(0), (*shape, 1))
    matrices = parameters["matrices"]
    assert not matrices[:, flat].any()
    assert not matrices[:, :, flat].any()
    assert (matrices[:, np.arange(3) != flat, -1] != 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {"degrees": (1.0, -1.0)},
        {"num_transforms": 0},
        {"spacing": (-1.0,)},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="motion: "):
        Motion(**options)
