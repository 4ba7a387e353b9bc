"""Ghosts."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import chisquare

from segjax.data.augment import Ghosting
from segjax.errors import InputError
from tests.data.augment.peers import (
    assert_close,
    assert_libraries_agree,
    assert_same_law,
    through_torchio,
)
from tests.peers import torch, torchio


def peer_ghosting(parameters):
    return torchio.Ghosting(
        num_ghosts=int(parameters["num_ghosts"]),
        axis=int(parameters["axis"]),
        intensity=float(parameters["intensity"]),
        restore=float(parameters["restore"]) if "restore" in parameters else None,
    )


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("restore", [None, (0.0, 1.0)])
@pytest.mark.parametrize("seed", range(3))
def test_equal_parameters_give_torchios_image(any_image, restore, seed):
    ghosting = Ghosting(num_ghosts=(1, 10), restore=restore, probability=1.0)
    parameters = ghosting.draw(np.random.default_rng(seed), any_image.shape)
    expected = through_torchio(any_image, peer_ghosting(parameters))
    assert_close(ghosting.apply(any_image, parameters, np), expected)


@pytest.mark.peer("torchio")
def test_parameters_follow_the_law_of_torchio():
    rng, ghosting = np.random.default_rng(0), Ghosting(restore=(0.2, 0.5), probability=1.0)
    torch.manual_seed(0)
    peer = torchio.RandomGhosting(restore=(0.2, 0.5))
    ranges = (4, 10), peer.axes, peer.intensity_range, peer.restore
    theirs = np.array([peer.get_params(*ranges) for _ in range(3_000)])
    drawn = [ghosting.draw(rng, (4, 4, 4, 1)) for _ in range(3_000)]
    ours = np.array([[d[k] for k in ("num_ghosts", "axis", "intensity", "restore")] for d in drawn])
    assert_same_law(ours, theirs)
    for column, values in ((0, range(4, 11)), (1, range(3))):
        assert chisquare([np.sum(ours[:, column] == value) for value in values]).pvalue > 0.005


@given(seed=st.integers(0, 2**31), shape=st.sampled_from([(5, 9, 2), (7, 4, 3, 1), (1, 6, 5, 2)]))
@settings(max_examples=15, deadline=None)
def test_numpy_and_jax_agree(seed, shape):
    restore = None if seed % 2 else (0.0, 1.0)
    ghosting = Ghosting(num_ghosts=(0, 5), restore=restore, probability=1.0)
    assert_libraries_agree(ghosting, shape, seed)


def test_two_ghosts_of_full_intensity_repeat_the_image_at_half_its_width():
    image = np.zeros((16, 4, 1), np.float32)
    image[4, 2] = 1
    parameters = {"num_ghosts": 2, "axis": 0, "intensity": 1.0}
    result = Ghosting().apply(image, parameters, np)[:, 2, 0]
    # the planes left are every second one, which repeat, and the mean of all
    expected = np.full(16, 1 / 16)
    expected[[4, 12]] += 0.5, -0.5
    np.testing.assert_allclose(result, expected, atol=1e-6)


@given(
    seed=st.integers(0, 2**31), axis=st.integers(0, 1), ghosts=st.integers(1, 6), odd=st.booleans()
)
@settings(max_examples=20, deadline=None)
def test_ghosts_commute_with_flips(seed, axis, ghosts, odd):
    image = np.random.default_rng(seed).random((12 + odd, 9, 1)).astype(np.float32)
    parameters = {"num_ghosts": ghosts, "axis": axis, "intensity": 0.8}
    result = Ghosting().apply(np.flip(image, axis), parameters, np)
    assert_close(np.flip(result, axis), Ghosting().apply(image, parameters, np))


@pytest.mark.parametrize("nothing", [{"num_ghosts": 0}, {"intensity": 0.0}])
def test_no_ghosts_or_no_intensity_change_nothing(nothing):
    image = np.random.default_rng(0).random((6, 5, 1)).astype(np.float32)
    parameters = {"num_ghosts": 3, "axis": 1, "intensity": 0.7} | nothing
    assert_close(Ghosting().apply(image, parameters, np), image)


def test_only_axes_that_the_image_has_are_drawn():
    rng = np.random.default_rng(0)
    ghosting = Ghosting(axes=(1, 2), probability=1.0)
    assert {int(ghosting.draw(rng, (4, 4, 1))["axis"]) for _ in range(50)} == {1}
    with pytest.raises(InputError, match=r"ghosting: axes \(2,\) are none of the 2 spatial axes"):
        Ghosting(axes=(2,)).draw(rng, (4, 4, 1))


def test_axis_of_one_voxel_is_never_drawn():
    ghosting, rng = Ghosting(probability=1.0), np.random.default_rng(0)
    assert {int(ghosting.draw(rng, (4, 1, 5, 1))["axis"]) for _ in range(50)} == {0, 2}
    with pytest.raises(
        InputError, match=r"axes \(1,\) are none of the 2 spatial axes over one voxel"
    ):
        Ghosting(axes=(1,)).draw(rng, (4, 1, 5, 1))


@pytest.mark.parametrize(
    "options",
    [
        {"num_ghosts": (-1, 3)},
        {"axes": ()},
        {"axes": (0, 0)},
        {"intensity": (-1.0, 0.0)},
        {"restore": (0.5, 1.5)},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=f"ghosting: {next(iter(options))} "):
        Ghosting(**options)
