import pytest

from segjax.errors import InputError
from segjax.files import write_json
from segjax.pretrained.card import MeasuredDice, ModelCard, read_model_card
from tests.pretrained.toys import CARD


def test_a_card_comes_back_from_its_file(tmp_path):
    write_json(CARD, tmp_path / "over-zero.json")
    card = read_model_card(tmp_path / "over-zero.json")
    assert card.labels == ("lesion",)
    assert card.dice[0] == MeasuredDice("another patient", "both patients to train on", 0.741, 1)
    assert card.dice[1].label == "lesion"
    write_json(card.to_json(), tmp_path / "again.json")
    assert ModelCard.from_json(card.to_json()) == card
    with pytest.raises(InputError, match=r"again\.json: name is 'over-zero', but must be that of"):
        read_model_card(tmp_path / "again.json")


@pytest.mark.parametrize("field", CARD)
def test_no_field_may_be_missing(field, tmp_path):
    file = tmp_path / "over-zero.json"
    write_json({name: value for name, value in CARD.items() if name != field}, file)
    with pytest.raises(InputError, match=rf"over-zero\.json: .*{field}"):
        read_model_card(file)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "Over Zero", "name must be lower-case letters and digits, with hyphens between"),
        ("task", " ", "task must be one line of text"),
        ("input", "a\nb", "input must be one line of text"),
        ("labels", [], "labels must hold at least one"),
        ("limits", ["", "b"], r"limits\[0\] must be one line of text"),
        ("dice", [], "dice must hold at least one"),
        ("dice", [{**CARD["dice"][0], "value": 74}], r"dice\[0\]\.value must be .* from 0 to 1"),
        ("dice", [{**CARD["dice"][0], "cases": 0}], r"dice\[0\]\.cases must be a whole number"),
        ("dice", [{**CARD["dice"][0], "fold": 0}], r"dice\[0\]: unknown field 'fold'"),
        ("intended_use", "For the clinic.", "intended_use must be .* 'not for diagnosis'"),
        ("sha256", "ab12", "sha256 must be 64 hexadecimal digits"),
        ("parameters", 0, "parameters must be a whole number from 1 up"),
        ("license", 4, "license must be .*, not 4"),
        ("author", "me", "unknown field 'author'"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(field, value, message, tmp_path):
    write_json({**CARD, field: value}, tmp_path / "over-zero.json")
    with pytest.raises(InputError, match=rf"over-zero\.json: {message}"):
        read_model_card(tmp_path / "over-zero.json")


@pytest.mark.parametrize(("text", "message"), [("{", "is no JSON"), ("[]", "no JSON object")])
def test_a_file_that_is_no_card_is_named(text, message, tmp_path):
    (tmp_path / "over-zero.json").write_text(text)
    with pytest.raises(InputError, match=rf"over-zero\.json: .*{message}"):
        read_model_card(tmp_path / "over-zero.json")
