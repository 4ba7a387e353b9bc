"""``segjax export``: a run, or all runs of a cross-validation, become one ONNX file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from segjax.errors import InputError

_OPSET = 18


@dataclass(frozen=True)
class Export:
    """Write the network of a run as one ONNX file.

    The file holds the weights, the preprocessing, the label names and the patch size: with
    it alone `segjax predict` makes masks, without JAX. Before it is written, its answers
    are compared with those of the network in JAX.

    The networks of a cross-validation become one file whose answer is the mean of theirs.

    Examples:
        segjax export run                          # writes run/model.onnx
        segjax export run -o flair.onnx
        segjax export run -o last.onnx --which last
        segjax export cv --ensemble -o flair.onnx
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Folder that segjax train wrote."""
    out: Annotated[
        Path | None,
        arg(aliases=["-o"], metavar="FILE", help_behavior_hint="(default: RUN/model.onnx)"),
    ] = None
    """The file to write."""
    ensemble: Annotated[bool, arg(help_behavior_hint="")] = False
    """Merge the model.onnx of RUN/fold0, RUN/fold1, … as they are."""
    which: Literal["best", "last"] = "best"
    """The checkpoint: of the best validation Dice, or the newest."""
    opset: Annotated[int, arg(metavar="N")] = _OPSET
    """ONNX operator set."""
    overwrite: Annotated[bool, arg(help_behavior_hint="")] = False
    """Replace the file if it exists."""

    def __call__(self) -> None:
        """Export the run and print where the file is."""
        from segjax.cli.console import print_facts

        out = self.out or self.run / "model.onnx"
        print_facts({"model": self._merge(out) if self.ensemble else self._convert(out)})

    def _merge(self, out: Path) -> Path:
        from segjax_onnx.ensemble import export_ensemble

        if self.which != "best" or self.opset != _OPSET:
            raise InputError("--which and --opset belong to the export of each fold: leave them")
        return export_ensemble(self.run, out, overwrite=self.overwrite)

    def _convert(self, out: Path) -> Path:
        from segjax.train.devices import keep_freed_memory

        keep_freed_memory()
        from segjax_onnx.convert import export_onnx

        return export_onnx(
            self.run, out, which=self.which, overwrite=self.overwrite, opset=self.opset
        )
