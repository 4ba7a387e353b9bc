"""``segjax train``: labelled volumes become a run with an ONNX file and a report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

_AUTO = "(default: from the data)"
Model = Literal["mpunet++", "unet3d", "unet2d-k3", "unet2d-k5", "unet2d-k7", "unet2d-k9"]
LossName = Literal["dice", "tversky", "cross-entropy", "dice+cross-entropy"]


@dataclass(frozen=True)
class Train:
    """Train a network on labelled volumes and export it.

    The data folder holds images/ and labels/ with equal file names, or imagesTr/
    and labelsTr/ as in the Medical Segmentation Decathlon and nnU-Net. The run
    folder gets config.json, split.json, metrics.csv, checkpoints/, model.onnx and
    report.html.

    The same command again goes on where it stopped, even after a crash.

    Examples:
        segjax train --data hippocampus --model mpunet++ --out run
        segjax train --data brains --out run --epochs 100 --patch-size 64 64 64
        segjax train --data brains --out run --loss tversky --alpha 0.7
        segjax train --data brains --out again --config run/config.json --seed 1
    """

    data: Annotated[Path, arg(metavar="DIR")]
    """Folder of labelled images."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="RUN")]
    """Folder of the run, made if absent."""
    model: Model = "mpunet++"
    """Network; mpunet++ and unet3d are 3D, the others 2D."""
    epochs: Annotated[int | None, arg(metavar="N", help_behavior_hint=_AUTO)] = None
    """Passes over the training cases."""
    batch_size: Annotated[int | None, arg(metavar="N", help_behavior_hint=_AUTO)] = None
    """Patches in one step."""
    patch_size: Annotated[
        tuple[int, ...] | None, arg(metavar="N [N N]", help_behavior_hint=_AUTO)
    ] = None
    """Voxels of a patch along each axis."""
    learning_rate: Annotated[float | None, arg(metavar="X", help_behavior_hint=_AUTO)] = None
    """Peak of the learning-rate schedule."""

    def __call__(self) -> None:
        pass
