"""The trainings of the two studies, by name."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from segjax.data.augment.recipes import recipe
from segjax.data.prepare import presets as preprocessing
from segjax.errors import InputError
from segjax.train.config import OptimizerConfig, TrainConfig
from segjax.train.losses import Loss, Term

__all__ = ["Preset", "names", "preset"]

_OF_THE_DATA = ("in_channels", "labels", "name")


@dataclass(frozen=True)
class Preset:
    """A training as a study describes it.

    Attributes:
        config: Its configuration, for images of one channel with one kind of lesion.
        validation: Fraction of the cases to validate on.
    """

    config: TrainConfig
    validation: float

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration as settings for :func:`segjax.workflow.plan`.

        What the data decide (channels and labels) and the name are left out.
        """
        values = self.config.to_json()
        return {name: value for name, value in values.items() if name not in _OF_THE_DATA}


def names() -> tuple[str, ...]:
    """Return the names of all presets, which are those of their preprocessing.

    Example:
        >>> names()
        ('ms-7t', 'ms-7t-released', 'meningioma-2d')
    """
    return tuple(_PRESETS)


def preset(name: str, *, model: str | None = None, brain: str | None = None) -> Preset:
    """Return the training of a study.

    ``"meningioma-2d"``: a 2D U-Net of kernel 3, 5, 7 or 9 (``unet2d-k5`` where none is named: the
    best of the study) with dropout 0.3 on whole slices of 512 × 512; Tversky loss with α = β = 0.5;
    a stop after 5 epochs without a better validation Dice; 120 of 602 images to validate on. With
    the 106 test images of the study, 708 in all, take 120 / 708 and ``test=106 / 708``. Chosen by
    us, not from the study: AdamW at a constant rate of 1e-3, since a schedule would have to know
    when the training stops; batches of 8; at most 100 epochs; gradients clipped to norm 1.

    ``"ms-7t"``: MPU-Net++ or the 3D U-Net of 1.7 M parameters on patches of 64³; Dice loss; 12 of
    46 patients to validate on. Chosen by us, not from the study: AdamW on one cycle with a peak of
    1e-2 for MPU-Net++ and 1e-3 for the U-Net; batches of 2; 4 patches of each patient in an epoch,
    half of them around a lesion; 100 epochs; a validation every 5; gradients clipped to norm 1.
    Windows overlap by 16 voxels, as in the inference code that the authors released.

    ``"ms-7t-released"`` is the same training on images preprocessed as in that code.

    Preprocessing is that of :func:`segjax.data.prepare.presets.preset`, augmentation that of
    :func:`segjax.data.augment.recipes.recipe`; both say what they assume.

    Args:
        name: One of :func:`names`.
        model: Another network of the study.
        brain: Another method of brain extraction, see :func:`segjax.data.prepare.presets.preset`.

    Raises:
        InputError: There is no preset of the name, or the network or the method does not belong
            to it.

    Example:
        >>> preset("ms-7t", model="unet3d").config.optimizer.learning_rate
        0.001
    """
    if name not in _PRESETS:
        raise InputError(f"no preset is named '{name}': choose {', '.join(_PRESETS)}")
    make, models = _PRESETS[name]
    model = models[0] if model is None else model
    if model not in models:
        raise InputError(f"preset '{name}' is for {', '.join(models)}: model {model} has no place")
    made = make(model)
    pipeline = preprocessing.preset(name, brain=brain)
    return dataclasses.replace(made, config=dataclasses.replace(made.config, pipeline=pipeline))


def _meningioma_2d(model: str) -> Preset:
    config = TrainConfig(
        model,
        (512, 512),
        labels=("background", "meningioma"),
        dropout=0.3,
        batch_size=8,
        foreground=0.0,
        epochs=100,
        optimizer=OptimizerConfig(1e-3, schedule="constant"),
        loss=Loss((Term("tversky", alpha=0.5),)),
        augment=recipe("meningioma-2d"),
        patience=5,
    )
    return Preset(config, validation=120 / 602)


def _ms_7t(model: str) -> Preset:
    config = TrainConfig(
        model,
        (64, 64, 64),
        batch_size=2,
        patches_per_case=4,
        overlap=0.25,
        epochs=100,
        optimizer=OptimizerConfig(1e-2 if model == "mpunet++" else 1e-3),
        loss=Loss((Term("dice"),)),
        augment=recipe("ms-7t"),
        validate_every=5,
    )
    return Preset(config, validation=12 / 46)


_MS_MODELS = ("mpunet++", "unet3d")
_PRESETS: dict[str, tuple[Callable[[str], Preset], tuple[str, ...]]] = {
    "ms-7t": (_ms_7t, _MS_MODELS),
    "ms-7t-released": (_ms_7t, _MS_MODELS),
    "meningioma-2d": (_meningioma_2d, ("unet2d-k5", "unet2d-k3", "unet2d-k7", "unet2d-k9")),
}
