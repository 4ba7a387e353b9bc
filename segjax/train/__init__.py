"""Train networks: losses, configurations, the step and the loop around it.

Every public name of the modules below can be taken from this package, and loads its module, and
with it JAX, on first use. The loop itself is ``segjax.train.fit.fit``, many
trainings are ``segjax.train.sweep.sweep``.

Example:
    >>> import segjax
    >>> segjax.train.OptimizerConfig().schedule
    'one-cycle'
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax.train.checkpoints import Checkpoints, load_variables
    from segjax.train.config import (
        OptimizerConfig,
        TrainConfig,
        default_config,
        read_config,
        write_config,
    )
    from segjax.train.devices import keep_compiled_programs, keep_freed_memory
    from segjax.train.fit import FitResult, Loading, RunFinishedError
    from segjax.train.losses import Loss, Term, cross_entropy, dice_loss, tversky_loss
    from segjax.train.optimizers import make_optimizer, make_schedule
    from segjax.train.presets import Preset, preset
    from segjax.train.resident import ResidentLoader
    from segjax.train.step import TrainState, init_state, make_predict, make_train_step
    from segjax.train.sweep import Execution, SweepConfig, SweepResult

_MODULES: dict[str, tuple[str, ...]] = {
    "checkpoints": ("Checkpoints", "load_variables"),
    "config": ("OptimizerConfig", "TrainConfig", "default_config", "read_config", "write_config"),
    "devices": ("keep_compiled_programs", "keep_freed_memory"),
    "fit": ("FitResult", "Loading", "RunFinishedError"),
    "losses": ("Loss", "Term", "cross_entropy", "dice_loss", "tversky_loss"),
    "resident": ("ResidentLoader",),
    "optimizers": ("make_optimizer", "make_schedule"),
    "presets": ("Preset", "preset"),
    "step": ("TrainState", "init_state", "make_predict", "make_train_step"),
    "sweep": ("Execution", "SweepConfig", "SweepResult"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Checkpoints",
    "Execution",
    "FitResult",
    "Loading",
    "Loss",
    "OptimizerConfig",
    "Preset",
    "ResidentLoader",
    "RunFinishedError",
    "SweepConfig",
    "SweepResult",
    "Term",
    "TrainConfig",
    "TrainState",
    "checkpoints",
    "config",
    "cross_entropy",
    "default_config",
    "devices",
    "dice_loss",
    "fit",
    "init_state",
    "keep_compiled_programs",
    "keep_freed_memory",
    "load_variables",
    "losses",
    "make_optimizer",
    "make_predict",
    "make_schedule",
    "make_train_step",
    "optimizers",
    "preset",
    "presets",
    "read_config",
    "resident",
    "step",
    "sweep",
    "tversky_loss",
    "write_config",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
