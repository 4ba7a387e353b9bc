from .activity import activity_of as activity_of, growth_of as growth_of
from .agreement import agreement_of as agreement_of
from .alarms import false_alarms as false_alarms
from .atlas import atlas_zones as atlas_zones, find_zones as find_zones
from .calibration import calibration_of as calibration_of
from .challenges import challenge_table as challenge_table
from .changes import LesionChange as LesionChange, lesion_changes as lesion_changes
from .compare import compare_cases as compare_cases, score as score
from .diameters import axial_diameters as axial_diameters, feret_diameter as feret_diameter
from .difference import ImageDifference as ImageDifference, compare_images as compare_images
from .followup import FollowUp as FollowUp, Visit as Visit, follow_up as follow_up
from .inter_rater import rate_cases as rate_cases
from .lesions import LesionRule as LesionRule, match_lesions as match_lesions
from .lesionwise import lesionwise_scores as lesionwise_scores
from .overlap import (
    absolute_volume_error as absolute_volume_error,
    dice as dice,
    jaccard as jaccard,
    overlap_table as overlap_table,
    positive_predictive_value as positive_predictive_value,
    sensitivity as sensitivity,
    specificity as specificity,
    volume_error as volume_error,
    volume_ml as volume_ml,
)
from .measure import measure_mask as measure_mask
from .measured import measure_files as measure_files
from .pairs import match_masks as match_masks
from .panoptic import panoptic_quality as panoptic_quality
from .raters import (
    majority_vote as majority_vote,
    rater_agreement as rater_agreement,
    staple as staple,
)
from .registration import (
    Registration as Registration,
    register_visits as register_visits,
    to_halfway as to_halfway,
)
from .reliability import calibrations as calibrations
from .selfcheck import SelfCheck as SelfCheck, self_check as self_check
from .sizes import detection_by_size as detection_by_size, dice_by_load as dice_by_load
from .statistics import compare_models as compare_models, mean_interval as mean_interval
from .summary import compare_rows as compare_rows, summarise as summarise
from .surface import surface_distances as surface_distances, surface_measures as surface_measures
from .surfels import surface_area as surface_area
from .zones import (
    Zones as Zones,
    dissemination_in_space as dissemination_in_space,
    radiologically_isolated as radiologically_isolated,
    read_zones as read_zones,
    zone_of as zone_of,
)
