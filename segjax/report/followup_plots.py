"""The plot of a follow-up: loads over time."""

from itertools import cycle
from typing import TYPE_CHECKING

from segjax.evaluate.followup import Placed
from segjax.report.followup_facts import Content, days_of, labels_of, load_of
from segjax.report.patient_facts import ml_digits
from segjax.report.patient_slices import colour_of
from segjax.report.patient_texts import Language
from segjax.report.style import INK, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_loads"]

_MARKERS = "os^Dv"
_LONG = 24  # letters of a name
_ROOM = 1.18  # of the axis of volumes over the largest
_CROWDED = 5  # visits whose names stand beside each other


def draw_loads(axes: "Axes", content: Content) -> None:
    """Draw the load of each label at each visit, over days where all are known.

    Args:
        axes: Where to draw.
        content: The visits.
    """
    visits, language = content.followup.visits, content.language
    places = _places(content)
    labels = labels_of(content.followup)
    most = 0.0
    for label, marker in zip(labels, cycle(_MARKERS), strict=False):
        loads = [load_of(visit, label.value) for visit in visits]
        points = [(x, y) for x, y in zip(places, loads, strict=True) if y is not None]
        if points:
            most = max(most, *(y for _, y in points))
            axes.plot(
                *zip(*points, strict=True),
                color=colour_of(label.value),
                marker=marker,
                ms=5,
                lw=1.6,
                mec=INK,
                label=language.translate(label.name),
            )
            _write_values(axes, points, language)
    style_axes(axes, title="", ylabel=language["load_axis"])
    digits = ml_digits(most)
    names = [_name(visit) for visit in visits]
    axes.set_xticks(places, names, fontsize=7.5, parse_math=False)
    if len(visits) > _CROWDED:
        axes.tick_params("x", rotation=45)
    axes.set_ylim(0, (most or 1.0) * _ROOM)
    axes.yaxis.set_major_formatter(lambda tick, _: language.number(tick, digits))
    margin = 0.12 * max(places[-1] - places[0], 1.0)
    axes.set_xlim(places[0] - margin, places[-1] + margin)
    if len(labels) > 1:
        legend = axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        for text in legend.get_texts():
            text.set_parse_math(False)


def _name(visit: Placed) -> str:
    """Return the name of a visit, without its middle where it is long, over its date."""
    name, date = visit.name, str(visit.date or "")
    if len(name) > _LONG:
        name = f"{name[: _LONG // 2]}…{name[-_LONG // 2 :]}"
    return name if date in ("", name) else f"{name}\n{date}"


def _places(content: Content) -> list[float]:
    """Return days since the first visit; numbers of visits where some are not known."""
    days = days_of(content.followup)
    known = [float(since) for since in days if since is not None]
    if len(known) == len(days) and known[-1]:
        return known
    return [float(number) for number in range(len(days))]


def _write_values(axes: "Axes", points: list[tuple[float, float]], language: Language) -> None:
    for x, y in points:
        text = language.number(y, ml_digits(y))
        axes.annotate(
            text, (x, y), (0, 5), textcoords="offset points", ha="center", fontsize=7.5, color=INK
        )
