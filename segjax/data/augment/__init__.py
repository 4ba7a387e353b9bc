"""Random changes of images for training: parameters drawn apart from being applied."""

from segjax.data.augment.affine import Affine
from segjax.data.augment.anisotropy import Anisotropy
from segjax.data.augment.bias_field import BiasField
from segjax.data.augment.blur import Blur
from segjax.data.augment.contrast import Contrast
from segjax.data.augment.elastic import Elastic
from segjax.data.augment.flip import Flip
from segjax.data.augment.gamma import Gamma
from segjax.data.augment.ghosting import Ghosting
from segjax.data.augment.motion import Motion
from segjax.data.augment.noise import Noise
from segjax.data.augment.scale_intensity import ScaleIntensity
from segjax.data.augment.spike import Spike
from segjax.data.augment.transform import (
    IntensityTransform,
    Parameters,
    SpatialTransform,
    Transform,
    apply_all,
    augment_patch,
    draw_all,
)

__all__ = [
    "Affine",
    "Anisotropy",
    "BiasField",
    "Blur",
    "Contrast",
    "Elastic",
    "Flip",
    "Gamma",
    "Ghosting",
    "IntensityTransform",
    "Motion",
    "Noise",
    "Parameters",
    "ScaleIntensity",
    "SpatialTransform",
    "Spike",
    "Transform",
    "apply_all",
    "augment_patch",
    "draw_all",
]
