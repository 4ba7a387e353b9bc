from .evaluation import write_evaluation as write_evaluation
from .followup import write_followup_page as write_followup_page
from .lesion_plots import lesion_overlay as lesion_overlay
from .load_plots import dice_against_load as dice_against_load, load_agreement as load_agreement
from .patient import Patient as Patient, write_patient as write_patient
from .plots import (
    dice_by_case as dice_by_case,
    learning_curves as learning_curves,
    overlay as overlay,
)
from .reliability_plot import reliability_curve as reliability_curve
from .sweep import write_sweep_report as write_sweep_report
from .training import Example as Example, write_report as write_report
