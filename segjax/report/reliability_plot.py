"""The reliability curve: what share of the voxels of a probability is true."""

from collections.abc import Mapping

import numpy as np

from segjax.evaluate.calibration import Calibration
from segjax.report.style import FAINT, LABELS, PathLike, figure_file, style_axes

__all__ = ["reliability_curve"]


def reliability_curve(
    calibrations: Mapping[str, Calibration], path: PathLike, *, overwrite: bool = False
) -> None:
    """Draw the share of true voxels over their mean probability, a line for each label.

    Below the diagonal a network is too sure of what it finds, above it not sure enough. The size
    of a point grows with the logarithm of its number of voxels.

    Args:
        calibrations: By label.
        path: File to write; its suffix gives the format (.png, .pdf, .svg).
        overwrite: Replace a file that is there already.

    Raises:
        InputError: The file exists.

    Example:
        >>> from segjax.evaluate.calibration import calibration_of
        >>> found = calibration_of(truth=np.array([0, 1]), probability=np.array([0.2, 0.7]))
        >>> reliability_curve({"lesion": found}, "reliability.png")
    """
    with figure_file(path, (4.6, 4.2), overwrite=overwrite) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=FAINT, lw=0.8)
        for number, (label, found) in enumerate(calibrations.items()):
            points = [one for one in found.curve if one.voxels]
            x, y = [one.probability for one in points], [one.share for one in points]
            sizes = [6 + 8 * np.log10(one.voxels) for one in points]
            colour = LABELS[number % len(LABELS)]
            told = f"{label}: expected calibration error {found.expected_error:.3f}"
            axes.plot(x, y, color=colour, lw=1.2, label=told)
            axes.scatter(x, y, s=sizes, color=colour, zorder=3)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        style_axes(axes, title="Reliability", xlabel="probability", ylabel="share that is true")
        axes.legend(frameon=False, fontsize=8, loc="upper left")
