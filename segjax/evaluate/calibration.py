"""Do probabilities mean what they say? Calibration of probability maps, over any number of cases.

A network is calibrated when of all voxels that it gives 0.8, four in five are lesion.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Integer

from segjax.errors import InputError

__all__ = ["Calibration", "ReliabilityBin", "calibration_of"]

Mask = Bool[np.ndarray, "*spatial"] | Integer[np.ndarray, "*spatial"]

_ROUNDING = 1e-6  # of probabilities in single precision


@dataclass(frozen=True)
class ReliabilityBin:
    """Voxels of similar probability: one point of the reliability curve.

    Attributes:
        low: Least probability of the bin.
        high: Probability from which on voxels belong to the next bin; the last one holds 1.
        voxels: Number of its voxels.
        probability: Their mean probability; NaN in an empty bin.
        share: Share of them that is true; NaN in an empty bin.
    """

    low: float
    high: float
    voxels: int
    probability: float
    share: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """Sums over voxels, by bins of equal width of their probability.

    Calibrations of several cases are added with ``+``, in which every voxel weighs the same; only
    these sums are held, whatever the number of cases. ``sum(parts, Calibration.empty())`` adds
    many.

    Attributes:
        voxels: Number of voxels of each bin.
        probability: Sum of their probabilities.
        true: Number of them that are true.
        squared_error: Sum of ``(probability - truth)²`` over all voxels.
    """

    voxels: Int64[np.ndarray, " bin"]
    probability: Float64[np.ndarray, " bin"]
    true: Int64[np.ndarray, " bin"]
    squared_error: float

    @classmethod
    def empty(cls, bins: int = 15) -> "Calibration":
        """Return what no voxel adds to.

        Example:
            >>> Calibration.empty().total
            0
        """
        if bins < 1:
            raise InputError(f"bins is {bins}: give a number from 1 on")
        return cls(np.zeros(bins, np.int64), np.zeros(bins), np.zeros(bins, np.int64), 0.0)

    def __add__(self, other: "Calibration") -> "Calibration":
        """Return the calibration of both."""
        if len(self.voxels) != len(other.voxels):
            raise InputError(
                f"calibrations of {len(self.voxels)} and {len(other.voxels)} bins: "
                "take equal numbers of them"
            )
        return Calibration(
            self.voxels + other.voxels,
            self.probability + other.probability,
            self.true + other.true,
            self.squared_error + other.squared_error,
        )

    @property
    def total(self) -> int:
        """Number of voxels."""
        return int(self.voxels.sum())

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean of ``|share - probability|`` weighted by voxels.

        From 0 to 1; NaN without a voxel.
        """
        return float(self._gaps @ self.voxels) / self.total if self.total else math.nan

    @property
    def maximum_error(self) -> float:
        """Maximum calibration error: the largest ``|share - probability|`` of a bin.

        From 0 to 1; NaN without a voxel. A bin of few voxels can make it large.
        """
        return float(self._gaps.max()) if self.total else math.nan

    @property
    def brier_score(self) -> float:
        """Mean of ``(probability - truth)²``, from 0 to 1; NaN without a voxel."""
        return self.squared_error / self.total if self.total else math.nan

    @property
    def curve(self) -> tuple[ReliabilityBin, ...]:
        """The reliability curve, that of the lowest probabilities first."""
        edges = _edges(len(self.voxels)).tolist()
        return tuple(
            ReliabilityBin(
                edges[n],
                edges[n + 1],
                int(voxels),
                float(self.probability[n] / voxels) if voxels else math.nan,
                float(self.true[n] / voxels) if voxels else math.nan,
            )
            for n, voxels in enumerate(self.voxels)
        )

    @property
    def measures(self) -> dict[str, float]:
        """Errors and number of voxels by name, for a tidy table."""
        return {
            "expected_calibration_error": self.expected_error,
            "maximum_calibration_error": self.maximum_error,
            "brier_score": self.brier_score,
            "calibration_voxels": self.total,
        }

    @property
    def _gaps(self) -> Float64[np.ndarray, " bin"]:
        return np.abs(self.true - self.probability) / np.maximum(self.voxels, 1)


def calibration_of(
    *,
    truth: Mask,
    probability: Float[np.ndarray, "*spatial"],
    label: int = 1,
    region: Bool[np.ndarray, "*spatial"] | None = None,
    bins: int = 15,
) -> Calibration:
    """Compare the probabilities of one label with the true mask.

    Most voxels of a head are far from any lesion, and right at probability 0: over the whole image
    every network looks calibrated. Give the brain as region, or the voxels near lesions, and say
    which.

    Args:
        truth: True mask ``(*spatial)``.
        probability: Of each voxel to be of the label, from 0 to 1.
        label: Value to look at in the truth.
        region: Voxels that count; all by default.
        bins: Number of bins of equal width. The first one begins with 0, each holds its lower edge
            and not its upper one, but for the last, which holds 1.

    Returns:
        The sums, to be added to those of other cases, and all measures of them.

    Raises:
        InputError: Shapes differ, a probability is not from 0 to 1, or there are no bins.

    Example:
        >>> truth = np.array([0, 0, 1, 1])
        >>> found = calibration_of(truth=truth, probability=np.array([0.1, 0.3, 0.7, 0.7]), bins=2)
        >>> round(found.expected_error, 3), round(found.brier_score, 3)  # gaps 0.2 and 0.3
        (0.25, 0.07)
        >>> (found + found).total
        8

    Source:
        M. P. Naeini, G. F. Cooper and M. Hauskrecht, AAAI 2015 (expected and maximum error); G. W.
        Brier, Monthly Weather Review 78, 1950.
    """
    shapes = {truth.shape, probability.shape, truth.shape if region is None else region.shape}
    if len(shapes) > 1:
        raise InputError(
            f"truth {truth.shape}, probability {probability.shape} and region differ in shape: "
            "give all on one grid"
        )
    start = Calibration.empty(bins)
    inside = (slice(None),) if region is None else region
    there = (truth[inside] == label).ravel()
    values = probability[inside].ravel().astype(np.float64)
    if not ((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)).all():
        raise InputError("probability: values must be from 0 to 1; apply sigmoid or softmax first")
    values = values.clip(0, 1)
    places = np.searchsorted(_edges(bins)[1:-1], values, side="right")
    return start + Calibration(
        np.bincount(places, minlength=bins),
        np.bincount(places, values, bins).astype(np.float64),  # whole numbers of no voxel
        np.bincount(places[there], minlength=bins),
        float(((values - there) ** 2).sum()),
    )


def _edges(bins: int) -> Float64[np.ndarray, " edge"]:
    return np.arange(bins + 1) / bins
