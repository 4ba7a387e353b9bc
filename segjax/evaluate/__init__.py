"""Measure and show how good masks are: overlap, lesions, plots. Needs NumPy alone to import."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax.evaluate.lesion_plots import lesion_overlay
    from segjax.evaluate.lesions import LesionRule, match_lesions
    from segjax.evaluate.overlap import (
        dice,
        jaccard,
        overlap_table,
        positive_predictive_value,
        sensitivity,
        volume_ml,
    )
    from segjax.evaluate.plots import dice_by_case, learning_curves, overlay
    from segjax.evaluate.report import Example, write_report

__all__ = [
    "Example",
    "LesionRule",
    "dice",
    "dice_by_case",
    "jaccard",
    "learning_curves",
    "lesion_overlay",
    "match_lesions",
    "overlap_table",
    "overlay",
    "positive_predictive_value",
    "sensitivity",
    "volume_ml",
    "write_report",
]

_MODULES = {
    "lesion_plots": ("lesion_overlay",),
    "lesions": ("LesionRule", "match_lesions"),
    "overlap": (
        "dice",
        "jaccard",
        "overlap_table",
        "positive_predictive_value",
        "sensitivity",
        "volume_ml",
    ),
    "plots": ("dice_by_case", "learning_curves", "overlay"),
    "report": ("Example", "write_report"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name == module or name in names:
            loaded = importlib.import_module(f"segjax.evaluate.{module}")
            return loaded if name == module else getattr(loaded, name)
    raise AttributeError(f"module 'segjax.evaluate' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *__all__])
