"""``segjax predict``: an ONNX file and images become masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from segjax.data.cases import Case

_NONE = "(default: none)"
_FROM_MODEL = "(default: as in the model)"


@dataclass(frozen=True)
class Predict:
    """Segment images with an ONNX file; needs no JAX.

    Each mask has the name, the shape and the position in space of its image; images
    of one name are called as their folders. A folder stands for all the images in it;
    a DICOM series is one image, and its mask is NIfTI.

    A network of several channels reads files that end in _0000, _0001 and so on; or the
    files of one patient, named in the order of the channels, into a mask of the name of
    the first; or, with --images, the files of these names in every folder of a patient,
    into masks of the names of the folders.

    Several networks answer with the mean of their probabilities: name the folder of a
    cross-validation, or more files after --with.

    Examples:
        segjax predict run/model.onnx flair.nii.gz -o masks
        segjax predict cv patients/ -o masks --skip-existing
        segjax predict run/model.onnx flair.nii.gz t1.nii.gz -o masks
        segjax predict run/model.onnx patients/ --images flair.nii.gz t1.nii.gz -o masks
        segjax predict a.onnx flair.nii.gz -o masks --with b.onnx c.onnx --mirror 0 1
        segjax predict run/model.onnx patients/ -o masks --probabilities
        segjax predict run/model.onnx big.nii.gz -o masks --overlap 0.25 --batch-size 1
    """

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """ONNX file that segjax train or segjax export wrote, or the folder of a run."""
    sources: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="IMAGE...", help_behavior_hint="(required)")
    ]
    """Images (NIfTI, NRRD, MetaImage, PNG, NPY, DICOM) or folders of them."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")]
    """Folder for the masks."""
    images: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint=_NONE)] = ()
    """Image file of each channel in every subject's folder; * stands for any letters."""
    probabilities: Annotated[bool, arg(help_behavior_hint="")] = False
    """Write the probability of each class too."""
    series: Annotated[
        tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="(default: all)")
    ] = ()
    """DICOM series to segment, by name, number or UID, as segjax info lists them."""
    format: Annotated[
        str | None, arg(metavar="SUFFIX", help_behavior_hint="(default: as the images)")
    ] = None
    """Format of the masks: .nii.gz, .nii, .nrrd, .seg.nrrd, .png or .npy."""
    resample: Annotated[bool, arg(help_behavior_hint="")] = False
    """Bring tilted volumes upright first; their masks then lie on an upright grid."""
    strict: Annotated[bool, arg(help_behavior_hint="")] = False
    """Refuse images whose voxels or intensities are far from those of the training."""
    overwrite: Annotated[bool, arg(help_behavior_hint="")] = False
    """Replace masks that exist."""
    skip_existing: Annotated[bool, arg(help_behavior_hint="")] = False
    """Keep masks that exist, and make the others."""
    others: Annotated[
        tuple[Path, ...], arg(name="with", metavar="MODEL...", help_behavior_hint="(default: none)")
    ] = ()
    """More networks to average with."""
    mirror: Annotated[
        tuple[int, ...], arg(metavar="AXIS...", help_behavior_hint="(default: none)")
    ] = ()
    """Average over images mirrored along these axes, from 0 on: 2 to 8 times the work."""
    patch_size: Annotated[
        tuple[int, ...] | None, arg(metavar="N [N N]", help_behavior_hint=_FROM_MODEL)
    ] = None
    """Voxels that the network sees at a time."""
    overlap: Annotated[float | None, arg(metavar="0..1", help_behavior_hint=_FROM_MODEL)] = None
    """Fraction that neighbouring patches share: more is slower and smoother."""
    batch_size: Annotated[int | None, arg(metavar="N", help_behavior_hint=_FROM_MODEL)] = None
    """Patches at a time: fewer need less memory."""
    threads: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all cores)")] = (
        None
    )
    """Processor threads."""

    def __call__(self) -> None:
        """Write the masks and print their sizes."""
        from segjax.cli.console import print_facts, print_segmentations, say
        from segjax.data.layouts import find_inputs
        from segjax.workflow import check_all, segment
        from segjax_onnx.predict.predictor import Predictor

        predictor = Predictor(
            [self.model, *self.others],
            mirror_axes=self.mirror,
            threads=self.threads,
            patch_size=self.patch_size,
            overlap=self.overlap,
            batch_size=self.batch_size,
            strict=self.strict,
        )
        metadata = predictor.metadata
        named: dict[str, Any] = {"channels": metadata.in_channels, "images": self.images}
        cases = find_inputs(self.sources, series=self.series, **named)
        _print_channels(cases)
        options: dict[str, Any] = {
            "probabilities": self.probabilities,
            "overwrite": self.overwrite,
            "skip_existing": self.skip_existing,
            "resample": self.resample,
            "format": self.format,
        }
        results = list(segment(predictor, cases, self.out, **options))
        if not all(result.error for result in results):
            print_segmentations(results, metadata.labels[1:])
            print_facts({"masks": self.out})
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
