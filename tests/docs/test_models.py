"""The page of the models tells what their cards do."""

import re

from segjax.pretrained import pretrained_models
from tests.docs.conftest import HERE

PAGE = HERE.parents[1] / "docs" / "models.md"


def tables():
    """Return the lines of each table of the page, without its head."""
    found = re.findall(r"^\|[-|]+\|\n((?:\|.*\|\n)*)", PAGE.read_text(encoding="utf-8"), re.M)
    return [rows.splitlines() for rows in found]


def row(*cells):
    return f"| {' | '.join(cells)} |"


def test_models_are_told_as_their_cards_do():
    assert tables()[0] == [
        row(
            f"`{card.name}`",
            card.task,
            card.input,
            ", ".join(card.labels),
            card.license,
            f"{card.path.stat().st_size / 1e3:.0f} kB",
        )
        for card in pretrained_models()
    ]


def test_dice_is_told_as_the_cards_do():
    assert tables()[1] == [
        row(
            f"`{card.name}`",
            f"{one.on}{f' ({one.label})' if one.label else ''}",
            one.split,
            f"{one.value:.3f}",
            str(one.cases),
        )
        for card in pretrained_models()
        for one in card.dice
    ]
