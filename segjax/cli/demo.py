"""``segjax demo``: the whole chain on synthetic heads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg


@dataclass(frozen=True)
class Demo:
    """Show the whole chain on synthetic heads, in minutes.

    Needs no data: makes MR-like heads with lesions, trains mpunet++ for a short while, writes the
    network as an ONNX file, and lets onnxruntime segment heads that the network has
    never seen. Look at overview.png first, then at report.html.

    Examples:
        segjax demo
        segjax demo --out ~/segjax-demo --seed 1
    """

    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")] = Path("segjax-demo")
    """Folder for everything that is made."""
    seed: Annotated[int, arg(metavar="N")] = 0
    """Of the heads, the first weights and the order of training."""

    def __call__(self) -> None:
        """Run the demo and print what it made."""
        from segjax.train.devices import prepare_process

        prepare_process()
        from segjax.cli.console import print_facts, print_scores, say
        from segjax.demo import run_demo

        result = run_demo(self.out, seed=self.seed, say=say)
        say("")
        print_scores(result.rows)
        say("")
        print_facts({**result.paths, "time": f"{result.seconds:.0f} s"})
        say("\nNow with your own data: segjax train --data FOLDER --out run")
