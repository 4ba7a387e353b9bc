"""``segjax preview``: what augmentation does to a case."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Preview:
    """Draw a case as augmentation changes it, one row for each transform.

    The first column shows the case as it is; the others, what is drawn at random. In
    the last row all transforms follow each other, with the probabilities of training.
    What was drawn is printed: slice, grey values, sizes of labels, and all parameters.

    Examples:
        segjax preview flair.nii.gz lesions.nii.gz -o preview.png --recipe ms-7t
        segjax preview slice.png mask.png -o preview.png --recipe meningioma-2d --range -1 1
        segjax preview flair.nii.gz -o preview.png     # every transform there is
    """

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """Image or volume."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")]
    """Picture to write (.png, .pdf, .svg)."""
    label: Annotated[
        Positional[Path | None], arg(metavar="[LABEL]", help_behavior_hint="(default: none)")
    ] = None
    """Its labels, which are outlined."""
    recipe: Annotated[
        str | None, arg(metavar="NAME", help_behavior_hint="(default: every transform)")
    ] = None
    """Augmentation of a study: meningioma-2d or ms-7t."""
    range: Annotated[tuple[float, float], arg(metavar="LOW HIGH")] = (0.0, 1.0)
    """Intensities that the image is scaled to first."""
    draws: Annotated[int, arg(metavar="N")] = 4
    """Columns of random draws."""
    seed: Annotated[int, arg(metavar="N")] = 0
    """Seed of all draws."""
    overwrite: Annotated[bool, arg(help_behavior_hint="")] = False
    """Replace the picture if it exists."""

    def __call__(self) -> None:
        """Write the picture and print what it shows."""
        from segjax.cli.console import print_facts, print_words
        from segjax.data.io.formats import check_same_grid, read_image, read_label
        from segjax.data.prepare.intensity import rescale
        from segjax.grid import grid
        from segjax.report.preview import draw_preview, preview_transforms
        from segjax.report.style import picture

        with picture(self.out, overwrite=self.overwrite) as save:
            image = read_image(self.image)
            label = read_label(self.label, like=grid(image)) if self.label else None
            if label:
                check_same_grid(image, label, (str(self.image), str(self.label)))
            image = image.with_data(rescale(image.data, *self.range))
            transforms = preview_transforms(self.recipe)
            drawn = draw_preview(image, label, transforms, seed=self.seed, columns=self.draws)
            save(drawn.figure)
        print_words(["transform", "draw", "parameters"], drawn.draws)
        labels = {} if self.label is None else {"labels": self.label}
        case = {"image": self.image, **labels, **drawn.facts, "seed": self.seed}
        print_facts({**case, "preview": self.out})
