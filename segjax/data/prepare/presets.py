"""The preprocessing of the two studies, by name."""

from segjax.data.prepare.pipeline import (
    BiasFieldCorrection,
    BrainExtraction,
    CropOrPad,
    HistogramStandardization,
    MinMax,
    Pipeline,
    Reorient,
    Resample,
    Rescale,
    ZScore,
)
from segjax.errors import InputError

__all__ = ["names", "preset"]

_PRESETS = {
    "ms-7t": Pipeline(
        (
            Reorient("RAS"),
            BiasFieldCorrection(),
            BrainExtraction("classical"),
            MinMax(),
            Resample((1.0, 1.0, 1.0)),
        )
    ),
    "ms-7t-released": Pipeline(
        (
            Reorient("RAS"),
            Resample((1.0, 1.0, 1.0)),
            CropOrPad((192, 192, 224)),
            HistogramStandardization(),
            ZScore("above-mean"),
        )
    ),
    "meningioma-2d": Pipeline((HistogramStandardization(), ZScore(), Rescale(-1.0, 1.0))),
}


def names() -> tuple[str, ...]:
    """Return the names of all presets.

    Example:
        >>> names()
        ('ms-7t', 'ms-7t-released', 'meningioma-2d')
    """
    return tuple(_PRESETS)


def preset(name: str, *, brain: str | None = None) -> Pipeline:
    """Return the preprocessing of a study.

    ``"ms-7t"``, of the study of MS lesions at 7 T as its text describes it: RAS orientation, N4,
    brain extraction, min-max to [0, 1], 1 mm isotropic. The study extracts the brain by HD-BET,
    which is ``brain="hd-bet"`` where it is installed. Left to itself the preset takes the
    "classical" method, which leaves images alone whose brain has been extracted already, and is
    worse than HD-BET on others (see :func:`segjax.data.prepare.brain.extract_brain`).

    ``"ms-7t-released"``, as the inference code released by its authors does it: RAS orientation,
    1 mm isotropic, cropped or padded to 192 × 192 × 224 voxels, Nyúl's histogram standardisation,
    z-score by mean and standard deviation of the voxels above the mean.

    ``"meningioma-2d"``, of the study of meningiomas in slices: Nyúl's histogram standardisation,
    z-score, rescaled to [-1, 1].

    Assumed where the studies say nothing: linear interpolation; N4 with shrink factor 4, four
    levels of at most 50 iterations and Otsu's mask; landmarks and z-scores over all voxels. The
    landmarks are trained on the set at hand (:meth:`Pipeline.fit`), since none were published
    with the text.

    Args:
        name: One of :func:`names`.
        brain: Method of brain extraction: "hd-bet", "classical", "zero-background" or the path of
            an ONNX file.

    Returns:
        The pipeline; it has to be fitted where it standardises histograms.

    Raises:
        InputError: There is no preset of the name, it extracts no brain and a method is given, or
            the method is unknown.

    Example:
        >>> [step.name for step in preset("meningioma-2d").steps]
        ['histogram-standardization', 'z-score', 'rescale']

    Source:
        Nyúl & Udupa, Magn. Reson. Med. 42 (1999) 1072-1081; Tustison et al., IEEE Trans. Med.
        Imaging 29 (2010) 1310-1320 (N4); Isensee et al., Hum. Brain Mapp. 40 (2019) 4952-4964
        (HD-BET).
    """
    if name not in _PRESETS:
        raise InputError(f"no preset is named '{name}': choose {', '.join(_PRESETS)}")
    pipeline = _PRESETS[name]
    return pipeline if brain is None else _with_brain(pipeline, name, brain)


def _with_brain(pipeline: Pipeline, name: str, brain: str) -> Pipeline:
    extracts = [isinstance(step, BrainExtraction) for step in pipeline.steps]
    if not any(extracts):
        raise InputError(f"preset '{name}' extracts no brain: leave {brain!r} out")
    pairs = zip(pipeline.steps, extracts, strict=True)
    return Pipeline(tuple(BrainExtraction(brain) if chosen else step for step, chosen in pairs))
