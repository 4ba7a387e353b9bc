"""``segjax models``: the networks that come with segjax."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from segjax.pretrained.card import MeasuredDice, ModelCard


@dataclass(frozen=True)
class Models:
    """Tell which trained networks come with segjax, and what each is for.

    Their names stand wherever a command takes a network: to segment, to follow up, to watch
    a folder, to look at, to export, and to start a training from.

    The card of one tells which images it takes, what it was trained on and how, whom its
    licences want named, what its Dice is on what, and where it fails. No model is for diagnosis.

    Examples:
        segjax models                                  # all of them
        segjax models ms-flair                         # the card of one
        segjax models ms-flair --json
        segjax predict ms-flair flair.nii.gz -o masks
        segjax predict meningioma slice.png -o masks
        segjax followup a.nii.gz b.nii.gz --model ms-flair
        segjax train --data patients --init ms-flair --out run
    """

    name: Annotated[
        Positional[str | None], arg(metavar="[NAME]", help_behavior_hint="(default: all)")
    ] = None
    """Model to tell of."""
    json: Annotated[bool, arg(help_behavior_hint="")] = False
    """Print the cards as JSON."""

    def __call__(self) -> None:
        """Print a table of all, or the card of one."""
        from segjax.cli.console import print_facts, print_words, say
        from segjax.pretrained.shipped import pretrained_model, pretrained_models

        chosen = pretrained_models() if self.name is None else [pretrained_model(self.name)]
        if self.json:
            plain = [{**card.to_json(), "path": str(card.path)} for card in chosen]
            print(json.dumps(plain if self.name is None else plain[0], indent=2))
        elif self.name is None:
            print_words(["name", "task", "size", "licence", "Dice"], map(_row, chosen))
            say("none is for diagnosis; segjax models NAME tells more")
        else:
            print_facts(_facts(chosen[0]), title=self.name)


def _row(card: "ModelCard") -> Sequence[str]:
    return card.name, card.task, _size(card), card.license, _dice(card.dice[0])


def _facts(card: "ModelCard") -> dict[str, Any]:
    """Return the card in the order in which a reader wants it."""
    return {
        "for": card.task,
        "use": card.intended_use,
        "images": card.input,
        "labels": ", ".join(f"{n}: {name}" for n, name in enumerate(card.labels, start=1)),
        "Dice": "\n".join(f"{_dice(row)}; {row.split}" for row in card.dice),
        "limits": "\n".join(card.limits),
        "trained on": card.data,
        "recipe": card.recipe,
        "made by": card.command,
        "licence": f"{card.license} (images and labels: {card.data_license})",
        "attribution": card.attribution,
        "cite": "\n".join(card.citations),
        "file": card.path,
        "size": f"{_size(card)}, {card.parameters:,} parameters",
        "SHA-256": card.sha256,
        "segjax": card.segjax_version,
    }


def _size(card: "ModelCard") -> str:
    return f"{card.path.stat().st_size / 1e3:,.0f} kB"


def _dice(row: "MeasuredDice") -> str:
    label = f"{row.label}: " if row.label else ""
    return f"{label}{row.value:.3f} on {row.on} (n = {row.cases})"
