"""``segjax info``: what a file or folder holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Info:
    """Tell what a volume, run, model, DICOM or data folder holds.

    Examples:
        segjax info flair.nii.gz       # shape, spacing, orientation, range, label volumes
        segjax info scan               # DICOM series
        segjax info scan --series 4    # one of them
        segjax info brains             # cases, channels, sizes, labels
        segjax info run                # network, settings, best Dice
        segjax info plan.json          # settings of a training
        segjax info run/model.onnx     # labels, preprocessing, patch size
        segjax info ms-flair           # a model that comes with segjax
        segjax info weights.pt         # whose network they are
    """

    path: Annotated[Positional[Path], arg(metavar="FILE_OR_FOLDER")]
    """What to look at."""
    series: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: all)")] = None
    """DICOM series: name, number, UID or description ("*flair*")."""

    def __call__(self) -> None:
        """Print what the path holds."""
        from segjax.cli.console import print_facts
        from segjax.describe import describe

        print_facts(describe(self.path, series=self.series), title=str(self.path))
