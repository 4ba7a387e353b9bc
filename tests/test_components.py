"""Connected components: against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segjax.components import label_components


def check(mask, axes_at_once):
    structure = ndimage.generate_binary_structure(mask.ndim, axes_at_once)
    expected, count = ndimage.label(mask, structure)
    labels, found = label_components(mask, axes_at_once=axes_at_once)
    assert found == count
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple),
    st.floats(0, 1),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_numbers_are_scipys(shape, share, axes_at_once, seed):
    mask = np.random.default_rng(seed).random(shape) < share
    check(mask, min(axes_at_once, len(shape)))


@pytest.mark.parametrize("axes_at_once", [1, 2, 3])
@pytest.mark.parametrize("share", [0.03, 0.3, 0.5])
def test_numbers_of_noise_are_scipys(share, axes_at_once):
    check(np.random.default_rng(0).random((40, 50, 30)) < share, axes_at_once)


def test_a_spiral_is_one_piece():
    mask = np.zeros((41, 41), bool)
    for ring in range(0, 20, 2):
        mask[ring, ring : 41 - ring] = mask[40 - ring, ring : 41 - ring] = True
        mask[ring + 1 : 41 - ring, ring] = mask[ring : 41 - ring, 40 - ring] = True
        mask[ring + 1, ring] = False
        mask[ring + 2, ring + 1] = True
    check(mask, 1)
    assert label_components(mask, axes_at_once=1)[1] == 1


def test_other_orders_in_memory_are_numbered_alike():
    mask = np.random.default_rng(0).random((9, 8, 7)) < 0.3
    labels, _ = label_components(mask)
    np.testing.assert_array_equal(label_components(np.asfortranarray(mask))[0], labels)


def test_by_default_all_that_touches_is_one():
    mask = np.eye(5, dtype=bool)
    assert label_components(mask)[1] == 1
    assert label_components(mask, axes_at_once=1)[1] == 5


def test_real_lesions_are_scipys(data_dir):
    import nibabel

    for file in sorted((data_dir / "ms_lesions").glob("*/lesions.nii.gz")):
        for axes_at_once in (1, 2, 3):
            check(np.asanyarray(nibabel.load(file).dataobj) > 0, axes_at_once)
