"""How far changes can be trusted: criteria, registration, warnings, the check."""

from dataclasses import replace

from segjax.report.followup_facts import Content
from segjax.report.followup_texts import followup_language
from segjax.report.followup_trust import (
    activity_table,
    check_table,
    checked,
    followup_warnings,
    registration_table,
)
from tests.followed_up import checked as with_check
from tests.followed_up import followed, with_comparison


def content_of(given, language="en"):
    return Content(given, (), {}, followup_language(language))


def warned(given):
    return [text.replace("\u00a0", " ") for text in followup_warnings(content_of(given))]


THICK = "Slices lie 3.0 mm apart: changes of lesions that are smaller are not certain."


def test_nothing_is_warned_of_that_is_not():
    assert warned(followed()) == [THICK]


def test_criteria_are_those_of_the_counts():
    given = followed(kinds=("new", "enlarged"))
    rows = activity_table(content_of(given), given.comparisons[0]).rows
    assert [row[1:] for row in rows] == [
        ("2", "–"), ("2", "no"), ("1", "no"), ("1", "yes"), ("2", "no"),
    ]  # fmt: skip


def test_masses_have_no_criteria_of_ms():
    given = replace(followed(), labels=("background", "meningioma"))
    assert activity_table(content_of(given), given.comparisons[0]) is None


def test_changes_that_are_not_sure_are_named():
    given = followed()
    changes = [
        replace(c, confidence=0.9 if c.kind == "stable" else 0.4)
        for c in given.comparisons[0].changes
    ]
    (text, _) = warned(with_comparison(given, changes=tuple(changes)))
    assert text == "4 changes are uncertain (confidence below 0.5): 1, 2, 3, 4."


def test_lesions_on_which_outlines_and_images_disagree_are_named():
    given = followed()
    changes = [
        replace(c, change_mm3=-40.0, confidence=0.5) if c.kind == "stable" else c
        for c in given.comparisons[0].changes
    ]
    (text, _) = warned(with_comparison(given, changes=tuple(changes)))
    assert text.startswith(
        "1 lesion is told as stable although its outlines changed (−0.040 ml in all)"
    )
    assert text.endswith(": 5.")


def test_without_outlines_the_page_says_what_new_and_gone_mean():
    given = followed()
    bare = [replace(visit, mask=None, loads=()) for visit in given.visits]
    (text, _) = warned(replace(given, visits=tuple(bare)))
    assert text.startswith("No outlines were given: a place that became brighter is told as new")


def test_many_small_changes_the_same_way_are_told():
    given = followed()
    stable = [c for c in given.comparisons[0].changes if c.kind == "stable"]
    changes = [replace(c, change_mm3=-20.0, number=n) for n in range(6, 12) for c in stable]
    (text, _) = warned(with_comparison(given, changes=tuple(changes)))
    assert text.startswith(
        "Outlines of 6 lesions that are told as stable changed by −0.120 ml in all: each within"
    )


def test_images_that_were_not_compared_are_told():
    (text, _) = warned(followed(compared=False))
    assert text == (
        "The intensities of visit 1 and visit 2 were not compared. "
        "Changes rest on the outlines alone."
    )


def test_of_many_visits_the_pair_is_named():
    given = followed(days=(203, 180))
    fits = [replace(fit, overlap=0.85) for fit in given.registration.pairs]
    given = replace(given, registration=replace(given.registration, pairs=tuple(fits)))
    one, other, _ = warned(given)
    assert one.startswith("visit 1 → visit 2: The brains of visit 1 and visit 2 overlap by 85 %")
    assert other.startswith("visit 2 → visit 3: The brains")


def test_what_is_not_known_of_a_registration_is_not_told():
    given = followed()
    fit = replace(given.registration.pairs[0], overlap=None)
    given = replace(given, registration=replace(given.registration, kind="affine", pairs=(fit,)))
    rows = dict(registration_table(content_of(given), given.comparisons[0]).rows)
    assert rows["kind"] == "affine: shifted, turned, scaled and sheared"
    assert "overlap of the brains (Dice)" not in rows
    bare = replace(given, registration=replace(given.registration, pairs=()))
    rows = dict(registration_table(content_of(bare), given.comparisons[0]).rows)
    assert list(rows) == ["kind", "half-way grid"]


def test_the_check_lists_all_sizes_and_their_sum():
    rows = check_table(content_of(with_check(followed()))).rows
    assert [row[:3] for row in rows] == [
        ("under 3 mm", "0", "0"), ("3 to 5 mm", "40", "33"), ("5 mm and more", "0", "0"),
        ("all", "40", "33"),
    ]  # fmt: skip
    assert rows[0][3] == "–"
    assert rows[1][3].replace("\u00a0", " ") == "82 % (68 % – 91 %)"


def test_a_check_without_a_network_says_what_was_found():
    content, said = content_of(with_check(followed())), "No network outlined them"
    assert checked(content)[1].startswith(said)
    assert said not in " ".join(checked(replace(content, files={"model": "model.onnx"})))


def test_a_check_that_put_nothing_in_says_so():
    content = content_of(with_check(followed(), put_in=False, copies=(0, 0)))
    assert check_table(content) is None
    first, last = checked(content)
    assert first == "No lesion was put in."
    assert last.endswith("changes in 0 of 2.")


def test_the_folder_of_shapes_is_told_without_its_place():
    given = with_check(followed())
    given = replace(given, check=replace(given.check, shapes="/home/someone/masks"))
    assert checked(content_of(given))[0].endswith("Shapes: masks.")


def test_without_a_check_nothing_is_told_of_it():
    assert checked(content_of(followed())) == []
    assert check_table(content_of(followed())) is None
