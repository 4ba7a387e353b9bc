"""How far the changes of a follow-up can be trusted, and what criteria make of them."""

import math
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from segjax.evaluate.changes import drifting
from segjax.evaluate.followed import is_compared
from segjax.evaluate.followup import Comparison, FollowUp
from segjax.evaluate.registration import PairFit
from segjax.evaluate.statistics import Interval
from segjax.report.followup_facts import (
    Content,
    changed,
    is_mass,
    labels_of,
    names_of,
    signed_ml,
    visits_of,
)
from segjax.report.patient_facts import Table, grid_told
from segjax.report.patient_texts import Language

__all__ = [
    "activity_table",
    "check_table",
    "checked",
    "criteria_notes",
    "findable",
    "followup_warnings",
    "registration_table",
]

_UNSURE = 0.5  # confidence
_OVERLAP = 0.9  # Dice of brains that lie on each other
_INCONSISTENT = 1.0  # mm
_THICK = 2.95  # mm
_LISTED = 8  # numbers in a sentence
_DASH = "–"


def activity_table(content: Content, comparison: Comparison) -> Table | None:
    """Tell the MRI parts of Rio's scores and dissemination in time.

    None for masses, and where nothing was compared.
    """
    masses = any(is_mass(label) for label in labels_of(content.followup))
    if masses or not is_compared(content.followup, comparison):
        return None
    language, found = content.language, comparison.activity
    told = {
        "active": (found.active, None),
        "rio": (found.active, found.rio),
        "modified_rio": (found.new, found.modified_rio),
        "dit": (found.new, found.dissemination_in_time),
        "neda": (found.active, found.no_activity),
    }
    rows = []
    for name, (count, met) in told.items():
        answer = _DASH if met is None else language["met" if met else "not_met"]
        rows.append((language[name], language.number(count), answer))
    headings = (language["criterion"], language["number_of"], language["reached"])
    return Table(headings, tuple(rows))


def criteria_notes(language: Language) -> list[str]:
    """Return words of caution about the criteria, and where they come from."""
    return [language["criteria_told"], language["sources"]]


def registration_table(content: Content, comparison: Comparison) -> Table:
    """Tell how two visits were brought onto each other, and how well that is known."""
    registration, language = content.followup.registration, content.language
    kind = registration.kind if registration.kind != "none" else "unregistered"
    facts = [(language["registration_kind"], language.texts.get(kind, kind))]
    pair = _pair(content.followup, comparison)
    if pair is not None:
        facts += [
            (language["moved"], language.unit(language.number(pair.millimetres, 1), "mm")),
            (language["turned"], f"{language.number(pair.degrees, 1)}°"),
        ]
        if pair.overlap is not None:
            facts.append((language["overlap"], language.number(pair.overlap, 3)))
        inconsistent = language.unit(language.number(pair.inconsistency_mm, 2), "mm")
        facts += [
            (language["inconsistency"], inconsistent),
            (language["agreement"], language.number(pair.agreement, 2)),
            (language["similarity"], language.number(pair.similarity, 2)),
        ]
    facts.append((language["half_way"], grid_told(comparison.numbers, language)))
    return Table(("", ""), tuple(facts))


def followup_warnings(content: Content) -> list[str]:
    """Say what casts doubt on the changes."""
    followup, language = content.followup, content.language
    texts = []
    if followup.registration.kind == "none":
        texts.append(language["warn_unregistered"])
    for comparison in followup.comparisons:
        texts += _comparison_warnings(content, comparison)
    thickest = max(followup.registration.grid.spacing)
    if thickest >= _THICK:
        told = language.unit(language.number(thickest, 1), "mm")
        texts.append(language.say("warn_slices", spacing=told))
    if any(comparison.days is None for comparison in followup.comparisons):
        texts.append(language["warn_dates"])
    if followup.check is not None and followup.check.copies_changed:
        values = {"changed": followup.check.copies_changed, "count": len(followup.check.copies)}
        texts.append(language.say("warn_copies", **values))
    return texts


def checked(content: Content) -> list[str]:
    """Say what the check found; nothing where none was run."""
    followup, language = content.followup, content.language
    check = followup.check
    if check is None:
        return []
    count = len(check.put_in)
    visit, shapes = followup.visits[-1].name, language.translate(PurePath(check.shapes).name)
    texts = [language["check_none"]]
    if count:
        texts = [language.many("check_told", count, visit=visit, shapes=shapes)]
        if "model" not in content.files:
            texts.append(language["check_images"])
    texts += findable(content)
    if check.repeats:
        mean = language.number(check.false_changes_per_comparison, 1)
        texts.append(language.many("check_false", check.repeats, mean=mean))
    if check.copies:
        values = {"changed": check.copies_changed, "count": len(check.copies)}
        texts.append(language.say("check_copies", **values))
    return texts


def findable(content: Content) -> list[str]:
    """Say which new lesions would have been found; nothing where that is not known."""
    check, language = content.followup.check, content.language
    texts = []
    for size in () if check is None else check.sizes:
        if size.put_in:
            share, low, high = _shares(size.sensitivity, language)
            told = _between("found", size.from_mm, size.to_mm, language)
            texts.append(language.say("check_found", size=told, share=share, low=low, high=high))
    return texts


def check_table(content: Content) -> Table | None:
    """List the sensitivity of the check by size; None where nothing was put in."""
    check, language = content.followup.check, content.language
    if check is None or not check.put_in:
        return None
    rows = [
        (
            _between("sizes", size.from_mm, size.to_mm, language),
            language.number(size.put_in),
            language.number(size.found),
            _interval(size.sensitivity, language),
        )
        for size in check.sizes
    ]
    found = sum(lesion.found for lesion in check.put_in)
    total = (language["check_all"], len(check.put_in), found, check.sensitivity)
    name, put, hit, share = total
    rows.append((name, language.number(put), language.number(hit), _interval(share, language)))
    headings = ("check_size", "check_put", "check_hit", "check_share")
    return Table(tuple(language[each] for each in headings), tuple(rows))


def _comparison_warnings(content: Content, comparison: Comparison) -> list[str]:
    followup, language = content.followup, content.language
    first, second = names_of(followup, comparison)
    named = {"first": first, "second": second}
    texts = []
    masked = any(visit.mask is not None for visit in visits_of(followup, comparison))
    if text := _intensities_told(content, comparison):
        texts.append(f"{text} {language['outlines_alone']}" if masked else text)
    pair = _pair(followup, comparison)
    if pair is not None and pair.overlap is not None and pair.overlap < _OVERLAP:
        overlap = language.unit(language.number(100 * pair.overlap), "%")
        texts.append(language.say("warn_overlap", overlap=overlap, **named))
    if pair is not None and pair.inconsistency_mm > _INCONSISTENT:
        mm = language.unit(language.number(pair.inconsistency_mm, 1), "mm")
        texts.append(language.say("warn_inconsistent", mm=mm, **named))
    changes = changed(comparison)
    unsure = [c.number for c in changes if c.confidence < _UNSURE]
    if unsure:
        values = {"least": language.number(_UNSURE, 1), "numbers": _listed(unsure)}
        texts.append(language.many("warn_unsure", len(unsure), **values))
    doubted = [c for c in comparison.changes if c.contradicted]
    if doubted:
        values = {
            "change": signed_ml(sum(c.change_mm3 for c in doubted) / 1e3, language),
            "numbers": _listed([c.number for c in doubted]),
        }
        texts.append(language.many("warn_disagree", len(doubted), **values))
    for label in labels_of(followup):
        if drift := drifting([c for c in comparison.changes if c.value == label.value]):
            told = signed_ml(sum(c.change_mm3 for c in drift) / 1e3, language)
            texts.append(language.say("warn_drift", n=language.number(len(drift)), change=told))
    seen = [c.number for c in changes if c.evidence == "images"]
    if seen and masked:
        texts.append(language.many("warn_images", len(seen), numbers=_listed(seen)))
    if not masked and is_compared(followup, comparison):
        texts.append(language["warn_images_alone"])
    several = len(followup.comparisons) > 1
    return [f"{first} → {second}{language['colon']}{text}" if several else text for text in texts]


def _intensities_told(content: Content, comparison: Comparison) -> str:
    """Say that images were not compared, and why; nothing where they were, or are not there."""
    language = content.language
    visits = visits_of(content.followup, comparison)
    named = dict(zip(("first", "second"), names_of(content.followup, comparison), strict=True))
    if comparison.difference is None:
        there = all(visit.image is not None for visit in visits)
        return language.say("warn_not_compared", **named) if there else ""
    if comparison.difference.reliable:
        return ""
    reason = language.translate(comparison.difference.reason)
    reason += "" if reason.endswith(("?", ".")) else "."
    return language.say("warn_unreliable", reason=reason, **named)


def _listed(numbers: Sequence[int]) -> str:
    """Write the first numbers, and how many there are more."""
    more = f" (+{len(numbers) - _LISTED})" if len(numbers) > _LISTED else ""
    return ", ".join(map(str, numbers[:_LISTED])) + more


def _pair(followup: FollowUp, comparison: Comparison) -> PairFit | None:
    """Return how two visits were registered; None where that is not known."""
    wanted = (comparison.first, comparison.second)
    pairs = followup.registration.pairs
    return next((pair for pair in pairs if (pair.first, pair.second) == wanted), None)


def _between(what: str, low: float, high: float | None, language: Language) -> str:
    """Write a class of size in the words that begin so."""

    def told(mm: float) -> str:
        return language.number(mm, 0 if mm == round(mm) else 1)

    if high is None or np.isinf(high):
        return language.say(f"{what}_above", low=told(low))
    if low <= 0:
        return language.say(f"{what}_below", high=told(high))
    return language.say(f"{what}_between", low=told(low), high=told(high))


def _shares(share: Interval, language: Language) -> list[str]:
    return [
        language.unit(language.number(100 * value), "%")
        for value in (share.value, share.low, share.high)
    ]


def _interval(share: Interval, language: Language) -> str:
    if math.isnan(share.value):
        return _DASH
    value, low, high = _shares(share, language)
    return f"{value} ({low} {_DASH} {high})"
