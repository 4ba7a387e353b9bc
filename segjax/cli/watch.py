"""``segjax watch``: studies that arrive in a folder become masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from segjax.cli.segmenting import Segmenting


@dataclass(frozen=True)
class _Folders:
    inbox: Annotated[Positional[Path], arg(metavar="IN")]
    """Folder into which studies arrive; it is only read."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """Folder for the results and their log."""
    model: Annotated[Path, arg(aliases=["-m"], metavar="FILE")]
    """ONNX file that segjax train or segjax export wrote, the folder of a run, or a name of segjax
    models."""
    settle: Annotated[float, arg(metavar="SECONDS")] = 60.0
    """A study is complete when no file of it has come or changed for so long."""
    poll: Annotated[float, arg(metavar="SECONDS")] = 5.0
    """Time between two looks."""
    once: Annotated[bool, arg(help_behavior_hint="")] = False
    """End after --settle seconds and all that was complete then."""


@dataclass(frozen=True)
class Watch(Segmenting, _Folders):
    """Segment studies as they arrive in a folder, each one once.

    Each folder in IN is a study, each StudyInstanceUID of DICOM images, and each other image
    that lies in IN itself. A complete one becomes the folder OUT/NAME with masks and tables,
    and a line of OUT/watch.jsonl. One that cannot be segmented is set aside: the file
    OUT/failed/NAME.json says why; remove it, and the study is tried again. One that gets more
    images later is segmented anew, into OUT/NAME-2.

    Ctrl-C, a kill or a power cut at any moment loses nothing: the same command goes on.

    Examples:
        segjax watch incoming masks --model run/model.onnx
        segjax watch incoming masks --model run/model.onnx --dicom --settle 120
        segjax watch incoming masks --model run/model.onnx --once --settle 0
        segjax watch incoming masks --model run --images flair.nii.gz t1.nii.gz
    """

    def __call__(self) -> None:
        """Print a line for each study."""
        from segjax.cli.console import say
        from segjax.errors import InputError
        from segjax.watch import Task, watch

        predictor = self.predictor(self.model)
        companions = self.beside(predictor)
        task = Task(predictor, self.images, self.series, companions, self.written())
        times = {"settle": self.settle, "poll": self.poll}
        failed = []
        if not self.once:
            say(f"watching {self.inbox}; Ctrl-C ends")
        for record in watch(self.inbox, self.out, task, **times, once=self.once):
            reason = f": {record.reason}" if record.reason else ""
            say(f"{self.out / record.result}: {record.status}, {record.seconds:.1f} s{reason}")
            if record.status == "failed":
                failed.append(record)
        if failed:
            others = f" ({len(failed)} studies failed)" if len(failed) > 1 else ""
            raise InputError(f"{failed[0].study}: {failed[0].reason}{others}")
