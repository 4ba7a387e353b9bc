"""Protocol buffers as bytes: as much of their wire format as ONNX files need.

Source:
    https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Iterator

__all__ = ["fields", "message", "number"]


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of every field: whole numbers, or the bytes of all else.

    Raises:
        ValueError: The bytes are no message.

    Example:
        >>> [(field, bytes(value)) for field, value in fields(memoryview(message(2, b"a")))]
        [(2, b'a')]
    """
    at = 0
    while at < len(data):
        tag, at = _read_number(data, at)
        if (wire := tag & 7) == 0:
            value, at = _read_number(data, at)
            yield tag >> 3, value
            continue
        if wire == 2:  # strings and messages tell their length
            length, at = _read_number(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("no field of ONNX")
        if length > len(data) - at:
            raise ValueError("cut")
        yield tag >> 3, data[at : at + length]
        at += length


def message(field: int, data: bytes) -> bytes:
    """Return a field that holds a string or a message.

    Example:
        >>> message(1, b"x").hex()
        '0a0178'
    """
    return _number(field << 3 | 2) + _number(len(data)) + data


def number(field: int, value: int) -> bytes:
    """Return a field that holds a whole number from 0 on.

    Example:
        >>> number(1, 300).hex()
        '08ac02'
    """
    return _number(field << 3) + _number(value)


def _number(value: int) -> bytes:
    """Write seven bits a byte, the lowest first; all bytes but the last have the eighth."""
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def _read_number(data: memoryview, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where it ends."""
    found = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        found |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return found, at
    raise ValueError("no number")
