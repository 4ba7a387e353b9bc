"""The two studies that segjax reproduces: each is one :class:`Study`, as plain data.

Nothing here imports JAX, and nothing else of segjax before a study is put to use.

Example:
    >>> study("ms-7t").settings(model="unet3d")["optimizer"]
    {'learning_rate': 0.001}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from segjax.errors import InputError

if TYPE_CHECKING:
    from segjax.data.augment.transform import Transform
    from segjax.data.prepare.pipeline import Pipeline

__all__ = ["Study", "names", "study"]

_Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """What a study does to images, to patches and in training.

    Attributes:
        name: Its name.
        steps: Preprocessing, as :meth:`segjax.data.prepare.pipeline.Pipeline.to_json` writes it;
            fields that are left out have their defaults, here as below.
        transforms: Augmentation of the patches, in this order, as JSON.
        training: Other fields of a :class:`segjax.train.config.TrainConfig`, as JSON: all that
            :func:`segjax.train.plans.advice.advise` would decide otherwise.
        models: Networks that it compares, the one that is taken unasked first, and what is
            trained otherwise with each.
        validation: Fraction of the cases to validate on.
    """

    name: str
    steps: Sequence[_Settings] = field(repr=False)
    transforms: Sequence[_Settings] = field(repr=False)
    training: _Settings = field(repr=False)
    models: Mapping[str, _Settings]
    validation: float

    def pipeline(self, *, brain: str | None = None) -> "Pipeline":
        """Return the preprocessing; it has to be fitted where it standardises histograms.

        Args:
            brain: Another method of brain extraction: "hd-bet", "classical", "zero-background" or
                the path of an ONNX file.

        Raises:
            InputError: No brain is extracted and a method is given, or the method is unknown.

        Example:
            >>> [step.name for step in study("meningioma-2d").pipeline().steps]
            ['histogram-standardization', 'z-score', 'rescale']
        """
        from segjax.data.prepare.pipeline import Pipeline

        if brain is None:
            return Pipeline.from_json(self.steps)
        if not any(step["step"] == _BRAIN for step in self.steps):
            raise InputError(f"preset '{self.name}' extracts no brain: leave {brain!r} out")
        method = {"method": brain}
        changed = [{**step, **method} if step["step"] == _BRAIN else step for step in self.steps]
        return Pipeline.from_json(changed)

    def augmentation(self) -> tuple["Transform", ...]:
        """Return the transforms of the patches, in order.

        Example:
            >>> [transform.name for transform in study("meningioma-2d").augmentation()][:2]
            ['affine', 'elastic']
        """
        from segjax.codec import from_json
        from segjax.data.augment.transform import Transform

        return from_json(tuple[Transform, ...], self.transforms)

    def settings(self, *, model: str | None = None, brain: str | None = None) -> dict[str, Any]:
        """Return what the study decides, as settings for :func:`segjax.plan`.

        Args:
            model: Another one of its networks.
            brain: Another method of brain extraction, see :meth:`pipeline`.

        Raises:
            InputError: The network or the method does not belong to the study.
        """
        model = next(iter(self.models)) if model is None else model
        if model not in self.models:
            networks = ", ".join(self.models)
            raise InputError(f"preset '{self.name}' is for {networks}: model {model} has no place")
        pipeline = self.pipeline(brain=brain).to_json()
        data = {"model": model, "pipeline": pipeline, "augment": list(self.transforms)}
        return {**data, **self.training, **self.models[model]}


def names() -> tuple[str, ...]:
    """Return the names of the studies.

    Example:
        >>> names()
        ('ms-7t', 'ms-7t-released', 'meningioma-2d')
    """
    return tuple(_STUDIES)


def study(name: str) -> Study:
    """Return a study.

    ``"ms-7t"``, of MS lesions at 7 T, as its text describes it: RAS orientation, N4, brain
    extraction, min-max to [0, 1], 1 mm isotropic; MPU-Net++ or the 3D U-Net of 1.7 M parameters on
    patches of 64³; Dice loss; 12 of 46 patients to validate on. It extracts the brain by HD-BET,
    which is ``brain="hd-bet"`` where that is installed; left to itself the preset takes the
    "classical" method, which leaves images alone whose brain has been extracted already, and is
    worse than HD-BET on others (see :func:`segjax.data.prepare.brain.extract_brain`). It augments,
    and does not say how: the transforms are ours, with TorchIO's defaults as bounds, for
    intensities of about 0 to 1. Ours, too: AdamW on one cycle with a peak of 1e-2 for MPU-Net++
    and 1e-3 for the U-Net; batches of 2; 4 patches of each patient in an epoch, half of them
    around a lesion; 100 epochs; a validation every 5; gradients clipped to norm 1. Windows overlap
    by 16 voxels, as in the inference code that the authors released.

    ``"ms-7t-released"`` is the same training on images preprocessed as in that code: RAS, 1 mm
    isotropic, cropped or padded to 192 × 192 × 224 voxels, Nyúl's histogram standardisation,
    z-score by mean and standard deviation of the voxels above the mean.

    ``"meningioma-2d"``, of meningiomas in slices: Nyúl's histogram standardisation, z-score,
    rescaled to [-1, 1]; affine and elastic always, noise and ±30 % of intensity with probability
    0.25, motion 0.05, bias field 0.2, within TorchIO's bounds where it states none; a 2D U-Net of
    kernel 3, 5, 7 or 9 (5 was its best) with dropout 0.3 on whole slices of 512 × 512; Tversky
    loss with α = β = 0.5; a stop after 5 epochs without a better validation Dice; 120 of 602
    images to validate on. With the 106 test images of the study, 708 in all, take 120 / 708 and
    ``test=106 / 708``. Ours: AdamW at a constant rate of 1e-3, since a schedule would have to know
    when the training stops; batches of 8; at most 100 epochs; gradients clipped to norm 1.

    Assumed where the studies say nothing: linear interpolation; N4 with shrink factor 4, four
    levels of at most 50 iterations and Otsu's mask; landmarks and z-scores over all voxels. The
    landmarks are trained on the set at hand (:meth:`Pipeline.fit`), since none were published
    with the text.

    Args:
        name: One of :func:`names`.

    Raises:
        InputError: There is no study of the name.

    Example:
        >>> study("ms-7t").validation == 12 / 46
        True

    Source:
        Nyúl & Udupa, Magn. Reson. Med. 42 (1999) 1072-1081; Tustison et al., IEEE Trans. Med.
        Imaging 29 (2010) 1310-1320 (N4); Isensee et al., Hum. Brain Mapp. 40 (2019) 4952-4964
        (HD-BET).
    """
    if name not in _STUDIES:
        raise InputError(f"no study is named '{name}': choose {', '.join(_STUDIES)}")
    return _STUDIES[name]


_BRAIN = "brain-extraction"
_MS_7T = Study(
    name="ms-7t",
    steps=(
        {"step": "reorient", "orientation": "RAS"},
        {"step": "n4"},
        {"step": _BRAIN, "method": "classical"},
        {"step": "min-max"},
        {"step": "resample", "spacing": [1.0, 1.0, 1.0]},
    ),
    transforms=(
        {"transform": "flip", "axes": [0]},
        {"transform": "affine"},
        {"transform": "elastic"},
        {"transform": "gamma", "probability": 0.25},
        {"transform": "noise", "std": [0.0, 0.1], "probability": 0.25},
        {"transform": "bias-field", "probability": 0.2},
        {"transform": "motion", "probability": 0.05},
    ),
    training={
        "patch_size": [64, 64, 64],
        "batch_size": 2,
        "patches_per_case": 4,
        "foreground": 0.5,
        "overlap": 0.25,
        "epochs": 100,
        "validate_every": 5,
        "dropout": None,
        "loss": [{"name": "dice"}],
    },
    models={
        "mpunet++": {"optimizer": {"learning_rate": 1e-2}},
        "unet3d": {"optimizer": {"learning_rate": 1e-3}},
    },
    validation=12 / 46,
)
_MS_7T_RELEASED = replace(
    _MS_7T,
    name="ms-7t-released",
    steps=(
        {"step": "reorient", "orientation": "RAS"},
        {"step": "resample", "spacing": [1.0, 1.0, 1.0]},
        {"step": "crop-or-pad", "shape": [192, 192, 224]},
        {"step": "histogram-standardization"},
        {"step": "z-score", "where": "above-mean"},
    ),
)
_MENINGIOMA_2D = Study(
    name="meningioma-2d",
    steps=(
        {"step": "histogram-standardization"},
        {"step": "z-score"},
        {"step": "rescale", "low": -1.0, "high": 1.0},
    ),
    transforms=(
        {"transform": "affine"},
        {"transform": "elastic"},
        {"transform": "noise", "std": [0.0, 0.25], "probability": 0.25},
        {"transform": "scale-intensity", "factor": [0.7, 1.3], "probability": 0.25},
        {"transform": "motion", "probability": 0.05},
        {"transform": "bias-field", "probability": 0.2},
    ),
    training={
        "patch_size": [512, 512],
        "batch_size": 8,
        "patches_per_case": 1,
        "foreground": 0.0,
        "epochs": 100,
        "validate_every": 1,
        "patience": 5,
        "dropout": 0.3,
        "optimizer": {"learning_rate": 1e-3, "schedule": "constant"},
        "loss": [{"name": "tversky", "alpha": 0.5}],
    },
    models={"unet2d-k5": {}, "unet2d-k3": {}, "unet2d-k7": {}, "unet2d-k9": {}},
    validation=120 / 602,
)
_STUDIES = {each.name: each for each in (_MS_7T, _MS_7T_RELEASED, _MENINGIOMA_2D)}
