"""What stored label values stand for."""

import json

import numpy as np
import pytest

from segjax.data.labels import (
    IGNORED,
    PLAIN,
    LabelCoding,
    asked_coding,
    classes_of,
    coding_of_labels,
    coding_of_segments,
    foreground,
)
from segjax.errors import InputError


def test_values_become_classes_in_the_order_they_are_listed():
    coding = LabelCoding(values=(0, 255, 7), names=("background", "a", "b"))
    assert coding.decode(np.array([[0, 7], [255, 0]], np.uint8), "a.png").tolist() == [
        [0, 2],
        [1, 0],
    ]


def test_values_that_are_classes_already_come_back_as_they_are():
    stored = np.array([0, 1, 2, 9])
    assert LabelCoding().decode(stored, "a.png") is stored
    assert LabelCoding(values=(0, 1, 2)).decode(stored, "a.png") is stored


def test_ignored_values_get_the_value_that_counts_for_nothing():
    coding = LabelCoding(values=(0, 1), ignored=2)
    decoded = coding.decode(np.array([0, 1, 2], np.int64), "a.nii")
    assert decoded.tolist() == [0, 1, IGNORED]
    assert decoded.dtype == np.uint8
    assert LabelCoding(ignored=3).decode(np.array([0, 1, 3]), "a").tolist() == [0, 1, IGNORED]


def test_a_value_without_a_class_names_the_file():
    coding = LabelCoding(values=(0, 255))
    with pytest.raises(InputError, match=r"mask\.png: has labels 128, but the labels are 0, 255"):
        coding.decode(np.array([0, 128, 255]), "mask.png")


def test_one_value_cannot_be_two_classes():
    with pytest.raises(InputError, match="a value of its own"):
        LabelCoding(values=(0, 1), ignored=1)


def test_a_class_has_not_the_number_of_what_counts_for_nothing():
    with pytest.raises(InputError, match="256 classes: masks hold 255 at most"):
        asked_coding([f"{value}=class {value}" for value in range(1, 256)])


def test_the_order_of_the_values_of_a_class_means_nothing():
    said = [asked_coding([f"{values}=core", "2=edema"]) for values in ("1,4", "4,1")]
    assert said[0] == said[1]


def test_a_coding_survives_json():
    coding = LabelCoding(values=(0, 255), names=("background", "lesion"), ignored=3)
    assert LabelCoding.from_json(coding.to_json()) == coding


def test_ignored_voxels_are_neither_a_class_nor_foreground():
    label = np.array([0, 1, IGNORED])
    assert classes_of(label, LabelCoding(ignored=2)) == [0, 1]
    assert classes_of(label, LabelCoding()) == [0, 1, 255]
    assert foreground(label).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("options", "values", "names", "ignored"),
    [
        (["255=lesion"], (0, 255), "background lesion", None),
        (["1,4=core", "2=edema"], (0, (1, 4), 2), "background core edema", None),
        (["1=core", " 2 , 4 = edema", "4=edema "], (0, 1, (2, 4)), "background core edema", None),
        (["4=b", "1=a"], (0, 4, 1), "background b a", None),
        (["1,2,4=tumour"], (0, (1, 2, 4)), "background tumour", None),
        (["1=core", "3=ignore"], (0, 1), "background core", 3),
        (["1=core", "3,4=Ignore"], (0, 1), "background core", (3, 4)),
        (["1=core", "2=background"], ((0, 2), 1), "background core", None),
        (["0=lesion", "1=background"], (1, 0), "background lesion", None),
        (["0=healthy", "1=lesion"], (0, 1), "healthy lesion", None),
        (["0=ignore", "1=lesion", "2=background"], (2, 1), "background lesion", 0),
    ],
)
def test_options_say_which_values_make_a_class(options, values, names, ignored):
    assert asked_coding(options) == LabelCoding(values, tuple(names.split()), ignored)


def test_names_are_those_of_the_values_1_2_and_so_on():
    assert asked_coding(names=["a", "b"]) == LabelCoding((0, 1, 2), ("background", "a", "b"))
    assert asked_coding() is None


@pytest.mark.parametrize(
    ("labels", "names", "said"),
    [
        (["lesion=255"], [], "--labels lesion=255: write VALUE=NAME, such as 255=lesion"),
        (["255"], [], "--labels 255: write VALUE=NAME"),
        (["1,=a"], [], "--labels 1,=a: write"),
        (["-1=a"], [], "--labels -1=a: write"),
        (["1="], [], "--labels: a label has no name"),
        (["1=a", "2=A"], [], "--labels: two labels are called 'a'"),
        (["1,2=a", "2=b"], [], "--labels: the value 2 is of 'a' and of 'b'"),
        (["3=ignore"], [], "--labels: nothing is labelled but the background"),
        (["0=ignore", "1=a"], [], "--labels: 0 is ignored; say which value is the background"),
        (["1=a"], ["a"], "--labels names the classes already: leave out --names"),
        ([], ["background", "a"], "--names: the background is 0"),
        ([], ["a", "a"], "--names a a: give each label its own name"),
    ],
)
def test_options_that_name_no_classes_are_refused(labels, names, said):
    with pytest.raises(InputError) as caught:
        asked_coding(labels, names=names)
    assert str(caught.value).startswith(said)


def test_several_values_become_one_class_and_left_out_ones_background():
    stored = np.array([0, 1, 2, 3, 4], np.int32)
    coding = asked_coding(["1,4=core", "2=background", "3=ignore"])
    assert coding.decode(stored, "a.nii").tolist() == [0, 1, 0, IGNORED, 1]


def test_the_remedy_for_a_value_without_a_class_is_said():
    with pytest.raises(InputError, match=r"a\.nii: has labels 3, .*: 3=NAME, or 3=background to"):
        LabelCoding((0, (1, 2))).decode(np.array([3]), "a.nii")


@pytest.mark.parametrize(
    "options", [["1,4=core", "2=edema"], ["2=background", "1=a", "3,4=ignore"]]
)
def test_a_coding_with_merged_values_survives_json_and_a_settings_file(options):
    coding = asked_coding(options)
    assert LabelCoding.from_json(json.loads(json.dumps(coding.to_json()))) == coding
    written = json.loads(json.dumps(coding.as_labels()))
    assert coding_of_labels(written, "label_values") == coding


@pytest.mark.parametrize("value", [-1, 1.5, True, "1", None, [], [1, None]])
def test_only_whole_numbers_are_values(value):
    with pytest.raises(InputError, match=r"^label_values: the label 'a' has the value"):
        coding_of_labels({"a": value}, "label_values")


def test_a_coding_is_told_in_words():
    coding = asked_coding(["1,4=core", "2=edema", "3=ignore"])
    assert str(coding) == "background (0), core (1, 4), edema (2), ignore (3)"


def test_segments_are_classes_in_order_and_ignore_is_none():
    found = coding_of_segments({"a": ["Lesion ", "IGNORE"], "b": [], "c": ["cyst", "lesion"]})
    assert found == LabelCoding((0, 1, 2), ("background", "Lesion", "cyst"), IGNORED)
    assert coding_of_segments({"a": ["lesion"]}).ignored is None
    assert coding_of_segments({"a": None, "b": []}) == PLAIN


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        ({"a": ["lesion"], "b": None}, "b: holds no segments with names"),
        ({"a": ["lesion"], "b": ["Background"]}, "b: has a segment called 'Background'"),
        ({"a": [], "b": ["ignore"]}, "b: has no segment but 'ignore'"),
    ],
)
def test_segments_that_name_no_classes_are_refused_with_the_file(segments, said):
    with pytest.raises(InputError, match=f"^{said}"):
        coding_of_segments(segments)
