"""``segjax export``: a run becomes one ONNX file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Export:
    """Write the network of a run as one ONNX file.

    The file holds the weights, the preprocessing, the label names and the patch size: with
    it alone `segjax predict` makes masks, without JAX. Before it is written, its answers
    are compared with those of the network in JAX.

    Examples:
        segjax export run                          # writes run/model.onnx
        segjax export run -o flair.onnx
        segjax export run -o last.onnx --which last
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Folder that segjax train wrote."""
    out: Annotated[
        Path | None,
        arg(aliases=["-o"], metavar="FILE", help_behavior_hint="(default: RUN/model.onnx)"),
    ] = None
    """The file to write."""
    which: Literal["best", "last"] = "best"
    """The checkpoint: of the best validation Dice, or the newest."""
    opset: Annotated[int, arg(metavar="N")] = 18
    """ONNX operator set."""
    overwrite: Annotated[bool, arg(help_behavior_hint="")] = False
    """Replace the file if it exists."""

    def __call__(self) -> None:
        """Export the run and print where the file is."""
        from segjax.cli.console import print_facts
        from segjax.train.devices import keep_freed_memory

        keep_freed_memory()
        from segjax_onnx.convert import export_onnx

        path = export_onnx(
            self.run,
            self.out or self.run / "model.onnx",
            which=self.which,
            overwrite=self.overwrite,
            opset=self.opset,
        )
        print_facts({"model": path})
