"""What a sweep shows on the screen while it runs."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from segjax.progress import BETWEEN_LINES, Lines, has_bar, make_bar
from segjax.text import clock, plural
from segjax.train.sweeps.member import Member, MemberResult, MemberRun

if TYPE_CHECKING:
    from rich.progress import Progress


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
        bar: "Progress | None" = None,
    ):
        self._members = {member.name: member for member in members}
        self._results = dict(results)
        self._epochs: dict[str, tuple[int, float]] = {}
        self._bar, self._lines = bar, Lines(between=BETWEEN_LINES)
        if bar is not None:
            self._task = bar.add_task("", total=len(members), completed=len(results), left="")

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
        error = f", {result.error}" if result.error else ""
        self._show(f"{told}, {plural(result.epochs, 'epoch')}{error}", always=True)

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
        sums: dict[int, tuple[int, float]] = {}
        for name, epochs, seconds in known:
            if name in self._members:
                kernel = self._members[name].kernel
                before = sums.get(kernel, (0, 0.0))
                sums[kernel] = before[0] + epochs, before[1] + seconds
        return {kernel: seconds / epochs for kernel, (epochs, seconds) in sums.items() if epochs}

    def _expected(self, member: Member) -> float:
        """Return how many epochs a member will have, by those of the finished ones."""
        ended = [r.epochs for r in self._results.values() if not r.error]
        longest = member.config.epochs
        return min(longest, sum(ended) / len(ended)) if ended else longest

    def _show(self, text: str, *, always: bool) -> None:
        left = self.seconds_left()
        told = "" if left is None else f"about {clock(left)} left"
        if self._bar is not None:
            name, done = text.partition(":")[0], len(self._results)
            self._bar.update(self._task, description=name, completed=done, left=told)
        else:
            line = f"{text}; {len(self._results)}/{len(self._members)} finished"
            self._lines.tell(f"{line}, {told}" if told else line, always=always)


@contextlib.contextmanager
def show_sweep(
    members: Sequence[Member], results: Mapping[str, MemberResult]
) -> Iterator[SweepDisplay]:
    """Show a sweep on standard error: a bar on a terminal, elsewhere plain lines."""
    if not has_bar():
        yield SweepDisplay(members, results)
        return
    with make_bar("finished", left="{task.fields[left]}") as bar:
        yield SweepDisplay(members, results, bar=bar)


def _rate(rates: Mapping[int, float], kernel: int) -> float:
    near = min(rates, key=lambda known: abs(known - kernel))
    return rates[near] * (kernel / near) ** 2
