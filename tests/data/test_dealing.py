"""Shares of cases, made of whole groups."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segjax.data._dealing import nearest_share, shuffled_groups
from segjax.errors import InputError

sizes_of_groups = st.lists(st.integers(1, 9), min_size=1, max_size=7)


def groups_of(sizes):
    return [[f"g{place}_{n}" for n in range(size)] for place, size in enumerate(sizes)]


@given(sizes_of_groups, st.integers(1, 40))
def test_no_other_choice_of_groups_comes_nearer(sizes, wanted):
    if set(sizes) == {1}:
        return  # single cases, of which exactly so many are taken
    chosen = nearest_share(groups_of(sizes), wanted)
    choices = [
        sum(sizes[place] for place in places)
        for count in range(1, len(sizes))
        for places in itertools.combinations(range(len(sizes)), count)
    ]
    assert chosen == sorted(set(chosen))
    if not choices:
        assert chosen == []
        return
    assert 1 <= len(chosen) < len(sizes)
    reached = sum(sizes[place] for place in chosen)
    assert abs(reached - wanted) == min(abs(choice - wanted) for choice in choices)


def test_the_first_of_equal_groups_are_taken():
    assert nearest_share(groups_of([2, 2, 2, 2]), 4) == [0, 1]
    assert nearest_share(groups_of([1, 1, 1, 1]), 3) == [0, 1, 2]
    assert nearest_share(groups_of([2, 2]), 0) == []


def test_groups_are_whole_and_in_an_order_of_the_seed_alone():
    groups = {f"{patient}{n}": patient for patient in "abcdef" for n in range(3)}
    one, other = (shuffled_groups(groups, groups, seed=seed, where="split") for seed in (1, 2))
    assert sorted(one) == sorted(other) == [[f"{p}0", f"{p}1", f"{p}2"] for p in "abcdef"]
    assert one != other
    assert one == shuffled_groups(reversed(groups), groups, seed=1, where="split")


def test_cases_without_a_group_and_cases_named_twice_are_refused():
    with pytest.raises(InputError, match="folds: case 'b' belongs to no group"):
        shuffled_groups("ab", {"a": "x"}, seed=0, where="folds")
    with pytest.raises(InputError, match="split: case 'a' occurs more than once"):
        shuffled_groups("aba", None, seed=0, where="split")
