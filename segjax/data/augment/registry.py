"""Transforms by name: to JSON and back."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from segjax.data.augment.affine import Affine
from segjax.data.augment.anisotropy import Anisotropy
from segjax.data.augment.bias_field import BiasField
from segjax.data.augment.blur import Blur
from segjax.data.augment.elastic import Elastic
from segjax.data.augment.flip import Flip
from segjax.data.augment.gamma import Gamma
from segjax.data.augment.ghosting import Ghosting
from segjax.data.augment.motion import Motion
from segjax.data.augment.noise import Noise
from segjax.data.augment.scale_intensity import ScaleIntensity
from segjax.data.augment.spike import Spike
from segjax.data.augment.transform import Transform
from segjax.errors import InputError

_TRANSFORMS: dict[str, type[Any]] = {
    transform.name: transform
    for transform in (
        Affine,
        Anisotropy,
        BiasField,
        Blur,
        Elastic,
        Flip,
        Gamma,
        Ghosting,
        Motion,
        Noise,
        ScaleIntensity,
        Spike,
    )
}


def names() -> tuple[str, ...]:
    """Return the names of the transforms, as JSON writes them.

    Example:
        >>> names()[:3]
        ('affine', 'anisotropy', 'bias-field')
    """
    return tuple(sorted(_TRANSFORMS))


def to_json(transforms: Iterable[Transform]) -> list[dict[str, Any]]:
    """Turn transforms into values that ``json`` can write.

    Args:
        transforms: Transforms of this package.

    Returns:
        One object per transform: its name under ``"transform"``, then its fields.

    Example:
        >>> to_json([Flip(axes=(0, 1))])
        [{'transform': 'flip', 'axes': [0, 1], 'probability': 0.5}]
    """
    return [{"transform": t.name, **_plain(asdict(t))} for t in transforms]  # type: ignore[call-overload]


def from_json(steps: Iterable[Mapping[str, Any]]) -> tuple[Transform, ...]:
    """Make the transforms that :func:`to_json` described; fields left out have their defaults.

    Args:
        steps: One object per transform.

    Returns:
        The transforms.

    Raises:
        InputError: Where a name, a field or a value is none that the transform knows.

    Example:
        >>> from_json([{"transform": "flip", "axes": [0, 1]}])
        (Flip(axes=(0, 1), probability=0.5),)
    """
    return tuple(_from_json(step) for step in steps)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def _from_json(step: Mapping[str, Any]) -> Transform:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(step).items()}
    name = values.pop("transform", None)
    if name not in _TRANSFORMS:
        raise InputError(f"unknown transform {name!r}: known are {', '.join(names())}")
    known = [field.name for field in fields(_TRANSFORMS[name])]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(f"{name}: unknown field '{unknown[0]}': known are {', '.join(known)}")
    try:
        return _TRANSFORMS[name](**values)
    except TypeError as error:
        raise InputError(f"{name}: {step} cannot be understood: {error}") from error
