"""``segjax predict``: an ONNX file and images become masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from segjax.cli.segmenting import Segmenting

if TYPE_CHECKING:
    from segjax.data.cases import Case


@dataclass(frozen=True)
class _Files:
    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """ONNX file that segjax train or segjax export wrote, the folder of a run, or the name of a
    model that comes with segjax."""
    sources: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="IMAGE...", help_behavior_hint="(required)")
    ]
    """Images (NIfTI, NRRD, MetaImage, PNG, NPY, DICOM) or folders of them."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")]
    """Folder for the masks."""


@dataclass(frozen=True)
class Predict(Segmenting, _Files):
    """Segment images with an ONNX file; needs no JAX.

    Each mask has the name, the shape and the position in space of its image; images
    of one name are called as their folders. A folder stands for all the images in it;
    a DICOM series is one image, and its mask is NIfTI.

    A network of several channels reads files that end in _0000, _0001 and so on; or the
    files of one patient, named in the order of the channels, into a mask of the name of
    the first; or, with --images, the files of these names in every folder of a patient,
    into masks of the names of the folders.

    Several networks answer with the mean of their probabilities: name the folder of a
    cross-validation, or more files after --with. How far they differ is their --uncertainty.

    The mask is the most probable label, unless the file holds rules: a threshold, a minimum
    volume, the largest component alone, filled holes. They can be given here, for all labels
    or for one by its name.

    Beside the masks lie volumes.csv (volume, number of lesions and the largest one of every
    case and label, SHA-256 of network and image, warnings, errors) and lesions.csv.

    Examples:
        segjax predict ms-flair flair.nii.gz -o masks  # a network of segjax models
        segjax predict run/model.onnx flair.nii.gz -o masks
        segjax predict cv patients/ -o masks --skip-existing
        segjax predict run/model.onnx flair.nii.gz t1.nii.gz -o masks
        segjax predict run/model.onnx patients/ --images flair.nii.gz t1.nii.gz -o masks
        segjax predict run/model.onnx bids/ --images FLAIR -o bids/derivatives/segjax --bids
        segjax predict a.onnx flair.nii.gz -o masks --with b.onnx c.onnx --mirror 0 1
        segjax predict run/model.onnx patients/ -o masks --probabilities
        segjax predict cv patients/ -o masks --uncertainty
        segjax predict run/model.onnx patients/ -o masks --threshold 0.4 --minimum-volume 14.1
        segjax predict brain.onnx patients/ -o masks --threshold edema=0.3 core=0.6
        segjax predict run/model.onnx scan/ -o masks --dicom
        segjax predict run/model.onnx big.nii.gz -o masks --overlap 0.25 --batch-size 1
    """

    overwrite: Annotated[bool, arg(help_behavior_hint="")] = False
    """Replace masks that exist."""
    skip_existing: Annotated[bool, arg(help_behavior_hint="")] = False
    """Keep masks that exist, and make the others."""
    bids: Annotated[bool, arg(help_behavior_hint="")] = False
    """Make DIR a BIDS derivative: sub-01/anat/sub-01_desc-LABEL_dseg.nii.gz, with side-cars."""

    def __call__(self) -> None:
        """Write the masks and print their sizes."""
        from segjax.cli.console import print_facts, print_segmentations, say
        from segjax.data.layouts import find_inputs
        from segjax.derivative import derived
        from segjax.segment import check_all, segment

        predictor = self.predictor(self.model)
        labels = predictor.metadata.labels[1:]
        cases = find_inputs(self.sources, **self.named(predictor))
        _print_channels(cases)
        replace = {"overwrite": self.overwrite, "skip_existing": self.skip_existing}
        options = self.written() | replace | {"companions": self.beside(predictor)}
        if self.bids:
            options |= derived(predictor, self.out, options)
        results = list(segment(predictor, cases, self.out, **options))
        if not all(result.error for result in results):
            print_segmentations(results, labels)
            print_facts({"masks": self.out, "volumes": self.out / "volumes.csv"})
        failed = [result for result in results if result.error]
        for result in failed[1:]:  # the first one is the error that the command ends with
            say(f"{result.case}: {result.error}")
        check_all(results)


def _print_channels(cases: Sequence["Case"]) -> None:
    """Print which file is which channel, for the first case of several files."""
    from segjax.cli.console import print_facts

    case = next((case for case in cases if len(case.images) > 1), None)
    if case is not None:
        channels = ", ".join(f"{n}: {image}" for n, image in enumerate(case.images))
        print_facts({f"channels of {case.name}": channels})
