"""``segjax raters``: several raters of the same images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segjax.evaluate.inter_rater import RatedCase

_NONE = "(default: none)"
_SUFFIX = {2: ".png", 3: ".nii.gz"}  # of a consensus, by its rank


@dataclass(frozen=True)
class Raters:
    """Compare the masks of several raters, and make their consensus.

    Gives Dice of every pair, of each rater with the majority of the others, kappa, and each
    rater's sensitivity and specificity by STAPLE, all within the box that holds what
    anybody marked. Files belong together by name.

    -o writes the consensus of STAPLE as masks, and raters.csv: one row for each case,
    label, rater and measure.

    Examples:
        segjax raters anna ben clara
        segjax raters anna ben clara -o consensus
        segjax raters labels masks            # a network as one of the raters
    """

    raters: Annotated[Positional[tuple[Path, ...]], arg(metavar="MASKS...")]
    """Of each rater a folder of masks, or one mask."""
    out: Annotated[Path | None, arg(aliases=["-o"], metavar="DIR", help_behavior_hint=_NONE)] = None
    """Folder for the consensus of each case and raters.csv."""
    overwrite: Annotated[bool, arg(help_behavior_hint="")] = False
    """Replace files that exist."""

    def __call__(self) -> None:
        """Print how far the raters agree."""
        from segjax.cli.console import print_facts, print_table, print_words
        from segjax.evaluate.inter_rater import rate_cases

        if self.out:
            self._check_target(self.out)
        rated = rate_cases(self.raters)
        cases = rated.cases
        for value in sorted({value for case in cases for value in case.agreement}):
            print_table(*_pairs(cases, value))
            print_table(*_qualities(cases, value))
        if self.out:
            self._write(cases, self.out)
            print_facts({"consensus": self.out, "table": self.out / "raters.csv"})
        if rated.failed:
            print_words(["failed, in no mean", "reason"], rated.failed)
        rated.check()

    def _check_target(self, folder: Path) -> None:
        from segjax.errors import InputError
        from segjax.files import check_target

        homes = (rater.parent if rater.is_file() else rater for rater in self.raters)
        if folder.resolve() in {home.resolve() for home in homes}:
            raise InputError(f"{folder}: holds the masks of a rater; name another folder")
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; name a folder")
        if not folder.parent.is_dir():
            raise InputError(f"{folder}: there is no folder {folder.parent}; create it first")
        if folder.is_dir():
            check_target(folder / "raters.csv", overwrite=self.overwrite)

    def _write(self, cases: "Sequence[RatedCase]", folder: Path) -> None:
        from segjax.data.io.formats import write_volume
        from segjax.files import check_target, write_csv
        from segjax.report.page import make_folder

        make_folder(folder)
        files = [folder / f"{case.case}{_SUFFIX[case.mask.spatial_dims]}" for case in cases]
        for file in files:
            check_target(file, overwrite=self.overwrite)
        for case, file in zip(cases, files, strict=True):
            write_volume(case.mask, file, overwrite=self.overwrite)
        rows = [row for case in cases for row in case.rows()]
        columns = ("case", "label", "rater", "measure", "value")
        write_csv([columns, *rows], folder / "raters.csv", overwrite=self.overwrite)


def _pairs(cases: "Sequence[RatedCase]", value: int) -> tuple[list[str], list[list[str]]]:
    """Return Dice of all pairs, and kappa, of each case."""
    own = [(case.case, case.agreement[value]) for case in cases if value in case.agreement]
    headings = [f"Dice of label {value}", *(" / ".join(pair) for pair in own[0][1].dice)]
    rows = [
        [name, *(f"{dice:.3f}" for dice in found.dice.values()), f"{found.fleiss_kappa:.3f}"]
        for name, found in own
    ]
    return [*headings, "Fleiss' kappa"], rows


def _qualities(cases: "Sequence[RatedCase]", value: int) -> tuple[list[str], list[list[str]]]:
    """Return what each rater comes to over the cases in which anybody marked the label."""
    from statistics import fmean

    from segjax.text import plural

    own = [case for case in cases if case.held(value)]
    rows = [
        [
            rater,
            f"{fmean(case.agreement[value].against_others[rater] for case in own):.3f}",
            f"{fmean(case.consensus[value].raters[rater].sensitivity for case in own):.3f}",
            f"{fmean(case.consensus[value].raters[rater].specificity for case in own):.3f}",
        ]
        for rater in (own[0].agreement[value].against_others if own else ())
    ]
    return [
        f"mean of {plural(len(own), 'case')}",
        "Dice with others",
        "STAPLE sensitivity",
        "specificity",
    ], rows
