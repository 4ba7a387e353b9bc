"""NumPy files."""

import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.io.npy import npy_grid, read_npy, write_npy
from segjax.errors import InputError
from segjax.volume import Volume


def save(path, array, **options):
    np.save(path, array, **options)
    return path


@pytest.mark.parametrize(("shape", "rank"), [((4, 5), 2), ((4, 5, 6), 3), ((4, 5, 6, 2), 3)])
@pytest.mark.parametrize("dtype", ["u1", ">i2", "f4", "f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_axes_give_the_rank(tmp_path, shape, rank, dtype, order):
    data = np.asarray(np.arange(np.prod(shape)).reshape(shape).astype(dtype), order=order)
    volume = read_npy(save(tmp_path / "a.npy", data))
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_array_equal(volume.affine, np.eye(rank + 1))
    assert volume.data.dtype == np.dtype(dtype).newbyteorder("=")
    place, channels = npy_grid(tmp_path / "a.npy")
    assert (place.shape, channels) == (volume.spatial_shape, volume.channels)
    np.testing.assert_array_equal(place.affine, volume.affine)


def test_masks_become_integers(tmp_path):
    assert read_npy(save(tmp_path / "a.npy", np.eye(3, dtype=bool))).data.dtype == np.uint8


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format(tmp_path, version):
    with (tmp_path / "a.npy").open("wb") as stream:
        np.lib.format.write_array(stream, np.eye(3), version=version)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy").data, np.eye(3))


def test_pickles_are_never_run(tmp_path):
    path = save(tmp_path / "a.npy", np.array([[print]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"a\.npy: holds values of type object"):
        read_npy(path)


@pytest.mark.parametrize("dtype", ["c8", "U3", "M8[s]", [("a", "f4")]])
def test_other_values_than_numbers_are_refused(tmp_path, dtype):
    with pytest.raises(InputError, match=r"a\.npy: holds values of type"):
        read_npy(save(tmp_path / "a.npy", np.zeros((2, 3), dtype)))


@pytest.mark.parametrize("shape", [(), (4,), (4, 0, 3), (2, 2, 2, 2, 2)])
def test_other_numbers_of_axes_are_refused(tmp_path, shape):
    with pytest.raises(InputError, match=r"a\.npy: has shape"):
        read_npy(save(tmp_path / "a.npy", np.zeros(shape)))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.npy: there is no such file"):
        read_npy(tmp_path / "none.npy")


def test_every_truncation_is_refused(tmp_path):
    raw = save(tmp_path / "a.npy", np.eye(5)).read_bytes()
    for length in range(0, len(raw), 7):
        (tmp_path / "a.npy").write_bytes(raw[:length])
        with pytest.raises(InputError, match=r"a\.npy: is (a )?truncated"):
            read_npy(tmp_path / "a.npy")


def test_sizes_that_the_file_does_not_hold_take_no_memory(tmp_path):
    raw = save(tmp_path / "a.npy", np.eye(5)).read_bytes()
    (tmp_path / "a.npy").write_bytes(raw.replace(b"(5, 5), }        ", b"(99999, 99999), }"))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"shape \(99999, 99999\) of float64 needs more"):
        read_npy(tmp_path / "a.npy")
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_the_grid_takes_no_memory(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((100, 200, 200)))
    tracemalloc.start()
    assert npy_grid(tmp_path / "a.npy")[0].shape == (100, 200, 200)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_header_gives_a_volume_or_a_clear_error(tmp_path_factory, changes):
    path = save(tmp_path_factory.mktemp("fuzz") / "fuzz.npy", np.eye(5))
    raw = bytearray(path.read_bytes())
    for position, value in changes:
        raw[position] = value
    path.write_bytes(raw)
    messages = []
    for shape in (lambda: read_npy(path).spatial_shape, lambda: npy_grid(path)[0].shape):
        try:
            messages.append(f"{path}: {shape()}")
        except InputError as error:
            messages.append(re.sub("0x[0-9a-f]+", "address", str(error)))
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"{path}: ")
    assert "\n" not in messages[0]


@pytest.mark.parametrize(("shape", "rank"), [((4, 5), 2), ((4, 5, 6), 3), ((4, 5, 6, 2), 3)])
def test_numpy_reads_what_is_written(tmp_path, shape, rank):
    data = np.random.default_rng(0).normal(size=shape)
    write_npy(Volume(data, np.eye(rank + 1)), tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), data)


def test_slices_with_channels_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.npy: an NPY file of rank 2 takes no channels"):
        write_npy(Volume(np.zeros((4, 5, 3)), np.eye(3)), tmp_path / "a.npy")


def test_files_are_overwritten_only_on_request(tmp_path):
    path = save(tmp_path / "a.npy", np.eye(3))
    with pytest.raises(InputError, match="exists already"):
        write_npy(Volume(np.eye(4), np.eye(3)), path)
    write_npy(Volume(np.eye(4), np.eye(3)), path, overwrite=True)
    np.testing.assert_array_equal(np.load(path), np.eye(4))
