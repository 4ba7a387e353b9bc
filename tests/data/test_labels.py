"""What stored label values stand for."""

import numpy as np
import pytest

from segjax.data.labels import (
    IGNORED,
    PLAIN,
    LabelCoding,
    check_names,
    classes_of,
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


def test_a_coding_survives_json():
    coding = LabelCoding(values=(0, 255), names=("background", "lesion"), ignored=3)
    assert LabelCoding.from_json(coding.to_json()) == coding


def test_ignored_voxels_are_neither_a_class_nor_foreground():
    label = np.array([0, 1, IGNORED])
    assert classes_of(label, LabelCoding(ignored=2)) == [0, 1]
    assert classes_of(label, LabelCoding()) == [0, 1, 255]
    assert foreground(label).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({0: "background", 1: "a", 2: " A"}, "two labels are called 'a'"),
        ({0: "background", 1: " "}, "the label of value 1 has no name"),
        ({0: "lesion", 1: "Background"}, "the value 1 is called 'Background', which 0 is"),
        ({0: "background", 1: "a", -1: "ignore"}, "the label 'ignore' has the value -1"),
    ],
)
def test_names_that_tell_no_values_apart_are_refused_with_the_file(names, said):
    with pytest.raises(InputError, match=rf"^dataset\.json: {said}"):
        check_names(names, "dataset.json")


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
