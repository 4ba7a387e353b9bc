"""Which cases belong together."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segjax.data.grouping import Grouping, group_by_pattern, group_neighbours, read_group_table
from segjax.errors import InputError


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


def test_cases_without_a_way_of_grouping_stand_alone():
    assert Grouping().groups(["a", "b"]) is None


def test_sessions_are_grouped_by_subject_where_that_says_something():
    names = ["sub-a_ses-1", "sub-a_ses-2_anat", "sub-b+c"]
    assert Grouping().groups(names) == {
        "sub-a_ses-1": "sub-a", "sub-a_ses-2_anat": "sub-a", "sub-b+c": "sub-b+c"
    }  # fmt: skip
    for others in (names[:2], names[1:], [*names, "b"], ["sub-", "sub-_1"]):
        assert Grouping().groups(others) is None


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a table."""

    def written(text, encoding="utf-8"):
        path = tmp_path / "patients.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return written


@pytest.mark.parametrize(
    "text",
    [
        "case,patient\na1,anna\nb1,ben\n",
        "patient;age;name\r\nanna;40;a1\r\nben;50;b1\r\n",
        "patient,slice\nanna,a1\nben,b1\n",
        "slice,who\na1,anna\nb1,ben\n",
        "image\tsubject\nimages/a1.nii.gz\tanna\nC:\\data\\b1.PNG\tben\n\n",
        'Case, Group\n"a1", "anna"\n"b1",ben\n',
    ],
)
def test_columns_are_found_by_their_names_or_places(write, text):
    for encoding in ("utf-8", "utf-8-sig"):
        groups = read_group_table(write(text, encoding)).of(["b1", "a1"])
        assert groups == {"b1": "ben", "a1": "anna"}


def test_folds_are_groups_where_no_column_names_patients(write):
    table = read_group_table(write("case,fold\na,2\nb,1\nc,2\n"))
    assert (
        table.of(list("abc")) == table.of(list("abc"), folds=True) == {"a": "2", "b": "1", "c": "2"}
    )
    both = read_group_table(write("case,fold,patient\na,2,x\nb,1,y\n"))
    assert (both.of(["a"]), both.of(["a"], folds=True)) == ({"a": "x"}, {"a": "2"})


def test_dots_in_names_are_no_suffixes(write):
    table = read_group_table(write("case,patient\npatient.7,a\npatient.8,b\n"))
    assert table.of(["patient.7", "patient.8"]) == {"patient.7": "a", "patient.8": "b"}


def test_names_match_in_either_form_of_unicode(write):
    assert read_group_table(write("case,patient\nZoe\u0308,a\n")).of(["Zo\u00eb"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds 0 rows: give a heading and cases"),
        ("case,patient\n", "holds 1 row: give a heading"),
        ("case\na\n", "has one column"),
        ("case,patient\na\n", "the row 'a' lacks a case or its group"),
        ("case,patient\na,\n", "the row 'a, ' lacks"),
        ("case,patient\na,x\na.png,y\n", "case 'a' is in group x and in y"),
        ('case,patient\n"a,x\n', "is no CSV in UTF-8"),
    ],
)
def test_tables_that_group_nothing_are_named(write, text, message):
    with pytest.raises(InputError, match=rf"patients\.csv: .*{message}"):
        read_group_table(write(text))


def test_cases_that_the_table_lacks_are_named(write):
    table = read_group_table(write("case,patient\na,x\n"))
    with pytest.raises(InputError, match=r"patients\.csv: has no row for case 'b', nor for 1 more"):
        table.of(["a", "b", "c"])
    with pytest.raises(InputError, match=r"absent\.csv: there is no such file"):
        read_group_table(write("").with_name("absent.csv"))


def test_other_encodings_are_refused(write):
    with pytest.raises(InputError, match="is no CSV in UTF-8"):
        read_group_table(write("case,patient\nZoë,x\n", "latin-1"))


def test_patients_of_the_meningiomas_are_read(data_dir):
    path = data_dir / "meningioma2d" / "patient_folds.csv"
    names = [file.stem for file in (data_dir / "meningioma2d" / "labels").iterdir()]
    folds = read_group_table(path).of(names, folds=True)
    assert len(folds) == 602
    assert sorted(set(folds.values())) == ["1", "2", "3", "4", "5"]


def test_participants_of_bids_stand_for_their_sessions_whatever_else_is_said_of_them(write):
    table = write("participant_id\tgroup\tfold\nsub-1\tpatient\t0\nsub-2\tpatient\t1\n")
    names = ["sub-1_ses-1", "sub-1_ses-2", "sub-2"]
    grouping = Grouping(table=table)
    assert list(grouping.groups(names).values()) == ["sub-1", "sub-1", "sub-2"]
    assert grouping.ready_folds(names, 2) == [names[:2], names[2:]]
    with pytest.raises(InputError, match="no row for case 'sub-3_ses-1'"):
        grouping.groups(["sub-3_ses-1"])
    assert read_group_table(write("participant_id\nsub-1\n")).of(["sub-1_x"])
