"""Words of a follow-up's page."""

import re

import pytest

from segjax.errors import InputError
from segjax.evaluate import difference
from segjax.report.followup_texts import followup_language
from segjax.report.patient_texts import language_of

ENGLISH, FRENCH = followup_language("en"), followup_language("fr")
OWN = sorted(
    name for name, text in ENGLISH.texts.items() if language_of("en").texts.get(name) != text
)


def blanks(text):
    return sorted(set(re.findall(r"\{(\w+)\}", text)))


def test_all_languages_have_the_same_texts():
    assert ENGLISH.texts.keys() == FRENCH.texts.keys()


def test_every_text_has_the_same_blanks_and_forms_in_all_languages():
    for name in OWN:
        assert blanks(ENGLISH[name]) == blanks(FRENCH[name]), name
        assert ENGLISH[name].count("|") == FRENCH[name].count("|"), name


def test_french_never_breaks_a_line_before_its_signs():
    for name in OWN:
        assert not re.search(r" [:;!?»]|« |[\w}][;!?]", FRENCH[name]), name
        assert not set("'\"") & set(FRENCH[name]), name


def test_words_of_a_patients_page_are_known_too():
    assert FRENCH["not_for_diagnosis"] == language_of("fr")["not_for_diagnosis"]
    assert FRENCH.translate("lesion") == "lésion"
    assert FRENCH.translate("drawn ellipsoids") == "ellipsoïdes tirés au sort"
    assert ENGLISH.translate("partial response") == "partial response"


@pytest.mark.parametrize("found", [(0.1, 0.0, 0.0), (1.0, 99.5, 0.0), (1.0, 0.0, 0.75)])
def test_all_reasons_not_to_compare_images_are_said_in_french(found):
    reason = difference._reason(*found)
    told = FRENCH.translate(reason)
    assert reason
    assert told != reason
    assert not set(told.split()) & {"the", "images:", "of", "brain"}
    assert not re.search(r"\d\.\d| [:?%]", told)
    assert ENGLISH.translate(reason) == reason


@pytest.mark.parametrize(("days", "told"), [(1, "en 1 jour"), (203, "en 203 jours")])
def test_days_have_their_form(days, told):
    assert FRENCH.many("in_days", days) == told


def test_another_language_is_refused():
    with pytest.raises(InputError, match="unknown language 'de': known are en, fr"):
        followup_language("de")
