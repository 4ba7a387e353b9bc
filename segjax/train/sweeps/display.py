"""What a sweep shows on the screen while it runs."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segjax.train.sweeps.member import Member, MemberResult, MemberRun

_BETWEEN_LINES = 30.0  # seconds between two lines about epochs, where there is no terminal


class SweepDisplay:
    """Tells, on standard error, how many members are finished and how long the rest may take.

    The time left takes from what is known: seconds of an epoch by kernel (of one that has not run
    yet, by the number of its weights), and epochs of the members that have stopped. It is the
    longest possible as long as none has.

    Args:
        members: All of the sweep.
        results: Of those that are finished already.
        bar: A progress bar on a terminal; None writes lines.
    """

    def __init__(
        self,
        members: Sequence[Member],
        results: Mapping[str, MemberResult],
        *,
        bar: Any | None = None,
    ):
        self._members = {member.name: member for member in members}
        self._results = dict(results)
        self._epochs: dict[str, tuple[int, float]] = {}
        self._bar, self._shown = bar, time.monotonic()
        self._task = bar and bar.add_task("", total=len(members), completed=len(results), left="")

    def epoch(self, run: MemberRun, loss: float) -> None:
        """Show what an epoch of a member gave."""
        progress, member = run.progress, run.member
        self._epochs[member.name] = progress.epoch, progress.seconds
        best = "" if progress.best_dice is None else f", best Dice {progress.best_dice:.4f}"
        epochs = f"epoch {progress.epoch}/{member.config.epochs}"
        self._show(f"{member.name}: {epochs}, loss {loss:.4f}{best}", always=False)

    def end(self, member: Member, result: MemberResult) -> None:
        """Show what a member came to."""
        self._results[member.name] = result
        self._epochs.pop(member.name, None)
        dice = (result.validation_dice, result.test_dice)
        texts = ["–" if value is None else f"{value:.4f}" for value in dice]
        told = f"{member.name}: validation Dice {texts[0]}, test Dice {texts[1]}"
        self._show(f"{told}, {result.epochs} epochs {result.error}".rstrip(), always=True)

    def seconds_left(self) -> float | None:
        """Estimate the time that the rest will take; ``None`` while nothing is known."""
        rates = self._rates()
        if not rates:
            return None
        left = 0.0
        for member in self._members.values():
            if member.name not in self._results:
                done = self._epochs.get(member.name, (0, 0.0))[0]
                left += max(0.0, self._expected(member) - done) * _rate(rates, member.kernel)
        return left

    def _rates(self) -> dict[int, float]:
        """Return the seconds of an epoch by kernel."""
        known = [(name, r.epochs, r.seconds) for name, r in self._results.items()]
        known += [(name, *done) for name, done in self._epochs.items()]
        rates: dict[int, float] = {}
        for kernel in {member.kernel for member in self._members.values()}:
            own = [k for k in known if k[0] in self._members]
            own = [k for k in own if self._members[k[0]].kernel == kernel]
            if epochs := sum(k[1] for k in own):
                rates[kernel] = sum(k[2] for k in own) / epochs
        return rates

    def _expected(self, member: Member) -> float:
        """Return how many epochs a member will have, by those of the finished ones."""
        ended = [r.epochs for r in self._results.values() if not r.error]
        longest = member.config.epochs
        return min(longest, sum(ended) / len(ended)) if ended else longest

    def _show(self, text: str, *, always: bool) -> None:
        left = self.seconds_left()
        told = "" if left is None else f"about {_duration(left)} left"
        if self._bar is not None:
            name, done = text.partition(":")[0], len(self._results)
            self._bar.update(self._task, description=name, completed=done, left=told)
        elif always or time.monotonic() - self._shown >= _BETWEEN_LINES:
            self._shown = time.monotonic()
            count = f"{len(self._results)}/{len(self._members)} finished"
            line = f"{text}; {', '.join(part for part in (count, told) if part)}"
            print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def show_sweep(
    members: Sequence[Member], results: Mapping[str, MemberResult]
) -> Iterator[SweepDisplay]:
    """Show a sweep on standard error: a bar on a terminal, elsewhere plain lines."""
    if not sys.stderr.isatty():
        yield SweepDisplay(members, results)
        return
    with _progress() as bar:
        yield SweepDisplay(members, results, bar=bar)


def _progress() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("finished ·"),
        TimeElapsedColumn(),
        TextColumn("· {task.fields[left]}"),
        console=Console(stderr=True),
        refresh_per_second=4,
    )


def _rate(rates: Mapping[int, float], kernel: int) -> float:
    near = min(rates, key=lambda known: abs(known - kernel))
    return rates[near] * (kernel / near) ** 2


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
