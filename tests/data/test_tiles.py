import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from segjax.data.tiles import pad_behind, plan_tiles
from segjax.errors import InputError

multiples = st.sampled_from([1, 2, 4, 8])


@st.composite
def plans(draw):
    rank, multiple = draw(st.integers(1, 3)), draw(multiples)
    shape = tuple(multiple * draw(st.integers(1, 5)) for _ in range(rank))
    halo = tuple(draw(st.integers(0, 6)) for _ in range(rank))
    return shape, halo, multiple, draw(st.integers(1, 2 * math.prod(shape)))


@given(plans())
def test_tiles_keep_each_voxel_once_and_read_it_with_the_halo(drawn):
    shape, halo, multiple, most = drawn
    kept = np.zeros(shape, int)
    for tile in plan_tiles(shape, halo=halo, multiple=multiple, most=most):
        kept[tile.write] += 1
        for read, write, size, reach in zip(tile.read, tile.write, shape, halo, strict=True):
            assert max(0, write.start - reach) >= read.start >= 0
            assert min(size, write.stop + reach) <= read.stop <= size
            assert (read.start % multiple, read.stop % multiple) == (0, 0)
    assert (kept == 1).all()


@given(plans())
def test_a_sum_over_the_halo_is_the_same_in_tiles(drawn):
    shape, halo, multiple, most = drawn
    image = np.random.default_rng(0).integers(0, 9, shape)
    size = [2 * reach + 1 for reach in halo]
    sums = lambda part: ndimage.convolve(part, np.ones(size, int), mode="constant")  # noqa: E731
    found = np.zeros(shape, int)
    for tile in plan_tiles(shape, halo=halo, multiple=multiple, most=most):
        found[tile.write] = sums(image[tile.read])[tile.inside]
    np.testing.assert_array_equal(found, sums(image))


@given(plans())
def test_no_tile_is_larger_than_allowed_where_that_is_cheap(drawn):
    shape, halo, multiple, most = drawn
    sizes = [tile.size for tile in plan_tiles(shape, halo=halo, multiple=multiple, most=most)]
    assert sum(sizes) <= 8 * math.prod(shape)
    if most >= math.prod(shape):
        assert sizes == [math.prod(shape)]
    elif not any(halo) and most >= multiple ** len(shape):
        assert max(sizes) <= most


def test_the_fewest_voxels_are_computed_twice():
    tiles = plan_tiles((64, 16, 16), halo=(4, 4, 4), most=64 * 16 * 16 // 2 + 5 * 256)
    assert [tile.write[0] for tile in tiles] == [slice(0, 32), slice(32, 64)]


def test_sizes_that_are_no_multiples_are_refused():
    with pytest.raises(InputError, match="a size of 12: give multiples of 8"):
        plan_tiles((16, 12), halo=(1, 1), multiple=8)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=3), multiples, st.integers(0, 2))
def test_zeros_are_added_behind_up_to_a_multiple(shape, multiple, times):
    image, least = np.ones((*shape, 2), np.float32), [times * multiple] * len(shape)
    padded = pad_behind(image, multiple, least)
    for size, before, wanted in zip(padded.shape, shape, least, strict=False):
        assert size % multiple == 0
        assert size >= wanted
        assert size < max(before + multiple, wanted + 1)
    assert padded.sum() == image.sum()
    np.testing.assert_array_equal(padded[tuple(map(slice, shape))], image)
