"""What a training shows on the screen while it runs."""

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax

from segjax.progress import Lines, has_bar, make_bar, say
from segjax.train.devices import is_first_host

_COMPILING = "compiling …"


@runtime_checkable
class Display(Protocol):
    """What :func:`show_training` gives to the loop."""

    def step(self, done: int, loss: float | None) -> None:
        """Show that so many steps of the whole training are done, and a recent loss."""

    def validate(self, epoch: int) -> None:
        """Show that the network of this epoch is being validated."""

    def epoch(self, epoch: int, loss: float, dice: float | None, best: float | None) -> None:
        """Show what an epoch gave."""


@contextlib.contextmanager
def show_training(epochs: int, steps_per_epoch: int, *, first_step: int = 0) -> Iterator[Display]:
    """Show a training on stderr: a bar on a terminal, elsewhere one plain line per epoch.

    Both tell epoch, loss, best Dice and the time left, and before the first loss that the network
    is being compiled. Of several hosts the first one shows it.

    Args:
        epochs: Epochs of the whole training.
        steps_per_epoch: Steps of each.
        first_step: Steps that are done already.
    """
    if not is_first_host():
        yield _Nothing()
        return
    if not has_bar():
        yield _Lines(epochs, first_step / steps_per_epoch)
        return
    told = "loss {task.fields[loss]} · best Dice {task.fields[best]}"
    with make_bar(told, counted=False) as progress:
        yield _Bar(progress, epochs, steps_per_epoch, first_step)


def show_resumption(epochs: int, steps_per_epoch: int, *, done: int, first_step: int) -> None:
    """Say on stderr where a training goes on.

    Args:
        epochs: Epochs of the whole training.
        steps_per_epoch: Steps of each.
        done: Epochs that are done already, validation included.
        first_step: Steps that are; where there are none, nothing is said.
    """
    if not first_step or not is_first_host():
        return
    within = first_step > done * steps_per_epoch
    where = f"in epoch {done + 1}" if within else f"after epoch {done}"
    say(f"goes on {where} of {epochs} (step {first_step} of {epochs * steps_per_epoch})")


def show_loading(way: str) -> None:
    """Say on stderr where an accelerator gets its training cases from.

    Args:
        way: Such as ``"kept on the device, 3.1 GB"``.
    """
    if jax.default_backend() != "cpu" and is_first_host():
        say(f"training cases: {way}")


class _Nothing:
    def step(self, done: int, loss: float | None) -> None: ...

    def validate(self, epoch: int) -> None: ...

    def epoch(self, epoch: int, loss: float, dice: float | None, best: float | None) -> None: ...


class _Bar:
    def __init__(self, progress: Any, epochs: int, steps_per_epoch: int, first_step: int):
        self._progress, self._epochs, self._per_epoch = progress, epochs, steps_per_epoch
        total = epochs * steps_per_epoch
        self._task = progress.add_task("", total=total, completed=first_step, loss="–", best="–")
        self._compiled = False
        self.step(first_step, None)

    def step(self, done: int, loss: float | None) -> None:
        epoch = min(done // self._per_epoch + 1, self._epochs)
        fields = {} if loss is None else {"loss": f"{loss:.4f}"}
        self._compiled = self._compiled or loss is not None
        doing = "" if self._compiled else f": {_COMPILING}"
        self._update(f"epoch {epoch}/{self._epochs}{doing}", completed=done, **fields)

    def validate(self, epoch: int) -> None:
        self._update(f"validating epoch {epoch}/{self._epochs}")

    def epoch(self, epoch: int, loss: float, dice: float | None, best: float | None) -> None:
        self._update(f"epoch {epoch}/{self._epochs}", loss=f"{loss:.4f}")
        if best is not None:
            self._progress.update(self._task, best=f"{best:.4f}")

    def _update(self, description: str, **fields: Any) -> None:
        self._progress.update(self._task, description=description, **fields)


class _Lines(_Nothing):
    def __init__(self, epochs: int, done: float):
        self._epochs, self._lines = epochs, Lines(epochs, done=done)
        say(_COMPILING)

    def epoch(self, epoch: int, loss: float, dice: float | None, best: float | None) -> None:
        told = {"loss": loss, "Dice": dice, "best": best}
        parts = [f"{name} {value:.4f}" for name, value in told.items() if value is not None]
        self._lines.tell(", ".join([f"epoch {epoch}/{self._epochs}", *parts]), epoch)
