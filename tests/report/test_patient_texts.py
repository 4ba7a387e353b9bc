"""Words and numbers of a patient's page."""

import re

import numpy as np
import pytest

from segjax.data.seen import Sight, seen_in
from segjax.errors import InputError
from segjax.grid import Grid
from segjax.report.patient_texts import LANGUAGES, language_of

ENGLISH, FRENCH = language_of("en"), language_of("fr")
HARD, NARROW = "\u00a0", "\u202f"


def blanks(text):
    return sorted(set(re.findall(r"\{(\w+)\}", text)))


def test_every_text_has_the_same_blanks_and_forms_in_all_languages():
    for name, first in ENGLISH.texts.items():
        second = FRENCH.texts[name]
        assert blanks(first) == blanks(second), name
        assert first.count("|") == second.count("|"), name


def test_all_languages_have_the_same_texts():
    names = {frozenset(language.texts) for language in LANGUAGES.values()}
    assert len(names) == 1


def test_french_never_breaks_a_line_before_its_signs():
    for text in FRENCH.texts.values():
        assert not re.search(r" [:;!?»]|« ", text)
        assert not re.search(r"[\w}][;!?]", text)
        assert "'" not in text
        assert '"' not in text
    assert FRENCH["colon"] == f"{HARD}: "
    assert f"étiquette{NARROW}; la" in FRENCH["define_lesion"]


@pytest.mark.parametrize(
    ("value", "digits", "english", "french"),
    [
        (1234.5, 1, "1,234.5", f"1{NARROW}234,5"),
        (0, 2, "0.00", "0,00"),
        (-0.001, 1, "0.0", "0,0"),
        (-3.25, 2, "−3.25", "−3,25"),
        (12, 0, "12", "12"),
    ],
)
def test_numbers_are_written_as_the_language_does(value, digits, english, french):
    assert ENGLISH.number(value, digits) == english
    assert FRENCH.number(value, digits) == french


@pytest.mark.parametrize(
    ("count", "english", "french"),
    [
        (0, "0 lesions", "0 lésion"),
        (1, "1 lesion", "1 lésion"),
        (2, "2 lesions", "2 lésions"),
        (1200, "1,200 lesions", f"1{NARROW}200 lésions"),
    ],
)
def test_counts_have_the_form_that_the_language_wants(count, english, french):
    assert ENGLISH.many("lesions", count) == english
    assert FRENCH.many("lesions", count) == french


def test_all_that_a_network_may_doubt_is_said_in_french():
    head = Grid((64, 64, 64), np.eye(4))
    thick = Grid((64, 64, 20), np.diag([1.0, 1.0, 6.5, 1.0]))
    one = seen_in([Sight(head, head, ((-1.0, 3.0),))])
    two = seen_in([Sight(head, head, ((-1.0, 3.0), (0.0, 1.0)))])
    doubts = [
        *one.doubts(Sight(thick, head, ((-1.0, 90.5),))),
        *two.doubts(Sight(head, head, ((-1.0, 3.0), (0.0, 9.0)))),
    ]
    said = [FRENCH.translate(doubt) for doubt in doubts]
    assert len(said) == 3
    assert (
        said[0] == "ses voxels de 1 × 1 × 6,5 mm sont loin de ceux de l’entraînement (1 × 1 × 1 mm)"
    )
    assert "de -1 à 90,5," in said[1]
    assert "du canal 1 " in said[2]
    assert [ENGLISH.translate(doubt) for doubt in doubts] == doubts


def test_words_that_are_not_known_stay_as_they_are():
    assert FRENCH.translate("nid de lésions") == "nid de lésions"
    assert FRENCH.translate("lesion") == "lésion"


def test_another_language_is_refused_with_those_that_are_known():
    with pytest.raises(InputError, match="unknown language 'de': known are en, fr"):
        language_of("de")
