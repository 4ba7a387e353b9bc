"""Random changes of images for training: parameters drawn apart from being applied."""

from segjax.data.augment.flip import Flip
from segjax.data.augment.gamma import Gamma
from segjax.data.augment.noise import Noise
from segjax.data.augment.registry import from_json, names, to_json
from segjax.data.augment.scale_intensity import ScaleIntensity
from segjax.data.augment.transform import Transform, augment_patch

__all__ = [
    "Flip",
    "Gamma",
    "Noise",
    "ScaleIntensity",
    "Transform",
    "augment_patch",
    "from_json",
    "names",
    "to_json",
]
