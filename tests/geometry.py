"""Affines, volumes and images of SimpleITK for tests of where voxels lie."""

import numpy as np
import SimpleITK as sitk  # noqa: N813
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from segjax.volume import Volume

ORIENTATIONS = ["RAS", "LPS", "LAS", "SPL", "AIR", "PIR"]

LPS = np.diag([-1.0, -1.0, 1.0])


def rigid(angles=(10, -25, 40), spacing=(0.5, 1.0, 3.0), origin=(-80, 12.5, 33), flips=(1, 1, 1)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing * flips
    affine[:3, 3] = origin
    return affine


@st.composite
def affines(draw, shear=0.3):
    """Draw oblique, flipped, anisotropic, permuted and (mildly) sheared affines."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    affine = rigid(rng.uniform(-180, 180, 3), rng.uniform(0.3, 4, 3), rng.uniform(-100, 100, 3))
    upper = np.eye(3) + np.triu(rng.uniform(-shear, shear, (3, 3)), 1)
    affine[:3, :3] = affine[:3, :3] @ upper @ np.diag(rng.choice([-1, 1], 3))
    return affine


shapes = st.tuples(*[st.integers(1, 7)] * 3)


seeds = st.integers(0, 2**32 - 1)


def noise(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).uniform(0, 100, shape).astype(dtype)


def to_sitk(volume):
    """Give an image of SimpleITK its real geometry."""
    image = sitk.GetImageFromArray(volume.data.T)
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((LPS @ volume.affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((LPS @ volume.affine[:3, 3]).tolist())
    return image


def from_sitk(image):
    affine = np.eye(4)
    direction = np.reshape(image.GetDirection(), (3, 3))
    affine[:3, :3] = LPS @ direction * image.GetSpacing()
    affine[:3, 3] = LPS @ image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image).T, affine)


def centres(volume, index):
    return (volume.affine @ np.append(index, 1))[:-1]


def image_range(volume):
    return float(volume.data.max() - volume.data.min())
