"""``segjax export``: a run, the runs of a cross-validation, or weights become one ONNX file."""

import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from segjax.cli.options import PRESETS
from segjax.errors import InputError
from segjax.extras import needed_for

if TYPE_CHECKING:
    from segjax.data.prepare.pipeline import Pipeline
    from segjax_onnx.write.card import Card

_OPSET = 18
_VARIANTS = ("float16", "with_preprocessing")
_OF_WEIGHTS = ("names", "preset", "pipeline", "patch_size")
_OF_NETWORKS = ("ensemble", "which", "opset", "card")
_OF_PACKAGES = ("authors", "example")
_NONE = "(default: none)"


@dataclass(frozen=True)
class Export:
    """Write the network of a run, or one from PyTorch, as one ONNX file.

    The file holds the weights, the preprocessing, the label names and the patch size: with
    it alone `segjax predict` makes masks, without JAX. Before it is written, its answers
    are compared with those of the network in JAX.

    The networks of a cross-validation become one file whose answer is the mean of theirs.

    Weights that others trained become such a file too: what torch.save wrote of the
    state dict of MONAI's UNet (without residual units, strides of 2) or of the MPU-Net++
    of its authors, or the same as .safetensors. They do not say how images were
    preprocessed, what the labels mean and how large the patches were: you do.

    Examples:
        segjax export run                          # writes run/model.onnx
        segjax export run -o flair.onnx
        segjax export run -o last.onnx --which last
        segjax export run -o half.onnx --float16
        segjax export cv --ensemble -o flair.onnx
        segjax export run -o flair.onnx --card card.json --json
        segjax export flair.onnx -o flair.zip --bioimage --authors "Jane Doe"
        segjax export unet.pt -o unet.onnx --names meningioma --pipeline run/config.json
    """

    run: Annotated[Positional[Path], arg(metavar="RUN_OR_WEIGHTS")]
    """Folder that segjax train wrote, or weights: .pt, .pth, .ckpt, .bin, .safetensors; with
    --bioimage a file that segjax export wrote or a name of segjax models, too."""
    out: Annotated[
        Path | None,
        arg(
            aliases=["-o"],
            metavar="FILE",
            help_behavior_hint="(default: RUN/model.onnx, WEIGHTS.onnx)",
        ),
    ] = None
    """The file to write."""
    ensemble: Annotated[bool, arg(help_behavior_hint="")] = False
    """Merge the model.onnx of RUN/fold0, RUN/fold1, … as they are."""
    which: Literal["best", "last"] = "best"
    """The checkpoint: of the best validation Dice, or the newest."""
    opset: Annotated[int, arg(metavar="N")] = _OPSET
    """ONNX operator set."""
    float16: Annotated[bool, arg(help_behavior_hint="")] = False
    """Half the bytes, for GPUs; what it costs in Dice is measured on validation cases."""
    with_preprocessing: Annotated[bool, arg(help_behavior_hint="")] = False
    """Put the last steps, z-score of all voxels or min-max, and the mask into the graph."""
    overwrite: Annotated[bool, arg(help_behavior_hint="")] = False
    """Replace the file if it exists."""
    card: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint=_NONE)] = None
    """Names of channels, rules for the mask, colours, codes, licence, citation and the like."""
    json: Annotated[bool, arg(help_behavior_hint="")] = False
    """Write the metadata beside the file too, as JSON."""
    bioimage: Annotated[bool, arg(help_behavior_hint="")] = False
    """Write a package of the BioImage.IO Model Zoo, a .zip with test images and a cover; the
    network needs a licence and a citation, by --card."""
    authors: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint=_NONE)] = ()
    """Of a package: who made the network."""
    example: Annotated[
        tuple[Path, ...],
        arg(metavar="FILE...", help_behavior_hint="(default: a head that is made)"),
    ] = ()
    """Of a package: the image that it is tested with and shows, for all to see; a file for each
    channel."""
    names: Annotated[
        tuple[str, ...],
        arg(metavar="NAME...", help_behavior_hint="(default: label 1, label 2, ...)"),
    ] = ()
    """Of weights: the labels after the background, in the order of the outputs."""
    preset: Annotated[str | None, arg(metavar=PRESETS, help_behavior_hint=_NONE)] = None
    """Of weights: preprocessing of a study."""
    pipeline: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint=_NONE)] = None
    """Of weights: preprocessing, as a list of steps or a run's config.json."""
    patch_size: Annotated[
        tuple[int, ...] | None,
        arg(metavar="N [N N]", help_behavior_hint="(default: 512 512, or 64 64 64)"),
    ] = None
    """Of weights: voxels that the network saw at a time."""

    def __call__(self) -> None:
        """Export the network and print where the file is."""
        from segjax.cli.console import print_facts
        from segjax.files import check_new
        from segjax.runs.folder import RunFolder
        from segjax_onnx.predict.metadata import write_sidecar

        default = self.run.with_suffix(".onnx") if self._weights else RunFolder(self.run).model
        if self.bioimage:
            print_facts({"package": self._package(self.out or default.with_suffix(".zip"))})
            return
        self._refuse("belongs to --bioimage", *_OF_PACKAGES)
        out = self.out or default
        if self.json and not self.overwrite:
            check_new(out.with_suffix(".json"))
        made = self._make(out)
        beside = {"metadata": write_sidecar(made, overwrite=self.overwrite)} if self.json else {}
        print_facts({"model": made, **beside, **self._cost(made)})

    @property
    def _source(self) -> Path:
        from segjax.pretrained.shipped import model_path

        return model_path(self.run)

    @property
    def _weights(self) -> bool:
        return self._source.is_file() or bool(self.run.suffix and not self.run.exists())

    def _make(self, out: Path) -> Path:
        return self._adopt(out) if self._weights else self._of_run(out)

    def _package(self, out: Path) -> Path:
        from segjax_onnx.write.bioimage import check_package, write_bioimage

        self._refuse("a package holds it", "json")
        with needed_for("making a package"):
            import onnx  # noqa: F401  # its extra brings all that a package takes
        check_package(out, overwrite=self.overwrite)
        options: dict[str, Any] = {"authors": self.authors, "example": self.example or None}
        options["overwrite"] = self.overwrite
        if self._source.suffix == ".onnx":
            self._refuse("belongs to the export before", *_OF_NETWORKS, *_OF_WEIGHTS, *_VARIANTS)
            return write_bioimage(self._source, out, **options)
        with tempfile.TemporaryDirectory() as folder:
            return write_bioimage(self._make(Path(folder, "model.onnx")), out, **options)

    def _cost(self, made: Path) -> dict[str, str]:
        from segjax_onnx.predict.metadata import read_metadata

        half = read_metadata(made).float16 if self.float16 else None
        told = half.dice if half else {}
        return {f"Dice of {name} against 32 bits": f"{dice:.4f}" for name, dice in told.items()}

    def _of_run(self, out: Path) -> Path:
        if not self.run.exists():
            raise InputError(f"{self.run}: no such file or folder")
        self._refuse("a run keeps its own", *_OF_WEIGHTS)
        return self._merge(out) if self.ensemble else self._convert(out)

    def _refuse(self, why: str, *names: str) -> None:
        """Refuse options that are not at their defaults."""
        defaults = {field.name: field.default for field in fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise InputError(f"--{name.replace('_', '-')}: {why}; leave it out")

    def _adopt(self, out: Path) -> Path:
        from segjax_onnx.adopt.foreign import Usage, export_weights

        if self._source.suffix == ".onnx" and self._source.is_file():
            raise InputError(
                f"{self._source}: is exported already: copy it, or make a package by --bioimage"
            )
        self._refuse("weights are one network, and no training", "ensemble", "which", *_VARIANTS)
        usage = Usage(self.names, self._steps(), self.patch_size, self._card())
        options: dict[str, Any] = {"usage": usage, "overwrite": self.overwrite, "opset": self.opset}
        return export_weights(self._source, out, **options)

    def _card(self) -> "Card":
        from segjax_onnx.write.card import Card, read_card

        return read_card(self.card) if self.card else Card()

    def _steps(self) -> "Pipeline":
        from segjax.data.prepare.pipeline import Pipeline, read_pipeline
        from segjax.studies import study

        if self.preset and self.pipeline:
            raise InputError("--preset and --pipeline both give steps: leave one")
        if self.preset:
            return study(self.preset).pipeline()
        return read_pipeline(self.pipeline) if self.pipeline else Pipeline()

    def _merge(self, out: Path) -> Path:
        from segjax_onnx.write.merge import export_ensemble

        self._refuse("belongs to the export of each fold", "which", "opset", *_VARIANTS)
        return export_ensemble(self.run, out, overwrite=self.overwrite, card=self._card())

    def _convert(self, out: Path) -> Path:
        from segjax.train.devices import prepare_process

        prepare_process()
        from segjax_onnx.write.convert import export_onnx
        from segjax_onnx.write.variants import export_variant

        options: dict[str, Any] = {"opset": self.opset, "card": self._card()}
        options |= {"which": self.which, "overwrite": self.overwrite}
        if self.float16 or self.with_preprocessing:
            options |= {"float16": self.float16, "preprocessing": self.with_preprocessing}
            return export_variant(self.run, out, **options)
        return export_onnx(self.run, out, **options)
