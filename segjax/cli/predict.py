"""``segjax predict``: an ONNX file and images become masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from segjax.errors import InputError

if TYPE_CHECKING:
    from segjax.data.cases import Case
    from segjax_onnx.predict.predictor import Predictor

_NONE = "(default: none)"
_FROM_MODEL = "(default: as in the model)"
_OF_FILE = "(default: as the file says)"
_NUMBERS = "[LABEL=]NUMBER..."


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
    cross-validation, or more files after --with. How far they differ is their --uncertainty.

    The mask is the most probable label, unless the file holds rules: a threshold, a minimum
    volume, the largest component alone, filled holes. They can be given here, for all labels
    or for one by its name.

    Beside the masks lie volumes.csv (volume, number of lesions and the largest one of every
    case and label, SHA-256 of network and image, warnings, errors) and lesions.csv.

    Examples:
        segjax predict run/model.onnx flair.nii.gz -o masks
        segjax predict cv patients/ -o masks --skip-existing
        segjax predict run/model.onnx flair.nii.gz t1.nii.gz -o masks
        segjax predict run/model.onnx patients/ --images flair.nii.gz t1.nii.gz -o masks
        segjax predict a.onnx flair.nii.gz -o masks --with b.onnx c.onnx --mirror 0 1
        segjax predict run/model.onnx patients/ -o masks --probabilities
        segjax predict cv patients/ -o masks --uncertainty
        segjax predict run/model.onnx patients/ -o masks --threshold 0.4 --minimum-volume 14.1
        segjax predict brain.onnx patients/ -o masks --threshold edema=0.3 core=0.6
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
    missing: Annotated[tuple[str, ...], arg(metavar="CHANNEL...", help_behavior_hint=_NONE)] = ()
    """Channels that the images lack, by name, where segjax info says that they may be missing."""
    probabilities: Annotated[bool, arg(help_behavior_hint="")] = False
    """Write the probability of each class too."""
    uncertainty: Annotated[bool, arg(help_behavior_hint="")] = False
    """Write how far several answers differ too: of folds, of --with, of --mirror."""
    threshold: Annotated[tuple[str, ...], arg(metavar=_NUMBERS, help_behavior_hint=_OF_FILE)] = ()
    """Probability from which on a voxel is of a label, for all or by name."""
    minimum_volume: Annotated[
        tuple[str, ...], arg(metavar=_NUMBERS, help_behavior_hint=_OF_FILE)
    ] = ()
    """Remove components smaller than this, in mm³ (mm² in a picture)."""
    largest_component: Annotated[
        tuple[str, ...] | None, arg(metavar="[LABEL...]", help_behavior_hint=_OF_FILE)
    ] = None
    """Keep the largest component alone, of all labels or of these."""
    fill_holes: Annotated[
        tuple[str, ...] | None, arg(metavar="[LABEL...]", help_behavior_hint=_OF_FILE)
    ] = None
    """Fill what a label encloses, of all labels or of these."""
    no_postprocessing: Annotated[bool, arg(help_behavior_hint="")] = False
    """Leave the rules of the file out; those given here hold."""
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
    memory: Annotated[
        float | None, arg(metavar="GB", help_behavior_hint="(default: half of what is free)")
    ] = None
    """Memory that the command may take: volumes go through in parts where it is little."""
    threads: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all cores)")] = (
        None
    )
    """Processor threads."""
    device: Annotated[
        Literal["cpu", "cuda"] | None,
        arg(metavar="{cpu,cuda}", help_behavior_hint="(default: cuda where onnxruntime has it)"),
    ] = None
    """Where the network runs."""
    provider: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint=_NONE)] = ()
    """Or any of onnxruntime's execution providers, in order of preference."""

    def __call__(self) -> None:
        """Write the masks and print their sizes."""
        from segjax.cli.console import print_facts, print_segmentations, say
        from segjax.data.layouts import find_inputs
        from segjax.segment import check_all, segment

        predictor = self._predictor()
        metadata = predictor.metadata
        channels = metadata.in_channels - len(predictor.missing)
        named: dict[str, Any] = {"channels": channels, "images": self.images}
        cases = find_inputs(self.sources, series=self.series, **named)
        _print_channels(cases)
        options: dict[str, Any] = {
            "probabilities": self.probabilities,
            "uncertainty": self.uncertainty,
            "overwrite": self.overwrite,
            "skip_existing": self.skip_existing,
            "resample": self.resample,
            "format": self.format,
        }
        results = list(segment(predictor, cases, self.out, **options))
        if not all(result.error for result in results):
            print_segmentations(results, metadata.labels[1:])
            print_facts({"masks": self.out, "volumes": self.out / "volumes.csv"})
        failed = [result for result in results if result.error]
        for result in failed[1:]:  # the first one is the error that the command ends with
            say(f"{result.case}: {result.error}")
        check_all(results)

    def _predictor(self) -> "Predictor":
        from segjax_onnx.predict.postprocess import changed_rules
        from segjax_onnx.predict.predictor import Predictor

        if self.device and self.provider:
            raise InputError("--device and --provider: give one of both")
        predictor = Predictor(
            [self.model, *self.others],
            mirror_axes=self.mirror,
            memory=self.memory,
            threads=self.threads,
            patch_size=self.patch_size,
            overlap=self.overlap,
            batch_size=self.batch_size,
            providers=([self.device] if self.device else self.provider) or None,
            strict=self.strict,
        )
        predictor.missing = self.missing
        rules = () if self.no_postprocessing else predictor.postprocessing
        labels = predictor.metadata.labels
        predictor.postprocessing = changed_rules(rules, labels, self.changes())
        return predictor

    def changes(self) -> dict[str | None, dict[str, Any]]:
        """Return the rules that are asked for, by label; None for all."""
        changes: dict[str | None, dict[str, Any]] = {}
        for field in ("threshold", "minimum_volume"):
            for word in getattr(self, field):
                label, equals, _ = word.rpartition("=")
                changes.setdefault(label if equals else None, {})[field] = _number(field, word)
        for field in ("largest_component", "fill_holes"):
            named = getattr(self, field)
            for label in (None,) if named == () else named or ():
                changes.setdefault(label, {})[field] = True
        return changes


def _number(field: str, word: str) -> float:
    try:
        return float(word.rpartition("=")[2])
    except ValueError:
        option = field.replace("_", "-")
        raise InputError(f"--{option} {word}: give a number, or LABEL=NUMBER") from None


def _print_channels(cases: Sequence["Case"]) -> None:
    """Print which file is which channel, for the first case of several files."""
    from segjax.cli.console import print_facts

    case = next((case for case in cases if len(case.images) > 1), None)
    if case is not None:
        channels = ", ".join(f"{n}: {image}" for n, image in enumerate(case.images))
        print_facts({f"channels of {case.name}": channels})
