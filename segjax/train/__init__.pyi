from ._fit import (
    FitResult as FitResult,
    Loading as Loading,
    RunFinishedError as RunFinishedError,
    fit as fit,
)
from .checkpoints import load_variables as load_variables
from .config import (
    InitConfig as InitConfig,
    OptimizerConfig as OptimizerConfig,
    TrainConfig as TrainConfig,
    read_config as read_config,
    write_config as write_config,
)
from .devices import (
    keep_compiled_programs as keep_compiled_programs,
    keep_freed_memory as keep_freed_memory,
    prepare_process as prepare_process,
)
from .losses import (
    Loss as Loss,
    Term as Term,
    cross_entropy as cross_entropy,
    dice_loss as dice_loss,
    tversky_loss as tversky_loss,
)
from .optimizers import make_optimizer as make_optimizer, make_schedule as make_schedule
from .plans.plan import Plan as Plan, plan as plan, plan_folds as plan_folds
from .step import (
    TrainState as TrainState,
    init_state as init_state,
    make_predict as make_predict,
    make_train_step as make_train_step,
)
from .sweeps.sweep import (
    Execution as Execution,
    SweepConfig as SweepConfig,
    SweepResult as SweepResult,
    sweep as sweep,
)
