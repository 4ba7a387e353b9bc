"""Read, process, sample and write MR volumes with NumPy alone: nothing here imports JAX.

Every public name of the modules below can be taken from this package, and loads its module on
first use.
"""

import importlib
from typing import Any

_MODULES: dict[str, tuple[str, ...]] = {
    "nifti": ("read_nifti", "write_nifti"),
    "png": ("read_png", "write_png"),
    "npy": ("read_npy", "write_npy"),
    "formats": (
        "IMAGE_SUFFIXES",
        "check_same_grid",
        "read_image",
        "read_label",
        "read_volume",
        "stem",
        "write_volume",
    ),
    "spatial": (
        "Grid",
        "crop_or_pad",
        "grid",
        "orientation",
        "reorient",
        "resample",
        "spacing_grid",
    ),
    "intensity": ("clip_percentiles", "min_max", "rescale", "z_score"),
    "pipeline": (
        "ClipPercentiles",
        "CropOrPad",
        "MinMax",
        "Pipeline",
        "Reorient",
        "Resample",
        "Rescale",
        "Step",
        "ZScore",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [*_MODULES, *_HOME]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
