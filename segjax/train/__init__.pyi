from ._fit import (
    FitResult as FitResult,
)
from ._fit import (
    Loading as Loading,
)
from ._fit import (
    RunFinishedError as RunFinishedError,
)
from ._fit import (
    fit as fit,
)
from .checkpoints import (
    Checkpoints as Checkpoints,
)
from .checkpoints import (
    load_variables as load_variables,
)
from .config import (
    OptimizerConfig as OptimizerConfig,
)
from .config import (
    TrainConfig as TrainConfig,
)
from .config import (
    default_config as default_config,
)
from .config import (
    read_config as read_config,
)
from .config import (
    write_config as write_config,
)
from .devices import (
    keep_compiled_programs as keep_compiled_programs,
)
from .devices import (
    keep_freed_memory as keep_freed_memory,
)
from .losses import (
    Loss as Loss,
)
from .losses import (
    Term as Term,
)
from .losses import (
    cross_entropy as cross_entropy,
)
from .losses import (
    dice_loss as dice_loss,
)
from .losses import (
    tversky_loss as tversky_loss,
)
from .optimizers import (
    make_optimizer as make_optimizer,
)
from .optimizers import (
    make_schedule as make_schedule,
)
from .presets import (
    Preset as Preset,
)
from .presets import (
    preset as preset,
)
from .resident import (
    ResidentLoader as ResidentLoader,
)
from .step import (
    TrainState as TrainState,
)
from .step import (
    init_state as init_state,
)
from .step import (
    make_predict as make_predict,
)
from .step import (
    make_train_step as make_train_step,
)
from .sweeps.sweep import (
    Execution as Execution,
)
from .sweeps.sweep import (
    SweepConfig as SweepConfig,
)
from .sweeps.sweep import (
    SweepResult as SweepResult,
)
from .sweeps.sweep import (
    sweep as sweep,
)
