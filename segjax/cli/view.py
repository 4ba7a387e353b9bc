"""``segjax view``: images, masks and networks in the browser's page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

_NONE = "(default: none)"


@dataclass(frozen=True)
class View:
    """Look at images in the browser; segment, measure and correct them there.

    Images are what segjax predict takes: NIfTI files, folders of DICOM series, and so on.
    The page and these files are served to this computer's browser alone, under a random
    path; nothing leaves the computer, and no file is changed: the page saves what is made
    as downloads. Ctrl-C ends.

    Examples:
        segjax view flair.nii.gz
        segjax view flair.nii.gz --mask lesions.nii.gz
        segjax view flair.nii.gz t1.nii.gz --model run/model.onnx
        segjax view 2024/flair.nii.gz 2025/flair.nii.gz --mask 2024/ms.nii.gz 2025/ms.nii.gz
        segjax view scan/ --model run --port 8765 --no-browser
    """

    images: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="IMAGE...", help_behavior_hint="(required)")
    ]
    """Images of one case, of any format; those of one name in two folders are of two visits."""
    mask: Annotated[tuple[Path, ...], arg(metavar="MASK...", help_behavior_hint=_NONE)] = ()
    """Mask of each image, or one for the first."""
    model: Annotated[
        tuple[Path, ...], arg(aliases=["-m"], metavar="FILE...", help_behavior_hint=_NONE)
    ] = ()
    """ONNX files that segjax train or segjax export wrote, folders of runs, or names of segjax
    models."""
    port: Annotated[int, arg(metavar="N")] = 0
    """Port to serve on; any free one when 0."""
    no_browser: Annotated[bool, arg(help_behavior_hint="")] = False
    """Print the address only."""

    def __call__(self) -> None:
        """Print the address, and serve until Ctrl-C."""
        from segjax.cli.console import say
        from segjax.viewer import view

        with view(
            *self.images,
            mask=self.mask,
            model=self.model,
            port=self.port,
            browser=not self.no_browser,
        ) as viewer:
            say(f"{viewer.url}\nCtrl-C ends")
            try:
                viewer.wait()
            except KeyboardInterrupt:
                return
