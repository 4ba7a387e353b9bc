from .compare import compare_cases as compare_cases, score as score
from .lesions import LesionRule as LesionRule, match_lesions as match_lesions
from .overlap import (
    dice as dice,
    jaccard as jaccard,
    overlap_table as overlap_table,
    positive_predictive_value as positive_predictive_value,
    sensitivity as sensitivity,
    volume_ml as volume_ml,
)
from .pairs import match_masks as match_masks
