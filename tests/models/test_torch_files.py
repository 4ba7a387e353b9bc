"""What is read from files of weights, and what other files are said to be."""

import argparse
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.models.torch_files import read_state_dict
from tests.peers import torch


@pytest.fixture
def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))


@pytest.mark.peer("torch")
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "network_weights"])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_read_from_whatever_dictionary_they_lie_in(network, tmp_path, wrapper, zipped):
    state = network.state_dict()
    content = state if wrapper is None else {"epoch": 3, wrapper: state, "best": 0.5}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found = read_state_dict(tmp_path / "a.pt")
    assert list(found) == list(state)
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value.numpy())


@pytest.mark.peer("torch")
def test_half_precision_becomes_float32(tmp_path):
    torch.save({"a": torch.tensor([0.1], dtype=torch.bfloat16)}, tmp_path / "a.pth")
    found = read_state_dict(tmp_path / "a.pth")["a"]
    assert found.dtype == np.float32
    assert found[0] == torch.tensor(0.1, dtype=torch.bfloat16).item()


def write_safetensors(path, arrays, kinds):
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        data = array.tobytes()
        header[name] = {
            "dtype": kinds[name],
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def test_safetensors_are_read_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((2, 3)).astype("<f4")
    arrays = {
        "whole": whole,
        "half": whole.astype("<f2"),
        "brain": (whole.view("<u4") >> 16).astype("<u2"),  # cut to the upper 16 bits
        "count": np.array(7, "<i8"),
    }
    kinds = {"whole": "F32", "half": "F16", "brain": "BF16", "count": "I64"}
    write_safetensors(tmp_path / "a.safetensors", arrays, kinds)
    found = read_state_dict(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(found["whole"], whole)
    np.testing.assert_allclose(found["half"], whole, rtol=1e-3)
    np.testing.assert_allclose(found["brain"], whole, rtol=1e-2)
    assert found["count"] == 7


def test_without_pytorch_the_message_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.pt").touch()
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(InputError, match=r"a\.pt: reading it needs PyTorch: pip install torch"):
        read_state_dict(tmp_path / "a.pt")


@pytest.mark.peer("torch")
def test_what_is_no_state_dict_is_said_to_be_what_it_is(network, tmp_path):
    lightning = {"pytorch-lightning_version": "2.5", "state_dict": network.state_dict()}
    torch.save(network, tmp_path / "whole.pt")
    torch.jit.script(network).save(tmp_path / "script.pt")
    torch.save(lightning | {"args": argparse.Namespace()}, tmp_path / "lightning.ckpt")
    torch.save({"epoch": 3}, tmp_path / "epoch.pt")
    torch.save({}, tmp_path / "empty.pt")
    torch.save([1, 2], tmp_path / "list.bin")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "a.onnx").write_text("hello")
    for name, message in (
        ("whole.pt", r"a whole network, pickled \(torch\.nn\.modules\.container\.Sequential\)"),
        ("script.pt", r"a TorchScript archive.*torch\.jit\.load\('script\.pt'\)\.state_dict"),
        ("lightning.ckpt", r"more than weights \(argparse\.Namespace, in a Lightning checkpoint\)"),
        ("epoch.pt", "no state dict, from names to tensors, but epoch: load it with PyTorch"),
        ("empty.pt", "no state dict, from names to tensors, but nothing"),
        ("list.bin", "no state dict, from names to tensors, but list"),
        ("text.pt", "cannot be read as weights of PyTorch"),
        ("text.safetensors", r"no whole \.safetensors file"),
        ("a.onnx", r"no file of weights; known are \.pt"),
        ("missing.pt", "there is no such file"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            read_state_dict(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


def write_header(path, entry, body=bytes(8)):
    text = entry if isinstance(entry, bytes) else json.dumps({"a": entry}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [([2], [-8, 8]), ([-1], [0, 8]), ([2], [0, 800]), ([2], [-8, None]), ([1], [8, 4])],
)
def test_safetensors_whose_header_lies_are_refused(tmp_path, shape, offsets):
    entry = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
    write_header(tmp_path / "a.safetensors", entry)
    with pytest.raises(InputError, match=r"a\.safetensors: is no whole"):
        read_state_dict(tmp_path / "a.safetensors")


def test_a_header_without_end_is_refused(tmp_path):
    write_header(tmp_path / "a.safetensors", b"[" * 100_000)
    with pytest.raises(InputError, match=r"a\.safetensors: is no whole"):
        read_state_dict(tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\x80\x02}q"])
def test_an_archive_whose_pickle_is_damaged_is_refused(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", content)
    with pytest.raises(InputError, match=r"a\.pt: is damaged"):
        read_state_dict(tmp_path / "a.pt")


class Program:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("zipped", [True, pytest.param(False, marks=pytest.mark.peer("torch"))])
def test_nothing_in_a_file_is_run(tmp_path, protocol, zipped):
    content = pickle.dumps({"a": Program(tmp_path / "ran")}, protocol)
    if zipped:
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
            archive.writestr("a/data.pkl", content)
            archive.writestr("a/version", "3")
    else:
        (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pt: "):
        read_state_dict(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.peer("torch")
def test_tensors_without_numbers_are_named(tmp_path):
    torch.save({"a": torch.zeros(2, device="meta")}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"a\.pt: a is torch\.float32 on the device meta"):
        read_state_dict(tmp_path / "a.pt")
