"""What the comparison of registrations measures."""

import sys
from pathlib import Path

import numpy as np
import pytest

from segjax.volume import Volume

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def registration(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import registration

    yield registration
    sys.modules.pop("registration", None)


def test_the_best_rigid_map_of_a_stretched_one_leaves_its_stretch(registration):
    places = np.c_[np.random.default_rng(0).uniform(-50, 50, (500, 3)), np.ones(500)]
    moved, matrix = registration.turned(Volume(np.ones((2, 2, 2)), np.eye(4)))
    np.testing.assert_allclose(moved.affine, matrix)
    assert registration.error(registration.best_rigid(matrix, places), matrix, places) < 1e-9
    stretched = matrix @ np.diag([1.02, 1, 1, 1])
    left = registration.error(registration.best_rigid(stretched, places), stretched, places)
    assert 0.3 < left < 0.7  # 1 % of 25 mm on the mean, twice: both ends


def test_harder_pairs_keep_their_place(registration):
    line = np.broadcast_to(np.arange(16, dtype=np.float32), (2, 2, 16)).copy()
    volume = Volume(line, np.diag([1.0, 1.0, 3.0, 1.0]))
    for name in ("thick slices", "cut"):
        harder, matrix = registration.HARDER[name](volume)
        np.testing.assert_array_equal(matrix, np.eye(4))
        ends = harder.affine @ [0, 0, harder.data.shape[2] - 1, 1]
        assert harder.data[0, 0, -1] == pytest.approx(ends[2] / 3)
        assert harder.data[0, 0, 0] == pytest.approx(harder.affine[2, 3] / 3)
    values, _ = registration.HARDER["other values"](volume)
    np.testing.assert_array_equal(values.affine, volume.affine)


def test_what_fails_is_told_and_the_others_go_on(registration, monkeypatch):
    def failing(first, second):
        raise RuntimeError("ITK ERROR:\nToo many samples map outside")

    truth = np.eye(4)
    truth[0, 3] = 2
    monkeypatch.setattr(registration, "SIDES", {"here": lambda *_: np.eye(4), "there": failing})
    row = registration.measure(("here", "there"), None, None, np.ones((3, 4)), truth)
    assert row["before"] == 2
    assert row["here"]["mm"] == 2
    assert registration.told(row["there"]) == "failed"
    assert row["there"]["failed"] == "Too many samples map outside"
