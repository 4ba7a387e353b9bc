"""Say in words what a file or folder holds: a volume, a data set, a run or an exported network."""

from pathlib import Path

from segjax.describe.datasets import describe_bids, describe_cache, describe_dataset
from segjax.describe.images import (
    describe_dicom,
    describe_segments,
    describe_series,
    describe_volume,
)
from segjax.describe.networks import describe_model, describe_weights
from segjax.describe.trainings import (
    describe_configuration,
    describe_folds,
    describe_plan,
    describe_run,
    describe_sweep,
)
from segjax.describe.words import Facts
from segjax.errors import InputError
from segjax.pretrained.shipped import hidden_model, model_path
from segjax.runs.folder import RunFolder

__all__ = ["describe", "describe_plan"]

_BY_SUFFIX = {
    ".json": describe_configuration,
    ".onnx": describe_model,
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin", ".safetensors"), describe_weights),
}
_BY_KIND = {"run": describe_run, "sweep": describe_sweep, "cross-validation": describe_folds}


def describe(path: str | Path, *, series: str | None = None) -> Facts:
    """Describe images, a data set, a run, a sweep, a configuration, an ONNX file or weights.

    Args:
        path: A volume (NIfTI, NRRD, MetaImage, PNG, NPY, DICOM), a DICOM segmentation or structure
            set, an ONNX file, weights of PyTorch, the configuration of a training, the folder of a
            run, a sweep or a cross-validation, a cache, a folder of labelled images, a BIDS data
            set, a folder of DICOM files, or the name of a model that comes with segjax.
        series: Name, number or UID of the DICOM series to describe, where there are several.

    Returns:
        Names and values in the order to show them, as text with units.

    Raises:
        InputError: There is no such file, or it cannot be read.

    Example:
        >>> describe("run/model.onnx")["labels"]
        'background, lesion'
    """
    from segjax.data.io.dicom.segmentation import is_label_object
    from segjax.data.io.dicom.series import choose_series

    path = model_path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if series is not None:
        return describe_series(choose_series(path, series))
    if path.is_dir():
        try:
            return _describe_folder(path)
        except InputError as error:
            raise InputError(f"{error}{hidden_model(path)}") from error
    if is_label_object(path):
        return describe_segments(path)
    return _BY_SUFFIX.get(path.suffix, describe_volume)(path)


def _describe_folder(path: Path) -> Facts:
    from segjax.data.bids import is_bids, list_bids
    from segjax.data.cache.cache import is_cache
    from segjax.data.cases import is_dataset
    from segjax.data.io.dicom.series import holds_dicom

    if is_cache(path):
        return describe_cache(path)
    if known := _BY_KIND.get(RunFolder(path).kind or ""):
        return known(path)
    labelled = is_dataset(path)
    if not labelled and is_bids(path) and list_bids(path):
        return describe_bids(path)
    return describe_dicom(path) if not labelled and holds_dicom(path) else describe_dataset(path)
