"""The figures that response criteria follow: RANO and RECIST, of the lesions of one image.

They are what is compared between two visits: a sum over target lesions. The response itself also
asks for new lesions, those that cannot be measured, steroids and the patient: no mask tells these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from segjax.errors import InputError
from segjax.evaluate.measure import LesionMeasures
from segjax.text import unknown

__all__ = ["CRITERIA", "Criteria", "Response", "criteria_of", "response"]

_THICK = 5.0  # mm between slices, over which a lesion must be twice as large as that
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Criteria:
    """Which lesions are measured, and what is added up.

    Attributes:
        bidimensional: Add up products of the longest diameter and that across it, in mm²; else
            longest diameters, in mm.
        longest_mm: Least longest diameter of a lesion that is measurable; where slices are more
            than 5 mm apart, twice that distance if it is more.
        perpendicular_mm: Least diameter across it; the same holds of it where it is as large.
        slices: Least number of axial slices that show it.
        targets: Most lesions that are added up, the largest first.
        source: Who says so.
    """

    bidimensional: bool
    longest_mm: float
    perpendicular_mm: float
    slices: int
    targets: int
    source: str


CRITERIA: Mapping[str, Criteria] = MappingProxyType(
    {
        "rano": Criteria(True, 10, 10, 2, 5, "P. Y. Wen et al., J. Clin. Oncol. 28, 2010"),
        "rano-meningioma": Criteria(
            True, 10, 10, 2, 5, "R. Y. Huang et al., Neuro-Oncology 21, 2019"
        ),
        "rano-bm": Criteria(False, 10, 5, 2, 5, "N. U. Lin et al., Lancet Oncol. 16, 2015"),
        "recist-1.1": Criteria(
            False, 10, 0, 1, 2, "E. A. Eisenhauer et al., Eur. J. Cancer 45, 2009"
        ),
    }
)
"""By name: gliomas of high grade, meningiomas, brain metastases; and solid tumours.

RECIST 1.1 has five targets, of which two in one organ: the brain is one.
"""


@dataclass(frozen=True)
class Response:
    """The figure of an image.

    Attributes:
        value: The sum; 0 where no lesion is measurable.
        unit: ``"mm2"`` or ``"mm"``.
        targets: Numbers of the lesions that are added up, the largest first.
        measurable: Number of measurable lesions.
    """

    value: float
    unit: str
    targets: tuple[int, ...]
    measurable: int


def criteria_of(name: str) -> Criteria:
    """Return response criteria by their name.

    Raises:
        InputError: None have that name.

    Example:
        >>> criteria_of("rano-bm").targets
        5
    """
    if name not in CRITERIA:
        raise InputError(unknown("response criteria", name, list(CRITERIA)))
    return CRITERIA[name]


def response(
    lesions: Sequence[LesionMeasures], criteria: str | Criteria, *, slice_mm: float
) -> Response:
    """Return the figure of some lesions by response criteria.

    Args:
        lesions: Of one label, such as enhancing tumour.
        criteria: A name in :data:`CRITERIA`, or criteria of your own.
        slice_mm: Distance of axial slices, as
            :func:`segjax.evaluate.diameters.slice_distance` gives it.

    Raises:
        InputError: No criteria have that name; or the lesions are of a picture, which does not tell
            how many slices show them.

    Example:
        >>> import numpy as np
        >>> from segjax import Volume
        >>> from segjax.evaluate.measure import measure_mask
        >>> mask = np.zeros((40, 40, 6), np.uint8)
        >>> mask[2:22, 2:14, 1:4] = 1  # 20 × 12 mm
        >>> mask[30:36, 30:36, 1:4] = 1  # too small
        >>> (found,) = measure_mask(Volume(mask, np.diag([1, 1, 3, 1.0])))
        >>> response(found.lesions, "recist-1.1", slice_mm=3.0).targets
        (1,)
        >>> figure = response(found.lesions, "rano", slice_mm=3.0)
        >>> round(figure.value), figure.unit
        (313, 'mm2')

    Source: see :data:`CRITERIA`.
    """
    criteria = criteria_of(criteria) if isinstance(criteria, str) else criteria
    measurable = [lesion for lesion in lesions if _is_measurable(lesion, criteria, slice_mm)]
    sizes = {lesion.number: _size(lesion, criteria) for lesion in measurable}
    targets = sorted(sizes, key=lambda number: (-sizes[number], number))[: criteria.targets]
    value = sum(sizes[number] for number in targets)
    unit = "mm2" if criteria.bidimensional else "mm"
    return Response(float(value), unit, tuple(targets), len(measurable))


def _size(lesion: LesionMeasures, criteria: Criteria) -> float:
    across = lesion.perpendicular.mm if criteria.bidimensional else 1.0
    return lesion.longest.mm * across


def _is_measurable(lesion: LesionMeasures, criteria: Criteria, slice_mm: float) -> bool:
    if lesion.third_mm is None:
        raise InputError("response criteria are of volumes: a picture shows one slice of a lesion")
    longest, across = criteria.longest_mm, criteria.perpendicular_mm
    if slice_mm > _THICK:
        across = max(across, 2 * slice_mm) if across == longest else across
        longest = max(longest, 2 * slice_mm)
    return (
        lesion.longest.mm >= longest - _ROUNDING
        and lesion.perpendicular.mm >= across - _ROUNDING
        and round(lesion.third_mm / slice_mm) >= criteria.slices
    )
