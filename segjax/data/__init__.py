"""Read, process, sample and write MR volumes with NumPy alone: nothing here imports JAX.

Every name below can be taken from this package and loads its module on first use. The synthetic
heads are :func:`segjax.data.phantom.phantom`, since the module has that name.

Example:
    >>> from segjax.data import Pipeline, Reorient, ZScore
    >>> len(Pipeline((Reorient("RAS"), ZScore("nonzero"))).steps)
    2
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax.data.augment import Flip as Flip
    from segjax.data.augment import Gamma as Gamma
    from segjax.data.augment import Noise as Noise
    from segjax.data.augment import ScaleIntensity as ScaleIntensity
    from segjax.data.augment import Transform as Transform
    from segjax.data.bias_field import *  # noqa: F403
    from segjax.data.brain import *  # noqa: F403
    from segjax.data.cache import *  # noqa: F403
    from segjax.data.datasets import *  # noqa: F403
    from segjax.data.dicom import Series as Series
    from segjax.data.dicom import find_series as find_series
    from segjax.data.dicom import read_dicom as read_dicom
    from segjax.data.folds import *  # noqa: F403
    from segjax.data.formats import *  # noqa: F403
    from segjax.data.histogram import *  # noqa: F403
    from segjax.data.intensity import *  # noqa: F403
    from segjax.data.labels import *  # noqa: F403
    from segjax.data.loader import *  # noqa: F403
    from segjax.data.nifti import *  # noqa: F403
    from segjax.data.npy import *  # noqa: F403
    from segjax.data.patches import *  # noqa: F403
    from segjax.data.phantom import Kind as Kind
    from segjax.data.phantom import write_dataset as write_dataset
    from segjax.data.pipeline import *  # noqa: F403
    from segjax.data.png import *  # noqa: F403
    from segjax.data.presets import preset as preset
    from segjax.data.spatial import *  # noqa: F403

_MODULES: dict[str, tuple[str, ...]] = {
    "augment": (
        "Flip",
        "Gamma",
        "Noise",
        "ScaleIntensity",
        "Transform",
    ),
    "cache": (
        "Cache",
        "CachedCase",
        "Histogram",
        "Outcome",
        "is_cache",
        "open_cache",
        "preprocess",
    ),
    "bias_field": (
        "N4",
        "correct_bias_field",
        "estimate_bias_field",
    ),
    "brain": (
        "METHODS",
        "Extractor",
        "extract_brain",
    ),
    "datasets": (
        "LAYOUTS",
        "Case",
        "Dataset",
        "LoadedCase",
        "Split",
        "are_colours",
        "files_in",
        "find_cases",
        "find_images",
        "find_subjects",
        "find_test_cases",
        "is_dataset",
        "load_case",
        "read_case_label",
        "read_description",
        "read_fold_splits",
        "read_split",
        "split_cases",
        "write_split",
    ),
    "dicom": (
        "Series",
        "find_series",
        "read_dicom",
    ),
    "folds": (
        "Folding",
        "Grouping",
        "fold_splits",
        "group_by_pattern",
        "group_neighbours",
    ),
    "formats": (
        "COLOURS",
        "IMAGE_SUFFIXES",
        "MASK_SUFFIXES",
        "check_same_grid",
        "may_name_segments",
        "normal_name",
        "read_grid",
        "read_image",
        "read_label",
        "read_volume",
        "segment_names",
        "stem",
        "suffix",
        "write_volume",
    ),
    "histogram": (
        "check_landmarks",
        "landmark_percentiles",
        "read_landmarks",
        "standardize",
        "train_landmarks",
        "write_landmarks",
    ),
    "intensity": (
        "Voxels",
        "Where",
        "choose",
        "clip_percentiles",
        "min_max",
        "rescale",
        "z_score",
    ),
    "labels": (
        "IGNORED",
        "PLAIN",
        "LabelCoding",
        "asked_coding",
        "coding_of_labels",
    ),
    "loader": (
        "Batch",
        "Loader",
        "PatchDraw",
        "Sampling",
        "prefetch",
    ),
    "nifti": (
        "nifti_grid",
        "read_nifti",
        "write_nifti",
    ),
    "npy": (
        "npy_grid",
        "read_npy",
        "write_npy",
    ),
    "patches": (
        "draw_corner",
        "extract_patch",
        "foreground_corner",
        "gaussian_window",
        "grid_corners",
        "sample_corner",
        "sliding_window",
        "to_mask",
        "uniform_corner",
    ),
    "phantom": (
        "Kind",
        "write_dataset",
    ),
    "pipeline": (
        "BiasFieldCorrection",
        "BrainExtraction",
        "ClipPercentiles",
        "CropOrPad",
        "CropToForeground",
        "HistogramStandardization",
        "MinMax",
        "Pipeline",
        "Reorient",
        "Resample",
        "Rescale",
        "Step",
        "ZScore",
    ),
    "png": (
        "png_grid",
        "read_png",
        "write_png",
    ),
    "presets": ("preset",),
    "spatial": (
        "Grid",
        "Interpolation",
        "crop_or_pad",
        "crop_or_pad_grid",
        "crop_to_foreground",
        "crop_to_grid",
        "foreground_grid",
        "grid",
        "orientation",
        "reorient",
        "reorient_grid",
        "resample",
        "restore_orientation",
        "same_grid",
        "spacing_grid",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *_HOME])
