"""Batches: pure functions of seed and step; drawn ahead by a thread."""

import dataclasses
import json
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

from segjax.data.augment import Affine, Flip, Noise
from segjax.data.cache.cache import CachedCase
from segjax.data.labels import IGNORED
from segjax.data.loaded import LoadedCase
from segjax.data.loader import Loader, Sampling, prefetch
from segjax.errors import InputError
from segjax.grid import Grid
from segjax.volume import Volume


def make_case(index, shape=(12, 10), channels=1):
    """Return a case whose image is its number everywhere, and the label of one voxel."""
    label = np.zeros(shape, np.uint8)
    label[(3,) * len(shape)] = 1
    volume = Volume(label, np.eye(len(shape) + 1))
    image = np.full((*shape, channels), index, np.float32)
    return LoadedCase(f"case{index}", image, label, volume, volume)


def make_loader(count=5, batch_size=2, **options):
    sampling = Sampling((6, 6), batch_size, foreground=1.0, patches_per_case=3)
    return Loader([make_case(i + 1) for i in range(count)], sampling, **options)


def random_case(index, shape):
    rng = np.random.default_rng(index)
    label = (rng.random(shape) > 0.95).astype(np.uint8)
    volume = Volume(label, np.eye(len(shape) + 1))
    image = rng.standard_normal((*shape, 2), np.float32)
    return LoadedCase(f"case{index}", image, label, volume, volume)


def cached(case, folder):
    """Write the arrays of a case as a cache holds them."""
    (folder / case.name).mkdir()
    np.save(folder / case.name / "image.npy", case.image)
    np.save(folder / case.name / "label.npy", case.label)
    np.save(folder / case.name / "foreground.npy", np.flatnonzero(case.label))
    grid = case.grids[-1] if case.grids else Grid(case.label.shape, case.volume.affine)
    grids = [{"shape": grid.shape, "affine": grid.affine.tolist()}]
    record = {"grids": grids, "values": np.unique(case.label).tolist()}
    (folder / case.name / "case.json").write_text(json.dumps(record))
    return CachedCase(folder / case.name)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_batches_have_the_promised_shapes_and_types():
    images, labels = make_loader().batch(0)
    assert (images.shape, images.dtype) == ((2, 6, 6, 1), np.float32)
    assert (labels.shape, labels.dtype) == ((2, 6, 6), np.uint8)


def test_a_step_is_the_same_whenever_it_is_drawn():
    augment = (Flip(axes=(0, 1)), Noise())
    first, second = make_loader(augment=augment), make_loader(augment=augment)
    forwards = [first.batch(step) for step in range(20)]
    backwards = [second.batch(step) for step in reversed(range(20))][::-1]
    assert all(same(a, b) for a, b in zip(forwards, backwards, strict=True))


def test_hosts_make_their_own_rows_of_the_same_batch():
    whole = make_loader(batch_size=4, augment=(Noise(probability=1.0),), seed=3)
    parts = [
        make_loader(batch_size=4, augment=(Noise(probability=1.0),), seed=3, rows=rows)
        for rows in (slice(0, 1), slice(1, 4))
    ]
    batches = [part.batch(2) for part in parts]
    for expected, shares in zip(whole.batch(2), zip(*batches, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(shares), expected)


def test_patches_depend_on_seed_epoch_and_case_whatever_the_batch():
    draws = {}
    for size in (1, 2, 3):
        loader = make_loader(batch_size=size, augment=(Affine(),))
        found = [draw for step in range(loader.steps_per_epoch) for draw in loader.draw(step)]
        by_case = {}
        for draw in found[:15]:
            by_case.setdefault(draw.case, []).append((draw.corner, draw.parameters[0]["matrix"]))
        draws[size] = [by_case[case] for case in range(5)]
    for one, other in zip(draws[1], draws[3], strict=True):
        for (corner, matrix), (same_corner, same_matrix) in zip(one, other, strict=True):
            assert corner == same_corner
            np.testing.assert_array_equal(matrix, same_matrix)
    np.testing.assert_array_equal(draws[2][0][1][1], draws[1][0][1][1])


def test_seeds_and_steps_differ():
    augment = (Noise(probability=1.0),)
    loader = make_loader(augment=augment)
    assert not same(loader.batch(0), loader.batch(1))
    assert not same(loader.batch(0), loader.batch(loader.steps_per_epoch))
    assert not same(loader.batch(0), make_loader(augment=augment, seed=1).batch(0))


@pytest.mark.parametrize(("count", "batch_size"), [(5, 3), (4, 2), (2, 16)])
def test_every_epoch_visits_every_case_equally_often(count, batch_size):
    loader = make_loader(count, batch_size)
    steps = loader.steps_per_epoch
    assert steps == int(np.ceil(count * 3 / batch_size))
    for epoch in range(3):
        batches = [loader.batch(epoch * steps + i)[0] for i in range(steps)]
        order = np.concatenate(batches)[: count * 3].max((1, 2, 3))
        assert sorted(order) == sorted([i + 1.0 for i in range(count)] * 3)


def test_epochs_have_different_orders():
    loader = make_loader(count=20, batch_size=60)
    first, second = (loader.batch(epoch)[0].max((1, 2, 3)) for epoch in range(2))
    assert not np.array_equal(first, second)


def test_foreground_probability_one_always_shows_the_lesion():
    loader = make_loader()
    assert all((loader.batch(step)[1].max((1, 2)) == 1).all() for step in range(30))


def ignoring_case(index):
    """Return a case all of whose voxels are ignored but one column, which holds the lesion."""
    case = make_case(index, (30, 30))
    case.label[:20] = IGNORED
    case.label[27, 3] = 1
    return case


def test_ignored_voxels_are_never_drawn_for_foreground_but_are_handed_on():
    loader = Loader([ignoring_case(1)], Sampling((6, 6), 4, foreground=1.0))
    assert all((loader.batch(step)[1] == 1).any((1, 2)).all() for step in range(20))
    anywhere = Loader([ignoring_case(1)], Sampling((6, 6), 4, foreground=0.0))
    values = {value for step in range(10) for value in anywhere.batch(step)[1].ravel().tolist()}
    assert {0, IGNORED} <= values <= {0, 1, IGNORED}


def test_slices_of_volumes_have_a_third_axis_of_one_voxel():
    loader = Loader([make_case(1, (12, 10, 8))], Sampling((6, 6, 1), 2))
    assert loader.batch(0)[0].shape == (2, 6, 6, 1, 1)


def with_spacing(case, *spacing):
    grid = Grid(case.label.shape, np.diag([*spacing, 1.0]))
    return dataclasses.replace(case, grids=(grid,))


def test_transforms_measure_in_the_millimetres_of_each_case(tmp_path):
    by_grid = with_spacing(make_case(1, (9, 8, 7)), 0.5, 1.0000001, 3.0)
    by_volume = make_case(2, (9, 8, 7))
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    by_volume = dataclasses.replace(by_volume, volume=Volume(by_volume.label, affine))
    elsewhere = dataclasses.replace(by_volume, name="c", volume=Volume(np.zeros((9, 9, 9)), affine))
    cases = [by_grid, by_volume, elsewhere, cached(by_grid, tmp_path)]
    shift = Affine((1, 1), (0, 0), (6, 6))
    loader = Loader(cases, Sampling((4, 4, 4), 8), augment=(shift,))
    drawn = {d.case: d.parameters[0]["matrix"][:, -1].tolist() for d in loader.draw(0)}
    assert drawn == {0: [-12, -6, -2], 1: [-3, -3, -1.5], 2: [-6, -6, -6], 3: [-12, -6, -2]}
    own = Loader(cases, loader.sampling, augment=(dataclasses.replace(shift, spacing=(6.0,) * 3),))
    assert all(d.parameters[0]["matrix"][:, -1].tolist() == [-1] * 3 for d in own.draw(0))


@pytest.mark.parametrize("foreground", [0.0, 0.5, 1.0])
def test_batches_of_a_cache_are_those_of_the_same_cases_in_memory(tmp_path, foreground):
    cases = [random_case(i, shape) for i, shape in enumerate([(9, 14, 8), (20, 5, 8), (8, 8, 8)])]
    cases.append(with_spacing(make_case(9, (8, 9, 10), channels=2), 0.7, 1.0, 2.0))
    sampling = Sampling((8, 8, 6), 3, foreground, patches_per_case=3)
    augment = (Flip((0, 2)), Affine(probability=0.5), Noise())
    in_memory = Loader(cases, sampling, augment=augment, seed=4)
    on_disk = Loader([cached(c, tmp_path) for c in cases], sampling, augment=augment, seed=4)
    for step in range(2 * in_memory.steps_per_epoch):
        assert same(on_disk.batch(step), in_memory.batch(step))


def test_a_loader_of_cached_cases_keeps_no_arrays_and_no_open_files(tmp_path):
    cases = [cached(random_case(i, (32, 32, 32)), tmp_path) for i in range(8)]
    loader = Loader(cases, Sampling((8, 8, 8), 4))
    for step in range(8):
        loader.batch(step)
    assert len(pickle.dumps(loader)) < 8 * 1000
    assert loader.nbytes == 0
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(tmp_path) not in maps.read_text()


def test_cases_in_memory_are_counted_as_what_a_process_gets_of_them():
    given = np.broadcast_to(np.uint8(0), (64, 64, 64))  # takes memory in a copy alone
    case = random_case(0, (32, 32, 32))
    label, volume = case.label.copy(), Volume(given, np.eye(4))
    case = dataclasses.replace(case, label=label, volume=volume)
    loader = Loader([case], Sampling((8, 8, 8), 4))
    assert loader.nbytes == pytest.approx(len(pickle.dumps(loader)), rel=0.05)


def test_of_the_foreground_of_a_cached_case_one_voxel_is_read(tmp_path):
    class Counted(np.ndarray):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    class CountedCase(CachedCase):
        @property
        def foreground(self):
            return super().foreground.view(Counted)

    case = cached(random_case(1, (32, 32, 32)), tmp_path)
    loader = Loader([CountedCase(case.folder)], Sampling((8, 8, 8), 4, foreground=1.0))
    read = []
    loader.batch(0)
    assert len(read) == 4
    assert all(np.ndim(index) == 0 for index in read)


def test_cached_case_without_label_is_said(tmp_path):
    case = cached(random_case(1, (8, 8)), tmp_path)
    loader = Loader([case], Sampling((4, 4), 1))
    (case.folder / "label.npy").unlink()
    with pytest.raises(InputError, match="case 'case1' has no label"):
        loader.batch(0)


def test_transforms_change_image_and_label_alike():
    shape = (8, 8)
    label = np.arange(64, dtype=np.uint8).reshape(shape)
    volume = Volume(label, np.eye(3))
    case = LoadedCase("ramp", label[..., None].astype(np.float32), label, volume, volume)
    loader = Loader([case], Sampling((8, 8), 4), augment=(Flip((0, 1), probability=0.9),))
    images, labels = loader.batch(0)
    np.testing.assert_array_equal(images[..., 0], labels)
    assert not np.array_equal(labels[0], label)


def test_prefetch_yields_the_batches_in_order():
    loader = make_loader()
    batches = list(prefetch(loader, range(3, 12)))
    assert len(batches) == 9
    assert all(same(b, loader.batch(s)) for b, s in zip(batches, range(3, 12), strict=True))


def test_prefetch_draws_in_another_thread_and_ends_it_when_closed():
    threads = set()

    class Recorder(Loader):
        def batch(self, step):
            threads.add(threading.current_thread())
            return super().batch(step)

    loader = Recorder([make_case(1)], Sampling((6, 6), 1))
    batches = prefetch(loader, iter(range(10**9)))
    next(batches)
    batches.close()
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_prefetch_raises_what_the_thread_raised():
    class Broken(Loader):
        def batch(self, step):
            if step == 2:
                raise RuntimeError("disk gone")
            return super().batch(step)

    batches = prefetch(Broken([make_case(1)], Sampling((6, 6), 1)), range(5))
    next(batches)
    next(batches)
    with pytest.raises(RuntimeError, match="disk gone"):
        next(batches)


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([], "no case"),
        ([make_case(1, (8, 8, 8))], "another number of axes .*; slices .* of 6 6 1 voxels"),
        (
            [make_case(1), make_case(2, channels=2)],
            "'case2' has 2 channels, but case 'case1' has 1",
        ),
    ],
)
def test_cases_that_do_not_fit_are_named(cases, message):
    with pytest.raises(InputError, match=message):
        Loader(cases, Sampling((6, 6), 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": (0, 4), "batch_size": 1}, "must be positive"),
        ({"patch_size": (4, 4), "batch_size": 0}, "must be positive"),
        ({"patch_size": (4, 4), "batch_size": 1, "foreground": 1.5}, "foreground 1.5"),
    ],
)
def test_impossible_sampling_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Sampling(**options)
