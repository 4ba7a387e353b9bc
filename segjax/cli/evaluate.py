"""``segjax evaluate``: predictions against labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Evaluate:
    """Compare predicted masks with labels.

    Gives Dice, sensitivity, positive predictive value and volumes for each label.
    Files belong together by name; every prediction needs its label. Where a label is
    absent from both masks its Dice is 1; where only from one of them, 0.

    Examples:
        segjax evaluate masks brains/labels
        segjax evaluate masks brains/labels -o metrics.csv --names lesion
        segjax evaluate mask.nii.gz truth.nii.gz
    """

    predictions: Annotated[Positional[Path], arg(metavar="PREDICTIONS")]
    """Folder of predicted masks, or one file."""
    labels: Annotated[Positional[Path], arg(metavar="LABELS")]
    """Folder of labels with equal names, or one file."""
    out: Annotated[
        Path | None, arg(aliases=["-o"], metavar="FILE.csv", help_behavior_hint="(default: none)")
    ] = None
    """Write one row for each case, label and metric."""
    names: Annotated[
        tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="(default: 1, 2, ...)")
    ] = ()
    """Names of the label values 1, 2, ..."""
    overwrite: Annotated[bool, arg(help_behavior_hint="")] = False
    """Replace the CSV file if it exists."""

    def __call__(self) -> None:
        """Print the measures of every case and label."""
        from segjax.cli.console import print_facts, print_scores
        from segjax.evaluate.folders import compare_masks, match_masks, write_metrics

        rows = compare_masks(match_masks(self.predictions, self.labels), names=self.names)
        print_scores(rows)
        if self.out:
            write_metrics(rows, self.out, overwrite=self.overwrite)
            print_facts({"metrics": self.out})
