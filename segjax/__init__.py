"""Segment lesions in MR images with small Flax networks.

Names load on first use, so that ``import segjax`` is fast and needs no JAX.

Example:
    >>> import segjax
    >>> segjax.__version__
    '0.1.0'
    >>> settings = {"epochs": 1, "patch_size": (16, 16, 16), "batch_size": 2}
    >>> plan = segjax.plan("brains", settings)
    >>> result = segjax.fit(plan.config, plan.dataset, plan.split, "first-run")
    >>> path = segjax.export("first-run", "best.onnx")
    >>> segjax.Predictor("best.onnx").predict("flair.nii.gz").spatial_shape
    (24, 28, 24)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax import data, evaluate, models, report, train
    from segjax.data.io.formats import read_volume as read
    from segjax.data.io.formats import write_volume as write
    from segjax.data.prepare.pipeline import Pipeline
    from segjax.errors import InputError
    from segjax.evaluate.compare import score
    from segjax.pretrained.shipped import pretrained_models
    from segjax.registry import register
    from segjax.train._fit import fit
    from segjax.train.config import TrainConfig
    from segjax.train.plans.plan import plan
    from segjax.train.sweeps.sweep import sweep
    from segjax.viewer import view
    from segjax.volume import Volume
    from segjax_onnx.predict.predictor import Predictor
    from segjax_onnx.write.convert import export_onnx as export

__version__ = "0.1.0"

_HOMES = {
    "InputError": "segjax.errors:InputError",
    "Pipeline": "segjax.data.prepare.pipeline:Pipeline",
    "Predictor": "segjax_onnx.predict.predictor:Predictor",
    "TrainConfig": "segjax.train.config:TrainConfig",
    "Volume": "segjax.volume:Volume",
    "export": "segjax_onnx.write.convert:export_onnx",
    "fit": "segjax.train._fit:fit",
    "plan": "segjax.train.plans.plan:plan",
    "pretrained_models": "segjax.pretrained.shipped:pretrained_models",
    "read": "segjax.data.io.formats:read_volume",
    "register": "segjax.registry:register",
    "score": "segjax.evaluate.compare:score",
    "sweep": "segjax.train.sweeps.sweep:sweep",
    "view": "segjax.viewer:view",
    "write": "segjax.data.io.formats:write_volume",
}
__all__ = [
    "InputError",
    "Pipeline",
    "Predictor",
    "TrainConfig",
    "Volume",
    "data",
    "evaluate",
    "export",
    "fit",
    "models",
    "plan",
    "pretrained_models",
    "read",
    "register",
    "report",
    "score",
    "sweep",
    "train",
    "view",
    "write",
]


def __getattr__(name: str) -> Any:
    from segjax.extras import needed_for

    with needed_for(f"segjax.{name}"):
        if name in _HOMES:
            module, _, attribute = _HOMES[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        if name in __all__:
            return importlib.import_module(f"segjax.{name}")
    raise AttributeError(f"module 'segjax' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
