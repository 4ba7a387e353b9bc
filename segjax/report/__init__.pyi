from .lesion_plots import (
    lesion_overlay as lesion_overlay,
)
from .plots import (
    dice_by_case as dice_by_case,
)
from .plots import (
    learning_curves as learning_curves,
)
from .plots import (
    overlay as overlay,
)
from .training import (
    Example as Example,
)
from .training import (
    write_report as write_report,
)
