"""Splits, and the folds of a cross-validation."""

import csv
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.grouping import Grouping, group_by_pattern, group_neighbours
from segjax.data.splits import (
    Folding,
    Split,
    fold_splits,
    read_fold_splits,
    read_split,
    split_cases,
    write_split,
)
from segjax.data.splits import _nearest_share as nearest_share
from segjax.data.splits import _shuffled_groups as shuffled_groups
from segjax.errors import InputError

names_of_cases = st.lists(
    st.text("abc019_", min_size=1, max_size=5), min_size=2, max_size=40, unique=True
)

sizes_of_groups = st.lists(st.integers(1, 9), min_size=1, max_size=7)


def test_split_is_a_partition_of_the_given_sizes():
    names = [f"case{i:03d}" for i in range(210)]
    split = split_cases(names, validation=0.2, test=0.1, seed=3)
    assert (len(split.train), len(split.validation), len(split.test)) == (147, 42, 21)
    assert sorted(split.train + split.validation + split.test) == names


def test_split_depends_on_names_and_seed_alone():
    names = [f"case{i}" for i in range(30)]
    assert split_cases(names) == split_cases(reversed(names))
    assert split_cases(names) != split_cases(names, seed=1)


def test_test_set_stays_when_validation_changes():
    names = [f"case{i}" for i in range(30)]
    tests = {split_cases(names, validation=v, test=0.2).test for v in (0.0, 0.1, 0.4)}
    assert len(tests) == 1


def test_small_datasets_keep_one_case_to_validate_on():
    split = split_cases(["a", "b"], validation=0.1)
    assert (len(split.train), len(split.validation)) == (1, 1)
    assert split_cases(["a"], validation=0.0) == Split(("a",), ())


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["a", "a"], {}, "case 'a' occurs more than once"),
        (["a", "b"], {"validation": 1.0}, "fraction 1.0 for validation"),
        (["a", "b"], {"test": -0.1}, "fraction -0.1 for test"),
        (["a"], {}, "leave none to train on"),
        (["a", "b"], {"test": 0.5}, "leave none to train on"),
    ],
)
def test_impossible_splits_are_refused(names, options, message):
    with pytest.raises(InputError, match=message):
        split_cases(names, **options)


def test_split_survives_a_file(tmp_path):
    split = Split(train=("a", "b"), validation=("c",), test=("é",))
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split
    with pytest.raises(InputError, match="exists"):
        write_split(split, tmp_path / "split.json")
    write_split(Split(("x",), ()), tmp_path / "split.json", overwrite=True)
    assert read_split(tmp_path / "split.json") == Split(("x",), ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("{", "is no JSON"),
        ("[]", "a split is an object"),
        ('{"train": ["a"]}', "a split is an object"),
        ('{"train": "a", "validation": []}', "'train' is no list"),
        ('{"train": ["a"], "validation": ["a"]}', "case 'a' occurs more than once"),
    ],
)
def test_files_that_are_no_split_are_named(tmp_path, content, message):
    path = tmp_path / "split.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=rf"split\.json: .*{message}"):
        read_split(path)


def test_groups_are_split_whole_and_as_near_to_the_fractions_as_they_can_be():
    sizes = {"a": 10, "b": 4, "c": 3, "d": 2, "e": 1}
    groups = {f"{group}{n}": group for group, size in sizes.items() for n in range(size)}
    for seed in range(8):
        split = split_cases(groups, validation=0.2, test=0.3, seed=seed, groups=groups)
        parts = [{groups[name] for name in part} for part in (split.train, split.validation)]
        parts.append({groups[name] for name in split.test})
        assert sum(map(len, parts)) == 5
        assert (len(split.validation), len(split.test)) == (4, 6)
        assert sorted(split.train + split.validation + split.test) == sorted(groups)


def test_groups_of_one_case_change_no_split():
    names = [f"case{i}" for i in range(30)]
    alone = {name: name for name in names}
    for seed in range(4):
        plain = split_cases(names, test=0.1, seed=seed)
        assert split_cases(names, test=0.1, seed=seed, groups=alone) == plain


def test_a_split_without_groups_is_the_one_it_always_was():
    names = [f"case{i:02d}" for i in range(12)]
    order = [sorted(names)[i] for i in np.random.default_rng(3).permutation(12)]
    split = split_cases(names, validation=0.25, test=0.1, seed=3)
    assert split.test == tuple(order[:1])
    assert split.validation == tuple(sorted(order[1:4]))


def test_one_group_cannot_be_split():
    with pytest.raises(InputError, match=r"1 group with fractions .* leave none to train on"):
        split_cases("ab", groups={"a": "x", "b": "x"})


def test_splits_of_folds_are_read_as_nnunet_writes_them(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text('[{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a", "b"]}]')
    assert read_fold_splits(path) == (Split(("a", "b"), ("c",)), Split(("c",), ("a", "b")))
    with pytest.raises(InputError, match=r"splits_final\.json: holds the splits of 2 folds"):
        read_split(path)
    write_split(Split(("a",), ("b",)), tmp_path / "split.json")
    assert read_fold_splits(tmp_path / "split.json") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "neither a split nor a list"),
        ("3", "neither a split nor a list"),
        ('[{"train": ["a"], "val": ["b"]}, {"train": ["a"]}]', "fold 1: a split is an object of"),
        ('[{"train": ["a"], "val": ["a"]}]', "fold 0: case 'a' occurs more than once"),
        ('[{"train": "a", "val": []}]', "fold 0: 'train' is no list"),
    ],
)
def test_files_that_are_no_splits_of_folds_are_named(tmp_path, content, message):
    path = tmp_path / "splits_final.json"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"splits_final\.json.*{message}"):
        read_fold_splits(path)


def assert_every_case_is_validated_once(names, splits):
    assert Counter(name for split in splits for name in split.validation) == Counter(names)
    for split in splits:
        assert {*split.train, *split.validation} == set(names)
        assert not set(split.train) & set(split.validation)
        assert split.test == ()
        assert list(split.train) == sorted(split.train)
        assert list(split.validation) == sorted(split.validation)


@given(names_of_cases, st.data(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_case_is_validated_once_in_folds_of_nearly_one_size(names, data, seed):
    folds = data.draw(st.integers(2, len(names)))
    splits = fold_splits(names, folds, seed=seed)
    assert len(splits) == folds
    assert_every_case_is_validated_once(names, splits)
    sizes = [len(split.validation) for split in splits]
    assert max(sizes) - min(sizes) <= 1


@given(names_of_cases, st.data(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_groups_are_never_parted(names, data, seed):
    groups = {name: data.draw(st.sampled_from("pqrst")) for name in names}
    sizes = Counter(groups.values())
    if len(sizes) < 2:
        return
    folds = data.draw(st.integers(2, len(sizes)))
    splits = fold_splits(names, folds, seed=seed, groups=groups)
    assert_every_case_is_validated_once(names, splits)
    for split in splits:
        train, validation = ({groups[n] for n in part} for part in (split.train, split.validation))
        assert not train & validation
    counts = [len(split.validation) for split in splits]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= max(sizes.values())


@given(names_of_cases, st.randoms(use_true_random=False), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_order_of_the_names_does_not_matter(names, random, seed):
    shuffled = list(names)
    random.shuffle(shuffled)
    assert fold_splits(names, 2, seed=seed) == fold_splits(shuffled, 2, seed=seed)


def test_seeds_deal_in_different_ways_and_one_seed_in_the_same():
    names = [f"case{n}" for n in range(20)]
    dealt = [fold_splits(names, 4, seed=seed) for seed in range(8)]
    assert len(set(dealt)) == 8
    assert fold_splits(iter(names), 4, seed=3) == dealt[3]


def write_table(folder, names, columns, values):
    path = folder / "patients.csv"
    rows = zip(names, *values, strict=True)
    path.write_text("\n".join([columns, *(",".join(row) for row in rows)]))
    return path


def test_folding_groups_as_it_was_asked_to(tmp_path):
    names = [f"{patient}{number}" for patient in "abcd" for number in range(3)]
    table = write_table(tmp_path, names, "case,patient", [[name[0] for name in names]])
    ways = Grouping(pattern="^[a-d]"), Grouping(neighbours=3), Grouping(table=table)
    for grouping in ways:
        for split in Folding(4, grouping).splits(names):
            assert {name[0] for name in split.train}.isdisjoint({n[0] for n in split.validation})
    assert Folding(4).splits(names, seed=2) == fold_splits(names, 4, seed=2)


def test_folds_of_a_table_are_taken_as_they_are_where_there_are_so_many(tmp_path):
    names, folds, patients = "abcdef", ["10", "2", "2", "10", "2", "2"], list("xyzxyy")
    table = write_table(tmp_path, names, "case,fold,patient", [folds, patients])
    splits = Folding(2, Grouping(table=table)).splits(names)
    assert [split.validation for split in splits] == [("b", "c", "e", "f"), ("a", "d")]
    assert splits == Folding(2, Grouping(table=table)).splits(names, seed=5)
    three = Folding(3, Grouping(table=table)).splits(names)
    assert {split.validation for split in three} == {("a", "d"), ("b", "e", "f"), ("c",)}


def test_folds_of_a_table_that_part_a_patient_are_refused(tmp_path):
    table = write_table(tmp_path, "abcd", "case,fold,patient", [list("0011"), list("xyyz")])
    with pytest.raises(InputError, match=r"patients\.csv: has y in the folds 0 and 1"):
        Folding(2, Grouping(table=table)).splits("abcd")
    assert len(Folding(3, Grouping(table=table)).splits("abcd")) == 3


def test_folds_of_the_meningiomas_are_those_of_their_author(data_dir):
    path = data_dir / "meningioma2d" / "patient_folds.csv"
    with path.open(newline="") as file:
        fold_of = {row["case"]: row["fold"] for row in csv.DictReader(file)}
    splits = Folding(5, Grouping(table=path)).splits(fold_of)
    for fold, split in enumerate(splits):
        assert {fold_of[name] for name in split.validation} == {str(fold + 1)}
        assert str(fold + 1) not in {fold_of[name] for name in split.train}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Folding(1), "1 fold: give at least 2"),
        (lambda: Grouping("a", 3), "by one only"),
        (lambda: Grouping(neighbours=3, table="patients.csv"), "by one only"),
        (lambda: fold_splits(["a", "b"], 3), "3 folds of 2 cases: give from 2 to 2"),
        (
            lambda: fold_splits("abc", 3, groups=dict.fromkeys("abc", "x")),
            "3 folds of 1 group: there must be 2",
        ),
        (lambda: fold_splits(["a", "b", "a"], 2), "'a' occurs more than once"),
        (lambda: fold_splits(["a", "b"], 2, groups={"a": "x"}), "'b' belongs to no group"),
        (lambda: group_by_pattern(["a"], "("), "not a regular expression"),
        (lambda: group_by_pattern(["ab", "b"], "a"), "case 'b': 'a' finds nothing"),
        (lambda: group_by_pattern(["a1", "a2"], "[0-9]*"), "'a1': .* finds nothing in its name"),
        (lambda: group_by_pattern(["a1", "a2"], "(b)?"), "'a1': .* finds nothing in its name"),
        (lambda: group_neighbours(["a"], 0), "groups of 0 neighbours"),
    ],
)
def test_what_cannot_be_dealt_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


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
