"""PNG images."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segjax.data.io.png import png_grid, read_png, write_png
from segjax.errors import InputError
from segjax.volume import Volume

PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2)]  # first column and row, step of columns and rows  # fmt: skip
GREY = np.arange(35, dtype=np.uint8).reshape(5, 7)


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def raw_png(columns, rows, depth, colour, samples, *, interlaced=False, more=b""):
    """Build a PNG by the standard, without Pillow."""
    header = struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + more
        + chunk(b"IDAT", zlib.compress(samples))
        + chunk(b"IEND", b"")
    )


def packed(values, depth):
    """Return rows of samples as a PNG stores them, unfiltered."""
    bits = (values[..., None] >> np.arange(depth)[::-1] & 1).astype(np.uint8)
    rows = np.packbits(bits.reshape(len(values), -1), axis=1)
    return b"".join(b"\x00" + row.tobytes() for row in rows)


def stored_png(values, depth, *, colour=0, interlaced=False, more=b""):
    """Build a PNG of one sample per pixel that stores the given values."""
    parts = [values]
    if interlaced:
        parts = [values[y::down, x::right] for x, y, right, down in PASSES]
    samples = b"".join(packed(part, depth) for part in parts if part.size)
    rows, columns = values.shape
    return raw_png(columns, rows, depth, colour, samples, interlaced=interlaced, more=more)


def test_grey_of_8_bits_is_rows_and_columns(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    volume = read_png(tmp_path / "a.png")
    np.testing.assert_array_equal(volume.data, GREY)
    np.testing.assert_array_equal(volume.affine, np.eye(3))
    assert volume.data.dtype == np.uint8


def test_grey_of_16_bits(tmp_path):
    samples = b"\x00" + struct.pack(">3H", 0, 300, 65535)
    (tmp_path / "a.png").write_bytes(raw_png(3, 1, 16, 0, samples))
    volume = read_png(tmp_path / "a.png")
    assert volume.data.dtype == np.uint16
    np.testing.assert_array_equal(volume.data, [[0, 300, 65535]])


def test_one_bit_is_black_and_white_or_zero_and_one(tmp_path):
    (tmp_path / "a.png").write_bytes(raw_png(3, 1, 1, 0, b"\x00\xa0"))
    np.testing.assert_array_equal(read_png(tmp_path / "a.png").data, [[255, 0, 255]])
    np.testing.assert_array_equal(read_png(tmp_path / "a.png", stored=True).data, [[1, 0, 1]])


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("depth", "step"), [(1, 255), (2, 85), (4, 17), (8, 1), (16, 1)])
def test_few_bits_are_a_picture_of_eight_or_the_stored_values(tmp_path, depth, step, interlaced):
    values = np.random.default_rng(depth).integers(0, 2**depth, (13, 11))
    (tmp_path / "a.png").write_bytes(stored_png(values, depth, interlaced=interlaced))
    np.testing.assert_array_equal(read_png(tmp_path / "a.png").data, values * step)
    labels = read_png(tmp_path / "a.png", stored=True).data
    np.testing.assert_array_equal(labels, values)
    assert labels.dtype == (np.uint16 if depth == 16 else np.uint8)


def test_a_picture_of_one_bit_is_its_twin_of_eight(tmp_path):
    mask = np.random.default_rng(0).random((20, 30)) > 0.5
    Image.fromarray(mask).save(tmp_path / "one.png")
    Image.fromarray(mask).convert("L").save(tmp_path / "eight.png")
    np.testing.assert_array_equal(*(read_png(tmp_path / f"{n}.png").data for n in ("one", "eight")))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("clear", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes_of_labels_are_their_indices(tmp_path, depth, clear, interlaced):
    rng = np.random.default_rng(depth)
    values = rng.integers(0, 2**depth, (9, 11))
    more = chunk(b"PLTE", rng.integers(0, 256, 3 * 2**depth, np.uint8).tobytes())
    more += chunk(b"tRNS", b"\x00") if clear else b""
    raw = stored_png(values, depth, colour=3, interlaced=interlaced, more=more)
    (tmp_path / "a.png").write_bytes(raw)
    np.testing.assert_array_equal(read_png(tmp_path / "a.png", stored=True).data, values)


@pytest.mark.parametrize("stored", [False, True])
def test_labels_may_be_grey_in_colours(tmp_path, stored):
    Image.fromarray(np.repeat(GREY[..., None], 3, axis=-1)).save(tmp_path / "grey.png")
    colours = np.arange(30, dtype=np.uint8).reshape(2, 5, 3)
    Image.fromarray(colours).save(tmp_path / "colours.png")
    np.testing.assert_array_equal(read_png(tmp_path / "grey.png", stored=stored).data, GREY)
    np.testing.assert_array_equal(read_png(tmp_path / "colours.png", stored=stored).data, colours)


@pytest.mark.parametrize(("data", "channels"), [(GREY, 1), (np.arange(30).reshape(2, 5, 3), 3)])
def test_the_grid_is_that_of_the_picture(tmp_path, data, channels):
    write_png(Volume(data, np.eye(3)), tmp_path / "a.png")
    place, found = png_grid(tmp_path / "a.png")
    assert (place.shape, found) == (data.shape[:2], channels)
    np.testing.assert_array_equal(place.affine, np.eye(3))


def test_colours_are_channels(tmp_path):
    colours = np.arange(30, dtype=np.uint8).reshape(2, 5, 3)
    Image.fromarray(colours).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_png(tmp_path / "a.png").data, colours)


def test_grey_in_colours_or_palettes_is_grey(tmp_path):
    Image.fromarray(np.repeat(GREY[..., None], 3, axis=-1)).save(tmp_path / "colours.png")
    Image.fromarray(GREY).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(GREY).convert("LA").save(tmp_path / "opaque.png")
    for name in ("colours.png", "palette.png", "opaque.png"):
        np.testing.assert_array_equal(read_png(tmp_path / name).data, GREY)


def test_palettes_are_the_colours_they_stand_for(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        read_png(tmp_path / "a.png").data, [[[10, 20, 30], [200, 100, 50]]]
    )


def test_transparency_is_refused(tmp_path):
    Image.fromarray(np.zeros((2, 3, 4), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: is partly transparent"):
        read_png(tmp_path / "a.png")


def test_colours_of_16_bits_are_refused_rather_than_cut(tmp_path):
    (tmp_path / "a.png").write_bytes(raw_png(1, 1, 16, 2, b"\x00" + bytes(6)))
    with pytest.raises(InputError, match=r"a\.png: has colours or transparency of 16 bits"):
        read_png(tmp_path / "a.png")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.png: there is no such file"):
        read_png(tmp_path / "none.png")


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff\xe0" * 20])
def test_files_of_something_else_are_no_png(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: is no PNG file"):
        read_png(tmp_path / "a.png")


def test_truncated_files_are_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    raw = (tmp_path / "a.png").read_bytes()
    for length in range(0, len(raw) - 16, 29):
        (tmp_path / "a.png").write_bytes(raw[:length])
        with pytest.raises(InputError, match=r"a\.png: is (no PNG|a truncated or corrupt PNG)"):
            read_png(tmp_path / "a.png")


def test_sizes_that_the_file_cannot_hold_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(raw_png(30000, 30000, 8, 0, bytes(100)))
    with pytest.raises(InputError, match="30000×30000 pixels"):
        read_png(tmp_path / "a.png")


def test_pictures_beyond_pillows_bound_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    write_png(Volume(GREY, np.eye(3)), tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: is too large"):
        read_png(tmp_path / "a.png")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(8, 120), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_bytes_give_a_volume_or_a_clear_error(tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.png"
    Image.fromarray(GREY).save(path)
    raw = bytearray(path.read_bytes())
    for position, value in changes:
        raw[position % len(raw)] = value
    path.write_bytes(raw)
    try:
        message = f"{path}: {read_png(path).spatial_shape}"
    except InputError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (GREY, "L"),
        (GREY.astype(np.int64), "L"),
        (GREY > 3, "L"),
        (GREY[..., None], "L"),
        (GREY.astype(np.uint16), "I;16"),
        (GREY.astype(np.int32) * 1000, "I;16"),
        (np.arange(30).reshape(2, 5, 3), "RGB"),
    ],
)
def test_pillow_reads_what_is_written(tmp_path, data, mode):
    write_png(Volume(data, np.eye(3)), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == mode
        np.testing.assert_array_equal(
            np.asarray(image), data[..., 0] if data.shape[2:] == (1,) else data
        )


@pytest.mark.parametrize(
    ("data", "rank", "message"),
    [
        (np.zeros((4, 5, 6), np.uint8), 3, r"not \(4, 5, 6\)"),
        (np.zeros((4, 5, 2), np.uint8), 2, r"not \(4, 5, 2\)"),
        (np.zeros((4, 5), np.float32), 2, "float32; scale and round"),
        (np.full((4, 5), -1), 2, "values -1 to -1"),
        (np.full((4, 5), 65536), 2, "values 65536 to 65536"),
        (np.full((4, 5, 3), 256), 2, "values 256 to 256"),
    ],
)
def test_what_a_png_cannot_hold_is_refused(tmp_path, data, rank, message):
    with pytest.raises(InputError, match=rf"a\.png: .*{message}"):
        write_png(Volume(data, np.eye(rank + 1)), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_files_are_overwritten_only_on_request(tmp_path):
    write_png(Volume(GREY, np.eye(3)), tmp_path / "a.png")
    with pytest.raises(InputError, match="exists already"):
        write_png(Volume(GREY, np.eye(3)), tmp_path / "a.png")
    write_png(Volume(GREY + 1, np.eye(3)), tmp_path / "a.png", overwrite=True)
    np.testing.assert_array_equal(read_png(tmp_path / "a.png").data, GREY + 1)


def test_real_slices(data_dir):
    volume = read_png(data_dir / "meningioma2d/labels/meningioma_000.png")
    assert volume.data.shape == (512, 512)
    assert set(np.unique(volume.data)) == {0, 1}
