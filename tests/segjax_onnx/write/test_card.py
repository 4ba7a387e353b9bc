import dataclasses
import json

import pytest

from segjax.errors import InputError
from segjax_onnx.predict.metadata import About, Code, Structure
from segjax_onnx.predict.postprocess import LabelRule
from segjax_onnx.write.card import Card, read_card
from tests.segjax_onnx.predict.test_metadata import FULL, METADATA

NAMES = METADATA.labels[1:]


def test_what_a_card_leaves_out_stays_as_it_is():
    assert Card().fill(FULL) == FULL
    assert Card(channels=("flair", "t1")).fill(METADATA) == dataclasses.replace(
        METADATA, channels=("flair", "t1")
    )


def test_rules_and_structures_are_given_by_the_names_of_labels(tmp_path):
    path = tmp_path / "card.json"
    card = {
        "channels": ["flair", "t1"],
        "optional_channels": ["t1"],
        "postprocessing": {NAMES[1]: {"minimum_volume": 3}},
        "structures": {
            NAMES[0]: {
                "color": [1, 2, 3],
                "code": {"scheme": "SCT", "value": "52988006", "meaning": "Lesion"},
            }
        },
        "about": {"license": "MIT", "dice": {NAMES[0]: 0.5}},
    }
    path.write_text(json.dumps(card), encoding="utf-8")
    filled = read_card(path).fill(METADATA)
    assert (filled.channels, filled.optional_channels) == (("flair", "t1"), ("t1",))
    assert filled.postprocessing == (LabelRule(), LabelRule(minimum_volume=3))
    code = Code("SCT", "52988006", "Lesion")
    assert filled.structures == (Structure((1, 2, 3), code), METADATA.structures[1])
    assert filled.about == About(license="MIT", dice={NAMES[0]: 0.5})


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"postprocessing": {"lesoin": {}}}, "unknown label 'lesoin'"),
        ({"structures": {"background": {"color": [0, 0, 0]}}}, "unknown label 'background'"),
        ({"channels": ["flair"]}, "channels must have in_channels names"),
        ({"optional_channels": ["t2"]}, "optional_channels must be of channels"),
    ],
)
def test_what_does_not_belong_to_the_network_is_refused(card, message):
    with pytest.raises(InputError, match=message):
        Card.from_json(card).fill(METADATA)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("[]", r"card\.json: holds no JSON object"),
        ('{"licence": "MIT"}', r"card\.json: unknown field 'licence'"),
        ('{"postprocessing": {"a": {"threshold": 2}}}', r"postprocessing\.a\.threshold must be"),
        ('{"structures": {"a": {"color": [1, 2]}}}', r"structures\.a\.color must be a list of 3"),
        ('{"about": {"dice": {"a": 50}}}', r"about\.dice\.a must be a number from 0 to 1"),
    ],
)
def test_a_card_that_is_none_is_refused_and_the_field_named(tmp_path, card, message):
    path = tmp_path / "card.json"
    path.write_text(card, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_card(path)
