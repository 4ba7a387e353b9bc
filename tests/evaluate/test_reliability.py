"""Probabilities beside masks, held against labels."""

import dataclasses

import numpy as np
import pytest

from segjax.data.io.formats import write_volume
from segjax.evaluate.compare import compare_cases
from segjax.evaluate.pairs import match_masks
from segjax.evaluate.reliability import calibrations, find_probabilities
from segjax.volume import Volume


@pytest.fixture
def folders(tmp_path):
    truth = np.zeros((4, 4, 4), np.uint8)
    truth[0, 0] = 1
    likely = np.zeros((4, 4, 4), np.float32)
    likely[0, :2] = 0.8  # of 8 voxels 4 are true
    likely[3] = 0.005  # too little to count
    for folder in ("labels", "masks"):
        (tmp_path / folder).mkdir()
        write_volume(Volume(truth, np.eye(4)), tmp_path / folder / "a.nii.gz")
    maps = np.stack([1 - likely, likely], axis=-1)
    write_volume(Volume(maps, np.eye(4)), tmp_path / "masks" / "a_probabilities.nii.gz")
    return tmp_path


@pytest.fixture
def cases(folders):
    return compare_cases(match_masks(folders / "masks", folders / "labels"), names=["lesion"]).cases


def test_only_voxels_near_the_label_count(cases):
    found = calibrations(cases).labels["lesion"]
    assert found.total == 8
    assert found.expected_error == pytest.approx(0.3)  # 0.8 said, 0.5 true
    assert calibrations([*cases, *cases]).labels["lesion"].total == 16


def test_a_mask_without_probabilities_is_named(cases, folders):
    (folders / "masks" / "a_probabilities.nii.gz").unlink()
    assert "no a_probabilities beside it" in calibrations(cases).failed[0].reason
    np.save(folders / "masks" / "a_probabilities.npy", np.zeros((4, 4, 4, 2), np.float32))
    assert find_probabilities(cases[0].pair.prediction).suffix == ".npy"
    assert calibrations(cases).labels["lesion"].total == 4
    np.save(folders / "masks" / "a_probabilities.npy", np.zeros((3, 4, 4, 2), np.float32))
    found = calibrations(cases)
    assert "has shape" in found.failed[0].reason
    assert found.labels == {}
    for odd in (np.nan, 1.5):
        np.save(folders / "masks" / "a_probabilities.npy", np.full((4, 4, 4, 2), odd, np.float32))
        (failure,) = calibrations(cases).failed
        assert failure.case == "a"
        assert "a_probabilities.npy: probability: values must be from 0 to 1" in failure.reason


def test_one_probability_a_label_is_asked_for(cases):
    (case,) = cases
    found = calibrations([dataclasses.replace(case, labels={1: "lesion", 2: "oedema"}), case])
    assert "labels up to 2; give one probability a voxel and label" in found.failed[0].reason
    assert found.labels["lesion"].total == 8
