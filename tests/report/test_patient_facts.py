"""What casts doubt on the figures of a patient's page, and how figures are told."""

import numpy as np
import pytest

from segjax.evaluate.measure import measure_mask
from segjax.report.patient_facts import (
    Patient,
    cut_sides,
    definitions,
    obliqueness,
    size_table,
    size_told,
    summary,
    warnings_of,
)
from segjax.report.patient_slices import pieces_of
from segjax.report.patient_texts import language_of
from segjax.volume import Volume

ENGLISH, FRENCH = language_of("en"), language_of("fr")


def patient(mask, spacing=(1.0, 1.0, 1.0), **more):
    affine = np.diag([*spacing, 1.0])
    image = Volume(np.ones(mask.shape, np.float32), affine)
    mask = Volume(mask, affine)
    brain = more.pop("brain", None)
    brain = None if brain is None else Volume(brain, affine)
    labels = measure_mask(mask, labels=("background", "lesion"))
    return Patient("x", image, mask, labels, brain=brain, **more)


def warned(given, language=ENGLISH):
    return warnings_of(given, pieces_of(given.mask, given.labels), language)


def block(shape=(20, 20, 20), *boxes):
    mask = np.zeros(shape, np.uint8)
    for box in boxes:
        mask[box] = 1
    return mask


INSIDE = np.s_[5:10, 5:10, 5:10]


def test_nothing_is_doubted_of_a_lesion_inside_an_image_of_thin_slices():
    assert warned(patient(block((20, 20, 20), INSIDE))) == []


def test_lesions_at_the_edge_are_lower_bounds():
    (text,) = warned(patient(block((20, 20, 20), INSIDE, np.s_[12:16, 12:16, 0:4])))
    assert text == "Lesion 2 of lesion reaches the edge of the image: its size is a lower bound."
    both = patient(block((20, 20, 20), np.s_[:4, 5:9, 5:9], np.s_[16:, 5:9, 5:9]))
    assert warned(both)[0].startswith("Lesions 1, 2 of lesion reach the edge")


def test_tiny_lesions_are_counted():
    # 14 voxels of 1 mm³ are less than a sphere of 3 mm, π/6 · 27 = 14.1 mm³; 15 are not
    mask = block((20, 20, 20), np.s_[2:4, 2:9, 2], np.s_[8:11, 2:7, 2])
    assert warned(patient(mask)) == ["1 lesion is smaller than a sphere of 3 mm (14.1\u00a0mm³)."]


def test_thick_slices_are_told():
    (text,) = warned(patient(block((20, 20, 20), INSIDE), spacing=(0.5, 0.5, 6.5)), FRENCH)
    assert text.startswith("Les coupes sont distantes de 6,5\u00a0mm")


def test_a_brain_that_reaches_the_edge_is_cut_off():
    brain = block((20, 20, 20), np.s_[3:17, 3:17, 3:])
    texts = warned(patient(block((20, 20, 20), INSIDE), brain=brain))
    assert texts == [
        "The brain is cut off at the edge of the image (head): lesions beyond it are not counted."
    ]
    assert (
        warned(
            patient(block((20, 20, 20), INSIDE), brain=block((20, 20, 20), np.s_[3:17, 3:17, 3:17]))
        )
        == []
    )


def test_a_brainstem_may_leave_the_image():
    brain = block((20, 20, 20), np.s_[3:17, 3:17, 6:17], np.s_[8:12, 8:12, :6])
    assert cut_sides(Volume(brain, np.eye(4))) == []
    flipped = np.diag([1.0, 1.0, -1.0, 1.0])
    assert cut_sides(Volume(brain[..., ::-1], flipped)) == []
    assert cut_sides(Volume(brain[..., ::-1], np.eye(4))) == []  # 8 % of the largest section
    assert cut_sides(Volume(np.ones((20, 20, 20), bool), np.eye(4))) == [
        "left", "right", "back", "front", "feet", "head",
    ]  # fmt: skip
    assert cut_sides(Volume(np.ones((5, 5), bool), np.eye(3))) == []
    assert cut_sides(Volume(np.ones((5, 5, 1), bool), np.eye(4)))[:2] == ["left", "right"]


def test_lesions_outside_the_brain_are_told():
    texts = warned(
        patient(block((20, 20, 20), INSIDE), brain=block((20, 20, 20), np.s_[7:17, 3:17, 3:17]))
    )
    assert texts == ["40.0\u00a0% of lesion lies outside the brain."]


def test_what_the_network_doubts_comes_first():
    doubt = "its voxels of 1 × 1 × 6.5 mm are far from 1 × 1 × 1 mm of the training"
    given = patient(block((20, 20, 20), INSIDE), doubts=(doubt,))
    assert doubt in warned(given)[0]
    assert "l’entraînement (1 × 1 × 1 mm)." in warned(given, FRENCH)[0]
    unknown = patient(block((20, 20, 20), INSIDE), doubts=None)
    assert "does not tell what it was trained on" in warned(unknown)[0]


@pytest.mark.parametrize(
    ("size", "told"),
    [(50.0, "0.050 ml"), (999.0, "0.999 ml"), (5678.0, "5.68 ml"), (41235.0, "41.2 ml")],
)
def test_volumes_have_three_digits_or_so(size, told):
    image = Volume(np.ones((2, 2, 2)), np.eye(4))
    assert size_told(size, image, ENGLISH).replace("\u00a0", " ") == told


def test_classes_of_size_hold_every_lesion_once():
    boxes = [
        np.s_[1:4, 1:4, 1],
        np.s_[6:8, 1:6, 1],
        np.s_[10:20, 1:11, 3:4],
        np.s_[10:20, 12:22, 5:15],
    ]
    given = patient(block((24, 24, 24), *boxes))  # 9, 10, 100 and 1000 mm³
    table = size_table(given, given.labels[0], ENGLISH)
    assert [row[1] for row in table.rows] == ["1", "1", "1", "1"]
    assert [row[0].replace("\u00a0", " ") for row in table.rows] == [
        "below 10 mm³", "10 mm³ to 100 mm³", "100 mm³ to 1 ml", "1 ml or more",
    ]  # fmt: skip
    assert [row[3].replace("\u00a0", " ") for row in table.rows] == ["1 %", "1 %", "9 %", "89 %"]


def test_one_lesion_is_not_told_twice():
    given = patient(block((20, 20, 20), INSIDE))
    assert list(summary(given, given.labels[0], ENGLISH)) == ["total", "lesion", "two diameters"]


@pytest.mark.parametrize("degrees", [0.0, 5.0, 16.0, 40.0])
def test_oblique_slices_are_told_with_their_angle(degrees):
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ np.diag([0.5, 0.5, 6.5, 1.0])
    assert obliqueness(affine) == pytest.approx(degrees, abs=1e-5)
    image = Volume(np.ones((4, 4, 4), np.float32), affine)
    mask = Volume(np.zeros((4, 4, 4), np.uint8), affine)
    given = Patient("x", image, mask, measure_mask(mask))
    assert any(f"{degrees:.0f}°" in text for text in definitions(given, ENGLISH)) == (degrees > 3)
