"""The page doubts images as segjax does."""

import re

import numpy as np
import pytest

from segjax.data.prepare.tilt import tilt
from segjax.data.seen import Seen, Sight, intensity_spans, seen_in
from segjax.grid import Grid
from tests.geometry import rigid

_NUMBERS = re.compile(r"-?\d[\d.]*(?:e[+-]\d+)?|nan")


def page_doubts(page_modules, seen, sight, axes=3):
    grids = [
        {"shape": grid.shape, "affine": grid.affine.tolist()}
        for grid in (sight.given, sight.processed)
    ]
    plain = None if seen is None else seen.to_json()
    spans = [np.array(span) for span in sight.spans]
    return page_modules.call("predict/doubts.doubts", plain, *grids, spans, axes)


def numbers_of(message):
    """Return the numbers of a clause in the order of segjax's, channel first."""
    names = ("channel", "given", "trained", "low", "high", "lowest", "highest")
    values = [str(message["values"][name]) for name in names if name in message["values"]]
    return _NUMBERS.findall(" ".join(values))


def random_grid(rng):
    angles = rng.choice([rng.uniform(-180, 180, 3), np.zeros(3)])
    spacing = rng.choice([1, 1.125, 0.8125, 1.5, 2, 3, 0.5], 3)
    flips = rng.choice([-1, 1], 3)
    return Grid(tuple(rng.choice([1, 20, 30], 3).tolist()), rigid(angles, spacing, flips=flips))


def random_spans(rng, channels):
    low = rng.choice([-1.0, 0.0, -1e-7, 123456.0, -2.345], channels)
    return tuple(
        (float(a), float(a + w)) for a, w in zip(low, rng.uniform(0.1, 4, channels), strict=True)
    )


@pytest.mark.parametrize("seed", range(150))
def test_doubts_are_the_clauses_of_segjax_with_the_same_numbers(page_modules, seed):
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 3))
    trained = [
        Sight(random_grid(rng), Grid((9, 9, 9), np.diag([*rng.choice([1, 1.5, 2], 3), 1.0])), spans)
        for spans in (random_spans(rng, channels) for _ in range(rng.integers(1, 4)))
    ]
    seen = seen_in(trained)
    processed = rng.choice([0, 1])
    given = random_grid(rng)
    sight = Sight(given, trained[0].processed if processed else given, random_spans(rng, channels))
    axes = int(rng.choice([2, 3]))
    clauses = seen.doubts(sight, axes=axes)
    messages = page_doubts(page_modules, seen, sight, axes)
    for clause, message in zip(clauses, messages, strict=True):
        assert ("voxels" in clause) == message["key"].startswith("doubtSpacing")
        assert numbers_of(message) == _NUMBERS.findall(clause)


def test_missing_channels_are_not_doubted(page_modules):
    head = Grid((64, 64, 64), np.eye(4))
    seen = seen_in([Sight(head, head, ((-1.0, 3.0), (-1.0, 3.0)))])
    sight = Sight(head, head, ((-1.0, 3.0), (np.nan, np.nan)))
    assert page_doubts(page_modules, seen, sight) == seen.doubts(sight) == []


def test_files_that_tell_nothing_are_named(page_modules):
    head = Grid((64, 64, 64), np.eye(4))
    found = page_doubts(page_modules, None, Sight(head, head, ((0.0, 1.0),)))
    assert [message["key"] for message in found] == ["doubtUnknownSpacing"]


def test_files_that_tell_nothing_saw_the_spacing_that_they_resample_to(page_modules):
    grid = {"shape": (64, 64, 64), "affine": np.diag([-1.0, 1, 1, 1]).tolist()}
    assert page_modules.call("predict/doubts.assumed", [{"step": "z-score"}], grid) is None
    steps = [{"step": "resample"}, {"step": "resample", "spacing": [1, 1, 2]}]
    expected = Seen((1, 1, 2), (1, 1, 2), (1, 1, 2), "LAS", (), ()).to_json()
    assert page_modules.call("predict/doubts.assumed", steps, grid) == expected
    steps.append({"step": "resample"})
    assert page_modules.call("predict/doubts.assumed", steps, grid)["spacing"] == [1, 1, 1]


@pytest.mark.parametrize("shear", [0, 0.005, 0.2])
def test_tilted_slices_are_doubted(page_modules, shear):
    affine = rigid()
    affine[:3, :3] = affine[:3, :3] @ [[1, 0, 0], [0, 1, shear], [0, 0, 1]]
    grid = Grid((9, 9, 9), affine)
    seen = seen_in([Sight(grid, grid, ((0.0, 1.0),))])
    messages = page_doubts(page_modules, seen, Sight(grid, grid, ((0.0, 1.0),)))
    angle = tilt(affine)
    expected = [{"key": "doubtTilted", "values": {"degrees": f"{angle:.1f}"}}]
    assert messages == (expected if angle >= 0.5 else [])


@pytest.mark.parametrize("size", [1, 999, 1_000_001, 2_500_000])
def test_spans_are_those_of_segjax(page_modules, size):
    data = np.random.default_rng(size).normal(0, 50, (size, 1, 1)).astype(np.float32)
    volume = {"data": data.ravel(), "shape": data.shape, "affine": np.eye(4).tolist()}
    (expected,) = intensity_spans(data.reshape(-1, 1))
    found = page_modules.call("predict/doubts.intensitySpan", volume)
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_numbers_are_written_as_python_writes_them(page_modules):
    rng = np.random.default_rng(0)
    ties = [1.125, 0.8125, 2.5, 1125, 1.5, -1.125, 1.375, 0.0625, 1e-7, 12345678, 999.5, 0.00012345]
    values = [*ties, 0, -0.0, 1, 100, 1e10, *rng.normal(0, 1, 50), *10 ** rng.uniform(-9, 9, 100)]
    for value in map(float, values):
        assert page_modules.call("io/numbers.general", value, 3) == f"{value:.3g}", value
        for decimals in (2, 4, 6):
            written = page_modules.call("io/numbers.rounded", value, decimals)
            assert written == str(round(value, decimals)), value
