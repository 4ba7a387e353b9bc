import itertools

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segjax.errors import InputError
from segjax.train.losses import Loss, Term, tversky_loss
from segjax.train.sweeps.together import (
    check_together,
    deal,
    powers_of_two,
    with_alpha,
)


@given(count=st.integers(0, 200), largest=st.integers(1, 16))
def test_programs_hold_every_member_once_and_have_few_sizes(count, largest):
    sizes = powers_of_two(count, largest)
    assert sum(sizes) == count
    assert all(a >= b for a, b in itertools.pairwise(sizes))
    assert {size for size in sizes if size != largest} <= {1, 2, 4, 8}
    rest = [size for size in sizes if size != largest]
    assert len(rest) == len(set(rest))


@given(st.data(), st.integers(1, 4))
def test_members_are_dealt_evenly_and_few_of_them_move(data, count):
    places = st.sampled_from([None, *range(count)])
    before = data.draw(st.lists(places, min_size=1, max_size=30))
    after = deal(before, range(count))
    assert len(after) == len(before)
    loads = sorted((after.count(device) for device in range(count)), reverse=True)
    assert loads[0] - loads[-1] <= 1
    stayed = sum(old == new for old, new in zip(before, after, strict=True))
    had = sorted((before.count(device) for device in range(count)), reverse=True)
    assert stayed == sum(map(min, had, loads))


def test_alpha_changes_the_tversky_term_alone():
    loss = with_alpha(Loss((Term("tversky", weight=2.0), Term("cross-entropy"))), 0.9)
    assert loss == Loss((Term("tversky", weight=2.0, alpha=0.9), Term("cross-entropy")))
    images, labels = jnp.array([[[0.2, 1.0], [0.4, -1.0]]]), jnp.array([[1, 0]])
    single = with_alpha(Loss((Term("tversky"),)), 0.9)
    assert single(images, labels) == tversky_loss(images, labels, 0.9, logits=True)


def test_alpha_without_a_tversky_term_is_refused():
    with pytest.raises(InputError, match="no Tversky term"):
        with_alpha(Loss(), 0.5)


def test_unknown_way_of_sharing_is_refused():
    with pytest.raises(InputError, match="'threads': choose vmap, unrolled, apart"):
        check_together("threads")
