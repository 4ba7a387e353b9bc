"""What a follow-up's page tells, in words and tables; HTML and PDF show the same."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from segjax.evaluate.activity import growth_of
from segjax.evaluate.changes import KINDS, LesionChange
from segjax.evaluate.followed import is_compared
from segjax.evaluate.followup import Comparison, FollowUp, Placed
from segjax.evaluate.measure import LabelMeasures
from segjax.provenance import here_and_now
from segjax.report.followup_slices import AFTER, BEFORE, COLOURS, SIGNS, Scene
from segjax.report.patient_facts import Table, ml_digits, place_told, times
from segjax.report.patient_texts import Language

__all__ = [
    "Content",
    "Label",
    "change_facts",
    "change_heading",
    "changed",
    "comparison_name",
    "days_of",
    "followup_definitions",
    "followup_made",
    "followup_title",
    "growth_table",
    "is_mass",
    "kinds_of",
    "labels_of",
    "lesion_rows",
    "load_of",
    "names_of",
    "outlines_told",
    "signed_ml",
    "tiles_of",
    "verdict",
    "visit_table",
    "visits_of",
]

_SURE = 0.8  # confidence
_MASSES = re.compile(
    r"tumou?r|meningioma|glioma|mass\b|metasta|schwannoma|adenoma|cyst|edema", re.I
)
_ORIGINS = ("image", "mask", "brain", "model")  # of files, as the texts name them
_WHOLE = -100.0  # percent
_MOST = 1000.0  # percent; more says nothing
_FEW = 3  # lesions of which each one's growth is told
_DASH = "–"


@dataclass(frozen=True, eq=False)
class Content:
    """What page and sheets show.

    Attributes:
        followup: The visits and what changed.
        scenes: What is drawn of each comparison.
        files: What it came from, by the names that the page gives them.
        language: Of all texts.
    """

    followup: FollowUp
    scenes: tuple[Scene, ...]
    files: Mapping[str, str]
    language: Language


class Label(NamedTuple):
    """A label: its value, its name, and whether the page has to tell it from others."""

    value: int
    name: str
    several: bool


def followup_title(followup: FollowUp, language: Language) -> str:
    """Return the heading of the page."""
    if not followup.subject:
        return language["title_alone"]
    return language.say("title", name=followup.subject)


def comparison_name(content: Content, comparison: Comparison) -> str:
    """Return the names of both visits."""
    first, second = names_of(content.followup, comparison)
    return content.language.say("from_to", first=first, second=second)


def changed(comparison: Comparison) -> list[LesionChange]:
    """Return the changes but for stable lesions, as they are ordered."""
    return [change for change in comparison.changes if change.kind != "stable"]


def kinds_of(comparison: Comparison) -> list[str]:
    """Return the kinds of its changes but for stable lesions, in their order."""
    there = {change.kind for change in changed(comparison)}
    return [kind for kind in KINDS if kind in there]


def outlines_told(
    content: Content, comparison: Comparison, shown: Sequence[LesionChange]
) -> list[tuple[str, str, str]]:
    """Explain the outlines of changes: colour, style of the line, and what it is.

    Args:
        content: Whose language is spoken.
        comparison: Two visits.
        shown: Those of their changes that are drawn.
    """
    language = content.language
    entries = []
    if any(visit.mask is not None for visit in visits_of(content.followup, comparison)):
        entries = [
            (BEFORE, "dotted", language["outline_before"]),
            (AFTER, "solid", language["outline_after"]),
        ]
    for kind in kinds_of(comparison):
        if any(change.kind == kind and change.evidence == "images" for change in shown):
            told = language.say("outline_seen", kind=language[kind])
            entries.append((COLOURS[kind], "solid", told))
    return entries


def verdict(content: Content, comparison: Comparison) -> list[str]:
    """Say in a sentence for each label what changed.

    Such as ``2 new lesions, 1 enlarged, 1 gone; load 3.10 → 4.00 ml (+29 %) in 203 days.``

    Args:
        content: Whose language is spoken.
        comparison: Two visits.
    """
    language = content.language
    if not is_compared(content.followup, comparison):
        return [language["not_compared"]]
    sentences = []
    for label in labels_of(content.followup):
        own = [c for c in comparison.changes if c.value == label.value]
        loads = [load_of(visit, label.value) for visit in visits_of(content.followup, comparison)]
        empty = not own and loads == [0, 0]
        parts = [language["no_lesion_at_all"] if empty else _counted(own, language)]
        if load := _load_told(content.followup, comparison, label.value, language):
            parts.append(load)
        text = "; ".join(parts) if language.code == "en" else " ; ".join(parts)
        if comparison.days is not None:
            text += f" {language.many('in_days', comparison.days)}"
        name = language.translate(label.name)
        sentences.append(_sentence(f"{name}{language['colon']}{text}" if label.several else text))
    return sentences


def tiles_of(content: Content, comparison: Comparison) -> dict[str, str]:
    """Return counts and loads by their names; none where nothing was compared."""
    followup, language = content.followup, content.language
    facts: dict[str, str] = {}
    if not is_compared(followup, comparison):
        return facts
    for kind in KINDS:
        count = getattr(comparison.activity, kind)
        name = language.many(f"lesions_{kind}", count)
        facts[f"{SIGNS[kind]} {name}"] = language.number(count)
    for label in labels_of(followup):
        before, after = (load_of(visit, label.value) for visit in visits_of(followup, comparison))
        if before is not None and after is not None:
            named = language.say("load_of", label=language.translate(label.name))
            name = named if label.several else language["load_of_one"]
            facts[name] = _from_to(before, after, language)
    changes = changed(comparison)
    if changes:
        sure = sum(change.confidence >= _SURE for change in changes)
        name = language.say("sure", least=language.number(_SURE, 1))
        facts[name] = language.say("sure_of", n=sure, count=len(changes))
    return facts


def change_heading(change: LesionChange, content: Content) -> str:
    """Return number, sign and kind of a change, and its label where there are several."""
    language = content.language
    kind = f"{SIGNS[change.kind]} {language[change.kind]}"
    text = language.say("change_heading", number=change.number, kind=kind)
    if len(labels_of(content.followup)) > 1:
        text += f" · {language.translate(change.label)}"
    return text


def change_facts(change: LesionChange, content: Content) -> list[tuple[str, str]]:
    """Return what is told of a change beside its pictures: names and values."""
    language = content.language
    facts = _volume_facts(change, language)
    if any(pair != _DASH for pair in _diameters(change, language)):
        before, after = _diameters(change, language)
        seen = before if after == _DASH else after
        told = seen if _of_images(change) else f"{before} → {after}"
        facts.append((language["diameters_name"], language.unit(told, "mm")))
    if (change.baseline_parts, change.followup_parts) not in ((0, 1), (1, 0), (1, 1)):
        facts.append((language["parts"], f"{change.baseline_parts} → {change.followup_parts}"))
    if (rate := _rate(change)) is not None:
        facts.append((language["rate"], _percent(rate, language)))
    if change.doubling_days is not None:
        days = round(change.doubling_days)
        facts.append((language["doubling"], language.many("days_unit", days)))
    return [
        *facts,
        (language["confidence"], language.number(change.confidence, 2)),
        (language["evidence"], language[change.evidence]),
        (language["centre_name"], language.unit(place_told(change.centre_ras, language), "mm")),
    ]


def lesion_rows(content: Content, comparison: Comparison, *, narrow: bool = False) -> Table:
    """List all lesions of a comparison, the largest change first.

    Args:
        content: Whose language is spoken.
        comparison: Two visits.
        narrow: Whether for a sheet of paper, with fewer columns.
    """
    language, changes = content.language, comparison.changes
    smallest = min((max(c.baseline_mm3, c.followup_mm3) for c in changes), default=0.0) / 1e3
    digits = ml_digits(smallest)
    columns: dict[str, list[str]] = {
        "number": [str(c.number) for c in changes],
        "kind": [f"{SIGNS[c.kind]} {language[c.kind]}" for c in changes],
    }
    if len(labels_of(content.followup)) > 1:
        columns["label_name"] = [language.translate(c.label) for c in changes]
    columns |= {
        "volume_before": [_outlined(c, c.baseline_mm3, digits, language) for c in changes],
        "volume_after": [_outlined(c, c.followup_mm3, digits, language) for c in changes],
        "change_ml": [_signed(c.change_mm3 / 1e3, digits, language) for c in changes],
        "change_percent": [
            _known(None if _of_images(c) else c.change_percent, language) for c in changes
        ],
        "tolerance_ml": [_outlined(c, c.tolerance_mm3, digits, language) for c in changes],
        "diameters_before": [_diameters(c, language)[0] for c in changes],
        "diameters_after": [_diameters(c, language)[1] for c in changes],
    }
    if any(_rate(c) is not None for c in changes) and not narrow:
        columns["percent_per_year"] = [_known(_rate(c), language) for c in changes]
    if any(c.doubling_days is not None for c in changes) and not narrow:
        columns["doubling_days"] = [
            _DASH if c.doubling_days is None else language.number(c.doubling_days) for c in changes
        ]
    columns |= {
        "confidence": [language.number(c.confidence, 2) for c in changes],
        "evidence": [language[c.evidence] for c in changes],
        "centre": [place_told(c.centre_ras, language) for c in changes],
    }
    if narrow:
        columns.pop("tolerance_ml")
    headings = {**{name: language[name] for name in columns}}
    headings["centre"] = language.say("centre", unit="mm")
    rows = tuple(zip(*columns.values(), strict=True))
    return Table(tuple(headings[name] for name in columns), rows)


def visit_table(content: Content) -> Table:
    """List the visits with their dates and loads."""
    followup, language = content.followup, content.language
    dated = any(visit.date for visit in followup.visits)
    days = days_of(followup)
    known = dated or any(days[1:])
    labels = [label for label in labels_of(followup) if _any_load(followup, label.value)]
    headings = [language["visit"]]
    if dated:
        headings.append(language["date"])
    if known:
        headings.append(language["since_first"])
    for label in labels:
        named = f" ({language.translate(label.name)})" if label.several else ""
        headings += [f"{language['load_axis']}{named}", f"{language['lesion_count']}{named}"]
    rows = []
    for visit, since in zip(followup.visits, days, strict=True):
        cells = [visit.name]
        if dated:
            cells.append(str(visit.date or _DASH))
        if known:
            cells.append(_DASH if since is None else language.number(since))
        for label in labels:
            found = _measures(visit, label.value)
            cells += [_DASH, _DASH] if found is None else [
                language.number(found.size, ml_digits(found.size)),
                language.number(len(found.lesions)),
            ]  # fmt: skip
        rows.append(tuple(cells))
    return Table(tuple(headings), tuple(rows))


def growth_table(content: Content, comparison: Comparison) -> Table | None:
    """Tell the growth of each lesion of a mass, or of few lesions; None for others.

    A label is a mass by its name, such as meningioma or tumour.
    """
    language = content.language
    masses = {label.value for label in labels_of(content.followup) if is_mass(label)}
    lasting = [c for c in comparison.changes if c.baseline_mm3 > 0 and c.followup_mm3 > 0]
    shown = [c for c in lasting if c.value in masses][: 4 * _FEW]
    if not masses and len(comparison.changes) <= _FEW:
        shown = lasting
    if not shown:
        return None
    names = ["growth_lesion", "growth_volume", "growth_year", "percent_per_year", "doubling_days"]
    names += ["growth_longest", "growth_perpendicular", "growth_area", "rano"]
    return Table(
        tuple(language[name] for name in names),
        tuple(_growth_row(change, comparison.days, language) for change in shown),
    )


def followup_definitions(language: Language) -> list[str]:
    """Say what the figures mean, and how pictures lie."""
    names = ("kinds", "number", "change_volume", "change_diameters", "centre", "confidence")
    texts = [language[f"define_{name}"] for name in names]
    return [*texts, language["convention"]]


def followup_made(content: Content) -> Table:
    """Say from what, when and by what the page was made."""
    language, now = content.language, here_and_now()
    versions = ", ".join(f"{name} {number}" for name, number in now.versions.items())
    facts = [
        *(
            (language[what] if what in _ORIGINS else what, told)
            for what, told in content.files.items()
        ),
        (language["date"], now.date.replace("T", " ")),
        (language["program"], versions),
    ]
    if content.followup.check is not None:
        facts.append((language["seed"], str(content.followup.check.seed)))
    return Table(("", ""), tuple(facts))


def names_of(followup: FollowUp, comparison: Comparison) -> tuple[str, str]:
    """Return the names of both visits."""
    one, other = visits_of(followup, comparison)
    return one.name, other.name


def visits_of(followup: FollowUp, comparison: Comparison) -> tuple[Placed, Placed]:
    """Return both visits."""
    return followup.visits[comparison.first], followup.visits[comparison.second]


def days_of(followup: FollowUp) -> list[int | None]:
    """Return the days of each visit since the first, as far as they are known."""
    first = followup.visits[0].date
    days: list[int | None] = [0]
    for pair, visit in zip(followup.comparisons, followup.visits[1:], strict=True):
        before = days[-1]
        since = None if before is None or pair.days is None else before + pair.days
        days.append((visit.date - first).days if first and visit.date else since)
    return days


def labels_of(followup: FollowUp) -> list[Label]:
    """Return the labels that the follow-up is about, by value."""
    names = {c.value: c.label for pair in followup.comparisons for c in pair.changes}
    for visit in followup.visits:
        names |= {load.value: load.label for load in visit.loads}
    names |= {n: name for n, name in enumerate(followup.labels) if n > 0}
    if not names:
        names = {1: "lesion"}
    return [Label(value, names[value], len(names) > 1) for value in sorted(names)]


def _measures(visit: Placed, value: int) -> LabelMeasures | None:
    return next((load for load in visit.loads if load.value == value), None)


def load_of(visit: Placed, value: int) -> float | None:
    """Return the load of a label in ml; 0 where a mask holds none of it, None without a mask."""
    found = _measures(visit, value)
    if found is None:
        return 0.0 if visit.loads or visit.mask is not None else None
    return found.size


def _any_load(followup: FollowUp, value: int) -> bool:
    return any(_measures(visit, value) is not None for visit in followup.visits)


def _counted(changes: Sequence[LesionChange], language: Language) -> str:
    """Count the changes of each kind in words; the first names what is counted."""
    parts: list[str] = []
    for kind in KINDS:
        if kind != "stable" and (count := sum(change.kind == kind for change in changes)):
            parts.append(language.many(f"{'more' if parts else 'first'}_{kind}", count))
    return ", ".join(parts) or language["no_change"]


def _load_told(
    followup: FollowUp, comparison: Comparison, value: int, language: Language
) -> str | None:
    before, after = (load_of(visit, value) for visit in visits_of(followup, comparison))
    if before is None or after is None or not before + after:
        return None
    digits = ml_digits(max(before, after))
    values = {
        "before": language.number(before, digits),
        "after": language.unit(language.number(after, digits), "ml"),
    }
    if not before:
        return language.say("load_alone", **values)
    change = _percent(100 * (after - before) / before, language)
    return language.say("load_from_to", **values, change=change)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _of_images(change: LesionChange) -> bool:
    """Say whether there is no outline of a change: then no lesion's volume is known."""
    return change.evidence == "images" and change.kind in ("new", "gone")


def _volume_facts(change: LesionChange, language: Language) -> list[tuple[str, str]]:
    moved = signed_ml(change.change_mm3 / 1e3, language)
    if _of_images(change):
        return [(language["change_name"], moved)]
    if change.change_percent is not None:
        moved += f" ({_percent(change.change_percent, language)})"
    volume = _from_to(change.baseline_mm3 / 1e3, change.followup_mm3 / 1e3, language)
    return [
        (language["growth_volume"], volume),
        (language["change_name"], moved),
        (language["tolerance"], f"±{_ml(change.tolerance_mm3 / 1e3, language)}"),
    ]


def _outlined(change: LesionChange, mm3: float, digits: int, language: Language) -> str:
    """Write a volume of outlines in ml."""
    return _DASH if _of_images(change) else language.number(mm3 / 1e3, digits)


def _from_to(before: float, after: float, language: Language) -> str:
    digits = ml_digits(max(before, after))
    one, other = (language.number(value, digits) for value in (before, after))
    return language.unit(f"{one} → {other}", "ml")


def _ml(value: float, language: Language) -> str:
    return language.unit(language.number(value, ml_digits(abs(value))), "ml")


def signed_ml(value: float, language: Language) -> str:
    """Write a change of a volume in ml."""
    return language.unit(_signed(value, ml_digits(abs(value)), language), "ml")


def _signed(value: float, digits: int, language: Language) -> str:
    text = language.number(value, digits)
    return f"+{text}" if value > 0 and text.strip("0., ") else text


def _percent(value: float, language: Language) -> str:
    return language.unit(_known(value, language), "%")


def _known(value: float | None, language: Language) -> str:
    """Write a percentage; what is over a thousand is told as that."""
    if value is None or not math.isfinite(value):
        return _DASH
    if value > _MOST:
        return f">\N{NO-BREAK SPACE}+{language.number(_MOST)}"
    return _signed(value, 0 if abs(value) >= 10 else 1, language)


def _rate(change: LesionChange) -> float | None:
    """Return percent a year; None where an even change would leave less than nothing."""
    rate = change.percent_per_year
    return None if change.kind == "gone" or rate is None or rate <= _WHOLE else rate


def _diameters(change: LesionChange, language: Language) -> tuple[str, str]:
    pairs = (
        (change.baseline_longest_mm, change.baseline_perpendicular_mm),
        (change.followup_longest_mm, change.followup_perpendicular_mm),
    )
    one, other = (
        _DASH if None in pair else times([mm for mm in pair if mm is not None], language)
        for pair in pairs
    )
    return one, other


def _growth_row(change: LesionChange, days: int | None, language: Language) -> tuple[str, ...]:
    growth = growth_of(change, days=days or None)

    def told(value: float | None, unit: str, digits: int) -> str:
        return _DASH if value is None else language.unit(_signed(value, digits, language), unit)

    def both(mm: float | None, yearly: float | None) -> str:
        after = "" if yearly is None else f" ({told(yearly, 'mm', 1)} {language['yearly']})"
        return told(mm, "mm", 1) + after

    year = None if growth.mm3_per_year is None else growth.mm3_per_year / 1e3
    doubling = growth.doubling_days
    return (
        str(change.number),
        signed_ml(growth.change_mm3 / 1e3, language),
        _DASH if year is None else signed_ml(year, language),
        _known(growth.percent_per_year, language),
        _DASH if doubling is None else language.number(doubling),
        both(growth.longest_change_mm, growth.longest_mm_per_year),
        both(growth.perpendicular_change_mm, growth.perpendicular_mm_per_year),
        _known(growth.area_change_percent, language),
        _DASH if growth.area_class is None else language.translate(growth.area_class),
    )


def is_mass(label: Label) -> bool:
    """Say whether a label is a mass by its name, such as meningioma or tumour."""
    return _MASSES.search(label.name) is not None
