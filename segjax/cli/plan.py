"""``segjax plan``: a look at the data becomes a configuration, with its reasons."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from segjax.cli.options import LABELS, LABELS_OF_DATA, MODELS, label_values, labelled_data

_NONE = "(default: none)"
_AUTO = "(default: from the data)"
_OF_DATA = "(default: of dataset.json)"
_AUTO_MEMORY = "(default: that of the GPU, or half of the computer's or container's)"


@dataclass(frozen=True)
class Plan:
    """Propose how to train on labelled images, and say why.

    Reads spacings, sizes and labels of all cases and the intensities of up to 60; decides
    spacing, network, patch, batch, normalisation, sampling and mirroring. What nothing in
    the data decides is as segjax train would have it. The file is for segjax train --config,
    to be changed at will.

    Examples:
        segjax plan brains
        segjax plan brains --out plan.json
        segjax train --data brains --config plan.json --out run
        segjax plan patients --images flair.nii.gz t1.nii.gz --label lesions.nii.gz
        segjax plan brats --labels 1,4=core 2=edema --out plan.json
    """

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """Folder of labelled images, or of subjects, whose files --images and --label name."""
    out: Annotated[
        Path | None, arg(aliases=["-o"], metavar="FILE.json", help_behavior_hint=_NONE)
    ] = None
    """File for the configuration."""
    images: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint=_NONE)] = ()
    """Image file of each channel in a subject's folder (* is any letters), or BIDS suffix."""
    label: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_NONE)] = None
    """Label file in a subject's folder, or BIDS suffix, as in label-lesion_mask."""
    labels: Annotated[tuple[str, ...], arg(metavar=LABELS, help_behavior_hint=LABELS_OF_DATA)] = ()
    """What label values stand for: 255=lesion, 1,4=core, 2=background, 3=ignore."""
    names: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint=_OF_DATA)] = ()
    """Names of the classes 1, 2, ..., where label values are the classes already."""
    model: Annotated[
        str | None, arg(metavar=f"{{{','.join(MODELS)}}}", help_behavior_hint=_AUTO)
    ] = None
    """Network, if it is decided already."""
    memory: Annotated[float | None, arg(metavar="GB", help_behavior_hint=_AUTO_MEMORY)] = None
    """Memory that a training may take."""
    overwrite: Annotated[bool, arg(help_behavior_hint="")] = False
    """Replace the file if it exists."""

    def __call__(self) -> None:
        """Print facts and reasons, and write the configuration."""
        from segjax.cli.console import print_facts, print_words
        from segjax.files import check_target
        from segjax.train.config import write_config
        from segjax.train.plans.plan import plan

        if self.out is not None:
            check_target(self.out, overwrite=self.overwrite)
        coding = label_values(self.labels, self.names)
        wanted = {"model": self.model, "label_values": coding}
        settings = {name: value for name, value in wanted.items() if value is not None}
        data = labelled_data(self.data, self.images, self.label, coding)
        made = plan(data, settings, look=True, memory_gb=self.memory, validation=0)
        print_facts(made.facts, title=f"Data {self.data}")
        rows = [(reason.choice, reason.value, reason.why) for reason in made.reasons]
        print_words(["", "proposed", "because"], rows)
        if self.out is not None:
            write_config(made.config, self.out, overwrite=self.overwrite)
            print_facts({"configuration": self.out})
