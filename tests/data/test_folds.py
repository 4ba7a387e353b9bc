import csv
import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.folds import (
    Folding,
    Grouping,
    fold_splits,
    group_by_pattern,
    group_neighbours,
)
from segjax.errors import InputError

names_of_cases = st.lists(
    st.text("abc019_", min_size=1, max_size=5), min_size=2, max_size=40, unique=True
)


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


@given(st.integers(1, 50), st.integers(1, 12))
def test_neighbours_are_runs_of_the_wanted_length(count, size):
    names = [f"slice_{n}" for n in range(count)]
    groups = group_neighbours(reversed(names), size)
    runs = [len(list(run)) for _, run in itertools.groupby(groups[name] for name in names)]
    assert runs == [size] * (count // size) + ([count % size] if count % size else [])


def test_neighbours_follow_numbers_and_not_digits():
    names = ["p2", "p10", "p1", "q1", "p11"]
    assert group_neighbours(names, 2) == {
        "p1": "p1", "p2": "p1", "p10": "p10", "p11": "p10", "q1": "q1"
    }  # fmt: skip


def test_pattern_takes_its_brackets_or_all_it_finds():
    names = ["site1_sub7_a", "site1_sub7_b", "site2_sub7_a"]
    assert set(group_by_pattern(names, "sub[0-9]+").values()) == {"sub7"}
    two = group_by_pattern(names, "(site[0-9]).*(sub[0-9]+)")
    assert list(two.values()) == ["site1 sub7", "site1 sub7", "site2 sub7"]
    assert set(group_by_pattern(["a"], "a(x)?").values()) == {""}


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


def test_cases_without_a_way_of_grouping_stand_alone():
    assert Grouping().groups(["a", "b"]) is None


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
