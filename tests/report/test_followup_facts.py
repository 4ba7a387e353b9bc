"""What a follow-up's page tells: verdicts, figures of changes, tables."""

from dataclasses import replace

import pytest

from segjax.report.followup_facts import (
    Content,
    change_facts,
    growth_table,
    is_mass,
    labels_of,
    lesion_rows,
    load_of,
    tiles_of,
    verdict,
    visit_table,
)
from segjax.report.followup_texts import followup_language
from tests.followed_up import change, followed, with_comparison


def content_of(given, language="en"):
    return Content(given, (), {}, followup_language(language))


def plain(text):
    return text.replace("\u00a0", " ").replace("\u202f", " ")


def told(given, language="en"):
    return [plain(text) for text in verdict(content_of(given, language), given.comparisons[0])]


def facts_of(given, **more):
    changed = replace(given.comparisons[0].changes[0], **more)
    return {name: plain(text) for name, text in change_facts(changed, content_of(given))}


@pytest.mark.parametrize(
    ("kinds", "english", "french"),
    [
        (("new",), "1 new lesion; load 0.000 → 0.864 ml", "1 nouvelle lésion ; charge"),
        (("gone",), "1 lesion gone; load 0.216 → 0.000 ml (−100 %)", "1 lésion disparue ; charge"),
        (("shrunk",), "1 shrunk lesion; load 0.576 → 0.288 ml (−50 %)", "1 lésion réduite ; "),
        (("stable",), "No change found; load 0.384 → 0.384 ml (0.0 %)", "Aucun changement trouvé"),
        ((), "No lesion at either visit", "Aucune lésion, ni avant ni après"),
    ],
)
def test_the_verdict_names_what_changed(kinds, english, french):
    given = followed(kinds=kinds)
    (text,) = told(given)
    assert text == f"{english} in 203 days."
    (text,) = told(given, "fr")
    assert text.startswith(french)
    assert text.endswith(" en 203 jours.")


def test_two_scans_of_one_day_have_no_rates():
    given = followed(kinds=("enlarged",), days=(0,))
    assert told(given)[0].endswith(" in 0 days.")
    table = growth_table(content_of(given), given.comparisons[0])
    assert table.rows[0][2:5] == ("–", "–", "–")


def test_loads_are_of_masks_alone():
    given = followed(kinds=("new",))
    bare = [replace(visit, mask=None, loads=()) for visit in given.visits]
    given = replace(given, visits=tuple(bare))
    assert told(given) == ["1 new lesion in 203 days."]
    assert load_of(given.visits[0], 1) is None
    assert "load" not in tiles_of(content_of(given), given.comparisons[0])
    assert visit_table(content_of(given)).headings == ("visit", "date", "days since the first")


def test_a_label_that_a_mask_lacks_has_a_load_of_0():
    given = followed(kinds=("new",))
    assert load_of(given.visits[0], 1) == 0
    assert load_of(given.visits[0], 7) == 0


def test_volumes_have_digits_that_tell_them():
    given = followed(kinds=("enlarged",))
    small = facts_of(given, baseline_mm3=4.2, followup_mm3=12.5, change_mm3=8.3)
    assert (small["volume"], small["change"]) == ("0.004 → 0.013 ml", "+0.008 ml (+125 %)")
    large = facts_of(
        given,
        baseline_mm3=49_800.0,
        followup_mm3=41_200.0,
        change_mm3=-8600.0,
        change_percent=-17.3,
    )  # fmt: skip
    assert (large["volume"], large["change"]) == ("49.8 → 41.2 ml", "−8.60 ml (−17 %)")


def test_percentages_over_a_thousand_are_told_as_that():
    given = followed(kinds=("enlarged",))
    assert facts_of(given, change_percent=86_200.0)["change"].endswith("(> +1,000 %)")


def test_merged_lesions_tell_their_pieces():
    given = followed(kinds=("enlarged",))
    assert "pieces" not in facts_of(given)
    assert facts_of(given, baseline_parts=3)["pieces"] == "3 → 1"


def test_rates_are_told_where_dates_are_known():
    given = followed(kinds=("enlarged",))
    found = facts_of(given, percent_per_year=36.5, doubling_days=771.8)
    assert (found["change a year"], found["doubling time"]) == ("+36 %", "772 days")
    assert not {"change a year", "doubling time"} & facts_of(given).keys()


@pytest.mark.parametrize("more", [{"kind": "gone"}, {"kind": "shrunk", "percent_per_year": -180.0}])
def test_no_rate_leaves_less_than_nothing(more):
    given = followed(kinds=("shrunk",))
    found = facts_of(given, **{"percent_per_year": -50.0, **more})
    assert "change a year" not in found


def test_places_and_evidence_are_told():
    given = followed(kinds=("new",))
    found = facts_of(given, evidence="images", centre_ras=(-30.2, 5.0, 12.4))
    assert (found["seen in"], found["centre"]) == ("images", "L 30 · A 5 · S 12 mm")


def test_what_images_alone_show_has_no_volume_before_or_after():
    given = followed(kinds=("gone",))
    size = {"baseline_longest_mm": 8.0, "baseline_perpendicular_mm": 6.0}
    found = facts_of(given, evidence="images", **size)
    assert not {"volume", "may differ by"} & found.keys()
    assert (found["change"], found["diameters"]) == ("−0.216 ml", "8.0 × 6.0 mm")
    seen = [replace(c, evidence="images") for c in given.comparisons[0].changes]
    given = with_comparison(given, changes=tuple(seen))
    table = lesion_rows(content_of(given), given.comparisons[0])
    row = dict(zip(table.headings, map(plain, table.rows[0]), strict=True))
    unknown = ("before (ml)", "after (ml)", "change (%)", "tolerance (ml)")
    assert [row[name] for name in unknown] == ["–"] * 4
    assert row["change (ml)"] == "−0.216"


def test_columns_are_those_that_hold_something():
    given = followed()
    pair = given.comparisons[0]
    table = lesion_rows(content_of(given), pair)
    assert "% a year" not in table.headings
    assert "label" not in table.headings
    narrow = lesion_rows(content_of(given), pair, narrow=True)
    assert set(table.headings) - set(narrow.headings) == {"tolerance (ml)"}
    dated = [replace(c, percent_per_year=1.0, doubling_days=100.0) for c in pair.changes]
    given = with_comparison(given, changes=tuple(dated))
    table = lesion_rows(content_of(given), given.comparisons[0])
    assert {"% a year", "doubling (days)"} <= set(table.headings)
    assert all(len(row) == len(table.headings) for row in table.rows)


@pytest.mark.parametrize(
    ("label", "mass"),
    [("meningioma", True), ("Tumour core", True), ("lesion", False), ("massive lesion", False)],
)
def test_masses_are_known_by_their_names(label, mass):
    given = replace(followed(kinds=()), labels=("background", label))
    (found,) = labels_of(given)
    assert is_mass(found) is mass


def test_growth_is_that_of_a_calculation_by_hand():
    given = followed(kinds=("enlarged",), days=(365,))
    grown = change(1, "enlarged", 1000, 1250, (1, 1, 1), baseline_longest_mm=20.0,
                   baseline_perpendicular_mm=10.0, followup_longest_mm=24.0,
                   followup_perpendicular_mm=11.0)  # fmt: skip
    given = with_comparison(given, changes=(grown,))
    table = growth_table(content_of(given), given.comparisons[0])
    # 12 and 15 ml; 365.25 / 365 of 3 ml and of 25 % a year; 365 · ln 2 / ln 1.25 days;
    # 24 · 11 over 20 · 10 is 1.32
    assert [plain(cell) for cell in table.rows[0]] == [
        "1", "+3.00 ml", "+3.00 ml", "+25", "1,134", "+4.0 mm (+4.0 mm a year)",
        "+1.0 mm (+1.0 mm a year)", "+32", "progression",
    ]  # fmt: skip


def test_growth_of_many_lesions_that_are_no_mass_is_not_told():
    given = followed()
    assert growth_table(content_of(given), given.comparisons[0]) is None


def test_labels_without_any_name_are_lesions():
    given = replace(followed(kinds=()), labels=())
    bare = [replace(visit, mask=None, loads=()) for visit in given.visits]
    (label,) = labels_of(replace(given, visits=tuple(bare)))
    assert (label.value, label.name, label.several) == (1, "lesion", False)
