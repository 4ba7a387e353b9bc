"""The augmentations of the two studies, by name."""

from segjax.data.augment.affine import Affine
from segjax.data.augment.bias_field import BiasField
from segjax.data.augment.elastic import Elastic
from segjax.data.augment.flip import Flip
from segjax.data.augment.gamma import Gamma
from segjax.data.augment.motion import Motion
from segjax.data.augment.noise import Noise
from segjax.data.augment.scale_intensity import ScaleIntensity
from segjax.data.augment.transform import Transform
from segjax.errors import InputError

_RECIPES: dict[str, tuple[Transform, ...]] = {
    "meningioma-2d": (
        Affine(),
        Elastic(),
        Noise(std=(0.0, 0.25), probability=0.25),
        ScaleIntensity(factor=(0.7, 1.3), probability=0.25),
        Motion(probability=0.05),
        BiasField(probability=0.2),
    ),
    "ms-7t": (
        Flip(axes=(0,)),
        Affine(),
        Elastic(),
        Gamma(probability=0.25),
        Noise(std=(0.0, 0.1), probability=0.25),
        BiasField(probability=0.2),
        Motion(probability=0.05),
    ),
}


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes.

    Example:
        >>> recipe_names()
        ('meningioma-2d', 'ms-7t')
    """
    return tuple(_RECIPES)


def recipe(name: str) -> tuple[Transform, ...]:
    """Return the transforms of a study, in order.

    ``meningioma-2d`` is what that study states: affine and elastic always, noise and ±30 % of
    intensity with probability 0.25, motion 0.05, bias field 0.2; bounds that it leaves open are
    TorchIO's defaults. Of ``ms-7t`` the study says that it augments, not how: the recipe is ours,
    with TorchIO's defaults as bounds, for intensities of about 0 to 1.

    Args:
        name: One of :func:`recipe_names`.

    Raises:
        InputError: There is no such recipe.

    Example:
        >>> [transform.name for transform in recipe("meningioma-2d")][:2]
        ['affine', 'elastic']
    """
    if name not in _RECIPES:
        raise InputError(f"unknown recipe {name!r}: known are {', '.join(_RECIPES)}")
    return _RECIPES[name]
