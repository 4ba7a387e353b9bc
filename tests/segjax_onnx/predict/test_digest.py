"""Damaged and hostile files: refused in one line, nothing read from outside, nothing written."""

import hashlib

import numpy as np
import onnx
import pytest

from benchmarks import fuzz_onnx
from segjax.errors import InputError
from segjax_onnx import Predictor, read_metadata
from segjax_onnx.predict.digest import KEY, check, checked, sealed


def test_a_sealed_file_is_onnx_and_ends_with_the_sha256_of_all_before():
    model, content = fuzz_onnx.undamaged()
    (entry,) = [e for e in onnx.load_from_string(content).metadata_props if e.key == KEY]
    assert content.endswith(entry.value.encode())
    before = model.SerializeToString(deterministic=True)
    assert content.startswith(before)
    assert entry.value == hashlib.sha256(before).hexdigest()
    check(content, "model.onnx")


def test_any_changed_byte_is_refused():
    _, content = fuzz_onnx.undamaged()
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << (at % 8)
        with pytest.raises(InputError, match=r"^model\.onnx: is not what was exported") as error:
            check(bytes(changed), "model.onnx")
        assert "\n" not in str(error.value)


def test_bytes_after_the_seal_are_refused():
    _, content = fuzz_onnx.undamaged()
    other = onnx.ModelProto(producer_name="someone")
    for added in (b"\0", other.SerializeToString(), sealed(b"")):
        with pytest.raises(InputError, match=r"^model\.onnx: "):
            check(content + added, "model.onnx")


def test_a_file_without_a_digest_opens_as_before(tmp_path):
    model, _ = fuzz_onnx.undamaged()
    path = tmp_path / "old.onnx"
    onnx.save(model, path)
    assert read_metadata(path).labels == ("background", "lesion")


@pytest.mark.parametrize("place", ["weights", "a constant", "a branch"])
def test_weights_in_other_files_are_never_read(tmp_path, place):
    model, _ = fuzz_onnx.undamaged()
    weights = model.graph.initializer[0]
    (tmp_path / "w.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="w.bin")
    if place != "weights":
        constant = onnx.helper.make_node("Constant", [], ["w0"], value=weights)
        del model.graph.initializer[0]
        if place == "a branch":
            out = onnx.helper.make_tensor_value_info("w0", onnx.TensorProto.FLOAT, [4, 1, 3, 3])
            branch = onnx.helper.make_graph([constant], "branch", [], [out])
            both = {"then_branch": branch, "else_branch": branch}
            constant = onnx.helper.make_node("If", ["yes"], ["w0"], **both)
        model.graph.node.insert(0, constant)
    path = tmp_path / "model.onnx"
    for content in (model.SerializeToString(), sealed(model.SerializeToString())):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"model\.onnx: keeps weights in other files"):
            Predictor(path)


@pytest.mark.parametrize("content", [b"", b"\x0a", b"\x0b\x0a", b"\xff" * 30, b"\x3a\xff\x7f"])
def test_what_is_no_protobuf_is_no_network(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.onnx: no ONNX network"):
        Predictor(path)


def test_deep_nesting_is_refused_before_it_is_followed():
    content = b""
    for _ in range(30):  # graphs in attributes of nodes of graphs
        for field in (6, 5, 1):
            length = bytes([len(content) & 127 | 128, len(content) >> 7])
            content = bytes([field << 3 | 2]) + length + content
    length = bytes([len(content) & 127 | 128, len(content) >> 7])
    with pytest.raises(InputError, match="no ONNX network, or a damaged one"):
        check(b"\x3a" + length + content, "model.onnx")


def test_a_folder_or_nothing_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "none.onnx"):
        with pytest.raises(InputError, match="no such file"):
            checked(path, str(path))


def assert_all_refused(result):
    assert result["neither refused nor the same"] == []
    assert result["written"] == []
    assert sum(result["outcomes"].values()) == result["count"]


def test_a_hundred_damaged_and_hostile_files_are_refused():
    assert_all_refused(fuzz_onnx.run(110))


@pytest.mark.slow
def test_a_thousand_damaged_and_hostile_files_are_refused():
    assert_all_refused(fuzz_onnx.run(1000, seed=1))


def test_the_same_seed_damages_the_same_way():
    one, two = ([fuzz_onnx.damaged(k) for k in range(22)] for _ in range(2))
    assert one == two
    assert {kind for kind, _ in one} == {kind.__name__ for kind in fuzz_onnx.KINDS}
    assert all(not np.array_equal(content, fuzz_onnx.undamaged()[1]) for _, content in one)
