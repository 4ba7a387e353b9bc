import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import StringStringEntryProto, TensorProto

from segjax_onnx.predict.wire import fields, message, number


@given(st.integers(0, 2**63 - 1))
def test_numbers_are_those_of_protobuf(value):
    tensor = TensorProto(dims=[value])
    assert TensorProto.FromString(number(1, value)).dims == tensor.dims
    ((field, found),) = fields(memoryview(number(1, value)))
    assert (field, found) == (1, value)


@given(st.text(max_size=300), st.text(max_size=300))
def test_strings_are_those_of_protobuf(key, value):
    entry = StringStringEntryProto.FromString(message(1, key.encode()) + message(2, value.encode()))
    assert (entry.key, entry.value) == (key, value)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    try:
        found = list(fields(memoryview(data)))
    except ValueError:
        return
    assert all(isinstance(value, int | memoryview) for _, value in found)


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x0b", b"\x08", b"\x08" + b"\xff" * 11])
def test_what_is_cut_or_no_field_is_refused(data):
    with pytest.raises(ValueError, match=r"cut|no field|no number"):
        list(fields(memoryview(data)))
