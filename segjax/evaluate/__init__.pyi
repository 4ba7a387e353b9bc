from .lesions import (
    LesionRule as LesionRule,
)
from .lesions import (
    match_lesions as match_lesions,
)
from .overlap import (
    dice as dice,
)
from .overlap import (
    jaccard as jaccard,
)
from .overlap import (
    overlap_table as overlap_table,
)
from .overlap import (
    positive_predictive_value as positive_predictive_value,
)
from .overlap import (
    sensitivity as sensitivity,
)
from .overlap import (
    volume_ml as volume_ml,
)
