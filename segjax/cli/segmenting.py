"""What segmenting commands share: the network, how it runs, what becomes of its answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from segjax.errors import InputError

if TYPE_CHECKING:
    from segjax.segment import Companion
    from segjax_onnx.predict.predictor import Predictor

_NONE = "(default: none)"
_FROM_MODEL = "(default: as in the model)"
_OF_FILE = "(default: as the file says)"
_NUMBERS = "[LABEL=]NUMBER..."


@dataclass(frozen=True, kw_only=True)
class Segmenting:
    """Options of ``segjax predict`` and ``segjax watch``."""

    images: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint=_NONE)] = ()
    """Image file of each channel in a subject's folder (* is any letters), or BIDS suffix."""
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
    """DICOM series to segment: name, number or UID, or a description with stars: "*flair*"."""
    format: Annotated[
        str | None, arg(metavar="SUFFIX", help_behavior_hint="(default: as the images)")
    ] = None
    """Format of the masks: .nii.gz, .nii, .nrrd, .seg.nrrd, .png or .npy."""
    resample: Annotated[bool, arg(help_behavior_hint="")] = False
    """Bring tilted volumes upright first; their masks then lie on an upright grid."""
    dicom: Annotated[bool, arg(help_behavior_hint="")] = False
    """Write a DICOM segmentation and a report of volumes beside each mask of a DICOM series."""
    keep_empty_slices: Annotated[bool, arg(help_behavior_hint="")] = False
    """Keep slices of the DICOM segmentation in which a label has no voxel."""
    strict: Annotated[bool, arg(help_behavior_hint="")] = False
    """Refuse images whose voxels or intensities are far from those of the training."""
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

    def predictor(self, model: Path) -> "Predictor":
        """Return the network, as it is to run."""
        from segjax.cli.console import print_notices
        from segjax_onnx.predict.postprocess import changed_rules
        from segjax_onnx.predict.predictor import Predictor

        if self.device and self.provider:
            raise InputError("--device and --provider: give one of both")
        predictor = Predictor(
            [model, *self.others],
            mirror_axes=self.mirror,
            memory=self.memory,
            threads=self.threads,
            patch_size=self.patch_size,
            overlap=self.overlap,
            batch_size=self.batch_size,
            providers=([self.device] if self.device else self.provider) or None,
            strict=self.strict,
        )
        print_notices(predictor.files)
        predictor.missing = self.missing
        rules = () if self.no_postprocessing else predictor.postprocessing
        labels = predictor.metadata.labels
        predictor.postprocessing = changed_rules(rules, labels, self.changes())
        return predictor

    def named(self, predictor: "Predictor") -> dict[str, Any]:
        """Return what tells which images a network takes."""
        channels = predictor.metadata.in_channels - len(predictor.missing)
        return {"channels": channels, "images": self.images, "series": self.series}

    def written(self) -> dict[str, Any]:
        """Return what is written of each image."""
        return {
            "probabilities": self.probabilities,
            "uncertainty": self.uncertainty,
            "resample": self.resample,
            "format": self.format,
        }

    def beside(self, predictor: "Predictor") -> list["Companion"]:
        """Return what writes more beside each mask."""
        from segjax.dicom_out import dicom_objects

        if self.keep_empty_slices and not self.dicom:
            raise InputError("--keep-empty-slices is of --dicom: give both")
        if self.dicom and self.resample:
            raise InputError("--dicom and --resample: an upright mask lies on no slice; give one")
        return [dicom_objects(predictor, keep_empty=self.keep_empty_slices)] if self.dicom else []

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
