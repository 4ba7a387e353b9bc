"""Affine movements, compared with TorchIO."""

import numpy as np
import pytest
from scipy.stats import kstest

from segjax.data.augment import Affine, draw_all
from segjax.data.augment.affine import affine_matrix, rotation_matrix
from segjax.data.io.nifti import read_nifti
from segjax.data.io.png import read_png
from segjax.errors import InputError
from tests.data.augment.torchio_pair import from_subject, to_subject
from tests.peers import torch, torchio

VOLUMES = {2: (9, 9, 1), 3: (9, 9, 9, 1)}


def pad(values, fill):
    return [*map(float, values), *[fill] * (3 - len(values))]


def peer_affine(scales, degrees, translation):
    angles = list(map(float, degrees)) if len(degrees) == 3 else [0.0, 0.0, float(degrees[0])]
    return torchio.Affine(pad(scales, 1.0), angles, pad(translation, 0.0))


def check_against_torchio(image, label, spacing, seed):
    rank = image.ndim - 1
    affine = Affine((0.7, 1.3), (-40, 40), (-4, 4), spacing=spacing)
    movement = affine.sample(np.random.default_rng(seed), VOLUMES[rank])
    moved = peer_affine(*movement)(to_subject(image, label, spacing))
    expected, expected_label = from_subject(moved, rank)
    parameters = {"matrix": affine_matrix(*movement, spacing=spacing)}
    result = affine.apply(image, parameters, np)
    extent = float(np.ptp(image))
    assert np.abs(result - expected).max() <= 1e-5 * extent
    other = affine.apply_label(label, parameters, np) != expected_label
    assert other.mean() < 1e-4  # ties of rounding


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("shape", [(20, 24, 17), (41, 30), (5, 5, 5), (1, 9, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_equal_parameters_give_torchios_image(shape, seed):
    rng = np.random.default_rng(seed)
    image = rng.random((*shape, 2), dtype=np.float32)
    label = rng.integers(0, 4, shape).astype(np.uint8)
    check_against_torchio(image, label, (1.0, 2.0, 0.5)[: len(shape)], seed)


@pytest.mark.peer("torchio")
def test_equal_parameters_give_torchios_image_of_a_head(data_dir):
    image = read_nifti(data_dir / "ms_lesions/patient07/flair.nii.gz").channels_last
    label = read_nifti(data_dir / "ms_lesions/patient07/lesions.nii.gz").data.astype(np.uint8)
    check_against_torchio(image.astype(np.float32), label, (1.0, 1.0, 1.0), 0)


@pytest.mark.peer("torchio")
def test_equal_parameters_give_torchios_image_of_a_slice(data_dir):
    path = sorted((data_dir / "meningioma2d/images").iterdir())[0]
    image = read_png(path).channels_last.astype(np.float32)
    label = read_png(data_dir / "meningioma2d/labels" / path.name).data.astype(np.uint8)
    check_against_torchio(image, label, (1.0, 1.0), 0)


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("shape", [(20, 24, 17), (20, 24, 1), (20, 1, 17), (1, 24, 17), (20, 24)])
def test_volumes_and_slices_of_long_voxels_are_moved_in_millimetres_as_by_torchio(shape):
    rng, spacing = np.random.default_rng(0), (0.8, 1.0, 4.0)[: len(shape)]
    image = rng.random((*shape, 2), dtype=np.float32)
    label = rng.integers(0, 4, shape).astype(np.uint8)
    affine = Affine((0.7, 1.3), (-40, 40), (-4, 4))
    (parameters,) = draw_all(np.random.default_rng(1), image.shape, [affine], spacing=spacing)
    drawn = np.random.default_rng(1)
    drawn.random()  # whether it is applied
    moved = peer_affine(*affine.sample(drawn, image.shape))(to_subject(image, label, spacing))
    expected, expected_label = from_subject(moved, len(shape))
    result = affine.apply(image, parameters, np)
    assert np.abs(result - expected).max() <= 1e-5 * np.ptp(image)
    assert (affine.apply_label(label, parameters, np) != expected_label).mean() < 1e-3


@pytest.mark.parametrize("shape", [(9, 9, 9, 1), (9, 9, 1, 1), (9, 9, 1)])
def test_rotation_keeps_distances_between_long_voxels(shape):
    spacing = (0.5, 1.0, 3.0)[: len(shape) - 1]
    turn = Affine((1.0, 1.0), (-90.0, 90.0))
    (parameters,) = draw_all(np.random.default_rng(0), shape, [turn], spacing=spacing)
    rank, size = len(spacing), np.array(spacing)
    rotation = (parameters["matrix"][:, :-1] + np.eye(rank)) * size[:, None] / size
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(rank), atol=1e-6)
    assert np.abs(rotation - np.eye(rank)).max() > 0.1


def test_pair_of_the_slice_normal_bounds_the_turn_of_a_slice():
    affine = Affine(degrees=(5, 5, 6, 6, 7, 7), translation=(1, 1, 2, 2, 3, 3))
    for axis, (shape, shift) in enumerate(
        [((1, 9, 9, 1), [0, 2, 3]), ((9, 1, 9, 1), [1, 0, 3]), ((9, 9, 1, 1), [1, 2, 0])]
    ):
        scales, degrees, translation = affine.sample(np.random.default_rng(0), shape)
        assert np.flatnonzero(degrees).tolist() == [axis]
        assert degrees[axis] == 5 + axis
        assert translation.tolist() == shift
        assert np.flatnonzero(scales == 1).tolist() == [axis]


@pytest.mark.peer("torchio")
def test_movements_follow_the_law_of_torchio():
    affine, peer = Affine(translation=(-5, 5)), torchio.RandomAffine(translation=5)
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    ranges = peer.scales, peer.degrees, peer.translation
    drawn = np.array([np.concatenate(affine.sample(rng, VOLUMES[3])) for _ in range(3_000)])
    expected = np.array([np.concatenate(peer.get_params(*ranges, False)) for _ in range(3_000)])
    for ours, theirs in zip(drawn.T, expected.T, strict=True):
        assert kstest(ours, theirs).pvalue > 0.005


def test_one_factor_serves_all_axes_of_an_isotropic_scaling():
    scales, *_ = Affine(isotropic=True).sample(np.random.default_rng(0), VOLUMES[3])
    assert len(set(scales.tolist())) == 1


def test_bounds_may_differ_by_axis():
    affine = Affine(degrees=(0, 0, 0, 0, 5, 5), translation=(0, 0, 2, 2, 3, 3))
    _, degrees, translation = affine.sample(np.random.default_rng(0), VOLUMES[3])
    assert degrees.tolist() == [0, 0, 5]
    assert translation.tolist() == [0, 2, 3]


def test_rotation_is_proper_and_takes_x_to_y():
    turn = rotation_matrix(np.array([0, 0, 90], np.float32))
    np.testing.assert_allclose(turn @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    any_turn = rotation_matrix(np.array([10, 20, 30], np.float32))
    np.testing.assert_allclose(any_turn @ any_turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(any_turn) == pytest.approx(1)


def test_mirrored_image_under_mirrored_movement_gives_the_mirrored_result():
    image = np.random.default_rng(0).random((12, 13, 1)).astype(np.float32)
    matrix = affine_matrix(
        np.array([1.1, 0.9], np.float32), np.array([12], np.float32), np.zeros(2, np.float32),
        spacing=(1.0, 1.0),
    )  # fmt: skip
    mirrored = matrix * np.array([[1, -1, -1], [-1, 1, 1]], np.float32)
    once = Affine().apply(image[::-1], {"matrix": mirrored}, np)
    np.testing.assert_allclose(once[::-1], Affine().apply(image, {"matrix": matrix}, np), atol=1e-5)


def test_fill_may_be_a_number():
    shift = Affine((1, 1), (0, 0), (9, 9), fill=-3.0)
    image = np.ones((5, 5, 1), np.float32)
    parameters = shift.draw(np.random.default_rng(0), image.shape)
    assert (shift.apply(image, parameters, np) == -3).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scales": (1.1, 0.9)}, "affine: scales"),
        ({"scales": (0.0, 1.0)}, "affine: scales .* not under 0.001"),
        ({"degrees": (1.0,)}, "affine: degrees"),
        ({"translation": (0, float("nan"))}, "affine: translation"),
        ({"spacing": (1.0, 0.0)}, "affine: spacing"),
        ({"fill": float("inf")}, "affine: fill inf"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Affine(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"spacing": (1.0, 1.0)}, "spacing .* 3 axes"), ({"degrees": (0, 0) * 2}, "3 such pairs")],
)
def test_fields_of_another_rank_are_refused_when_drawing(fields, message):
    with pytest.raises(InputError, match=message):
        Affine(**fields).draw(np.random.default_rng(0), (4, 4, 4, 1))
