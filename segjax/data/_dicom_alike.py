"""Compare what two DICOM headers say."""

from segjax.data._dicom_header import Frame, Identity

__all__ = ["agree", "is_parallel", "same_time"]

_SAME_COSINES = 2e-3  # 0.1°
_SAME_SPACING = 1e-3  # of the distance between pixels
_SAME_TIME = 0.01  # of the larger; what scanners write for one time varies by less


def agree(one: Identity, other: Identity) -> bool:
    """Say whether two headers can speak of one series; what one does not say, agrees."""
    return all(a == b or not a or not b for a, b in zip(one, other, strict=False))


def is_parallel(one: Frame, other: Frame) -> bool:
    """Say whether two slices have one size, orientation and pixel spacing."""
    turned = zip(one.orientation, other.orientation, strict=True)
    spaced = zip(one.spacing, other.spacing, strict=True)
    return (
        one.pixels.shape == other.pixels.shape
        and all(abs(a - b) <= _SAME_COSINES for a, b in turned)
        and all(abs(a - b) <= _SAME_SPACING * b for a, b in spaced)
    )


def same_time(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Say whether two times, or rows of them, differ by less than 1 %."""
    return len(one) == len(other) and all(
        abs(a - b) < _SAME_TIME * max(abs(a), abs(b)) or a == b
        for a, b in zip(one, other, strict=True)
    )
