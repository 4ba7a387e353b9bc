"""Elastic deformations, compared with TorchIO."""

import numpy as np
import pytest
from scipy.stats import kstest

from segjax.data.augment import Affine, Elastic, apply_all, draw_all
from segjax.data.augment.affine import affine_matrix
from segjax.data.io.nifti import read_nifti
from segjax.errors import InputError
from tests.data.augment.torchio_pair import from_subject, to_subject
from tests.peers import torch, torchio

SPACING = (1.0, 2.0, 0.5)


def as_torchio(points):
    """Return control points as TorchIO has them: LPS axes, a third axis in 2D too."""
    if len(points) == 2:
        layers = np.repeat(points[..., None], points.shape[1], axis=-1)
        points = np.concatenate([layers, np.zeros_like(layers[:1])])
    return np.moveaxis(np.flip(points, (1, 2)), 0, -1) * np.array([-1, -1, 1])


def in_voxels(points, spacing):
    return points / np.array(spacing, np.float32).reshape((-1,) + (1,) * len(spacing))


def check(result, expected, label, expected_label):
    assert np.abs(result - expected).max() <= 1e-5 * np.ptp(expected)
    assert (label != expected_label).mean() < 1e-4  # ties of rounding


def pair(shape, seed):
    rng = np.random.default_rng(seed)
    return rng.random((*shape, 2), np.float32), rng.integers(0, 4, shape).astype(np.uint8)


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("shape", [(20, 24, 17), (41, 30), (7, 9, 2)])
def test_equal_parameters_give_torchios_image(shape):
    image, label = pair(shape, 0)
    spacing = SPACING[: len(shape)]
    elastic = Elastic(control_points=6, max_displacement=(3.0,), spacing=spacing)
    points = elastic.sample(np.random.default_rng(1), image.shape)
    peer = torchio.ElasticDeformation(as_torchio(points), (3.0, 3.0, 3.0))
    expected = from_subject(peer(to_subject(image, label, spacing)), len(shape))
    parameters = {"control_points": in_voxels(points, spacing)}
    result = elastic.apply(image, parameters, np), elastic.apply_label(label, parameters, np)
    check(result[0], expected[0], result[1], expected[1])


@pytest.mark.peer("torchio")
@pytest.mark.parametrize(("shape", "flat"), [((20, 24, 1), 2), ((20, 1, 17), 1), ((1, 24, 17), 0)])
def test_slices_of_long_voxels_are_bent_in_millimetres_as_by_torchio(shape, flat):
    image, label = pair(shape, 0)
    elastic, spacing = Elastic(control_points=6, max_displacement=(3.0,)), (0.8, 1.0, 4.0)
    (parameters,) = draw_all(np.random.default_rng(1), image.shape, [elastic], spacing=spacing)
    drawn = np.random.default_rng(1)
    drawn.random()  # whether it is applied
    points = elastic.sample(drawn, image.shape)
    assert points.shape[1 + flat] == 1
    assert not points[flat].any()
    mesh = np.repeat(points, 6, axis=1 + flat)
    peer = torchio.ElasticDeformation(as_torchio(mesh), (3.0, 3.0, 3.0))
    expected = from_subject(peer(to_subject(image, label, spacing)), 3)
    result = elastic.apply(image, parameters, np), elastic.apply_label(label, parameters, np)
    check(result[0], expected[0], result[1], expected[1])


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("shape", [(20, 24, 17), (41, 30)])
def test_affine_and_elastic_together_give_torchios_single_interpolation(shape):
    image, label = pair(shape, 2)
    spacing, rank = SPACING[: len(shape)], len(shape)
    affine = Affine((0.8, 1.2), (-20, 20), (-3, 3), spacing=spacing)
    elastic = Elastic(control_points=6, max_displacement=(3.0,), spacing=spacing)
    rng = np.random.default_rng(1)
    scales, degrees, translation = affine.sample(rng, image.shape)
    points = elastic.sample(rng, image.shape)
    movement = {
        "scales": [*scales.tolist(), 1.0][:3],
        "degrees": degrees.tolist() if rank == 3 else [0.0, 0.0, float(degrees[0])],
        "translation": [*translation.tolist(), 0.0][:3],
    }
    bend = {"control_points": as_torchio(points), "max_displacement": (3.0, 3.0, 3.0)}
    both = torchio.transforms.augmentation.spatial.random_affine_elastic_deformation
    peer = both.AffineElasticDeformation(
        affine_first=True, affine_params=movement, elastic_params=bend
    )
    expected = from_subject(peer(to_subject(image, label, spacing)), rank)
    parameters = [
        {"matrix": affine_matrix(scales, degrees, translation, spacing=spacing)},
        {"control_points": in_voxels(points, spacing)},
    ]
    result = apply_all([affine, elastic], parameters, image, label, np)
    check(result[0], expected[0], result[1], expected[1])


@pytest.mark.peer("torchio")
def test_equal_parameters_give_torchios_image_of_a_head(data_dir):
    folder = data_dir / "ms_lesions/patient07"
    crop = np.s_[40:140, 60:160, 50:130]
    image = read_nifti(folder / "flair.nii.gz").channels_last[crop].astype(np.float32)
    label = read_nifti(folder / "lesions.nii.gz").data[crop].astype(np.uint8)
    elastic = Elastic()
    points = elastic.sample(np.random.default_rng(0), image.shape)
    peer = torchio.ElasticDeformation(as_torchio(points), (7.5, 7.5, 7.5))
    expected = from_subject(peer(to_subject(image, label, (1.0, 1.0, 1.0))), 3)
    parameters = {"control_points": points}
    result = elastic.apply(image, parameters, np), elastic.apply_label(label, parameters, np)
    check(result[0], expected[0], result[1], expected[1])


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("locked", [0, 1, 2])
def test_control_points_follow_the_law_of_torchio(locked):
    elastic, peer = Elastic(locked_borders=locked), torchio.RandomElasticDeformation()
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    shape = peer.num_control_points, peer.max_displacement, locked
    drawn = np.array([elastic.sample(rng, (9, 9, 9, 1))[:, 3, 2, 4] for _ in range(3334)]).ravel()
    expected = np.array([peer.get_params(*shape)[3, 2, 4] for _ in range(3334)]).ravel()
    assert kstest(drawn, expected).pvalue > 0.01
    moved = np.any(elastic.sample(rng, (9, 9, 9, 1)) != 0, axis=0)
    theirs = np.any(peer.get_params(*shape) != 0, axis=-1)
    middle = (slice(None), slice(None), slice(locked, 7 - locked))  # its third axis is not locked
    np.testing.assert_array_equal(moved[middle], theirs[middle])
    assert moved.sum() == (7 - 2 * locked) ** 3


def test_drawn_control_points_are_in_voxels():
    rngs = [np.random.default_rng(0) for _ in range(2)]
    fine, coarse = Elastic(spacing=(1, 1)), Elastic(spacing=(1, 4))
    points, fewer = (e.draw(r, (9, 9, 1)) for e, r in zip((fine, coarse), rngs, strict=True))
    expected = points["control_points"] / np.array([1, 4], np.float32)[:, None, None]
    np.testing.assert_allclose(fewer["control_points"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"control_points": 3, "locked_borders": 0}, "give 4 or more"),
        ({"control_points": 4}, "give 5 or more"),
        ({"locked_borders": 3}, "give 0, 1 or 2"),
        ({"max_displacement": (-1.0,)}, "max_displacement"),
        ({"max_displacement": ()}, "max_displacement"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Elastic(**fields)


def test_displacements_for_another_rank_are_refused_when_drawing():
    with pytest.raises(InputError, match="each of the 3 axes"):
        Elastic(max_displacement=(1.0, 2.0)).draw(np.random.default_rng(0), (8, 8, 8, 1))
