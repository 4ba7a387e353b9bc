import errno
import json
import logging
import os
import shutil
import sys
import threading
import warnings
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segjax.errors import InputError
from segjax.train.checkpoints import Checkpoints, load_variables


class State(NamedTuple):
    params: dict
    batch_stats: dict
    opt_state: tuple
    step: jax.Array


def state_of(seed: int) -> State:
    rng = np.random.default_rng(seed)
    params = {
        "X00": {"kernel": jnp.array(rng.normal(size=(3, 3, 1, 4)), jnp.float32)},
        "slope": jnp.array(rng.normal(), jnp.float32),
    }
    stats = {"X00": {"mean": jnp.array(rng.normal(size=4), jnp.bfloat16)}}
    return State(params, stats, optax.adam(1e-3).init(params), jnp.array(seed, jnp.int32))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def saved(folder: Path, steps, best=None) -> Path:
    with Checkpoints(folder / "checkpoints") as checkpoints:
        for step in steps:
            checkpoints.save(step, state_of(step), {"epoch": step}, best=step == best)
    return folder / "checkpoints"


def steps_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_restored_state_is_the_saved_one_to_the_bit(tmp_path):
    folder = saved(tmp_path, [3])
    with Checkpoints(folder) as checkpoints:
        state, meta = checkpoints.restore_last(state_of(0))
    assert_same(state, state_of(3))
    assert meta == {"epoch": 3}


def test_template_may_be_shapes_and_types_alone(tmp_path):
    folder = saved(tmp_path, [3])
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state_of(0))
    with Checkpoints(folder) as checkpoints:
        state, _ = checkpoints.restore_last(template)
    assert_same(state, state_of(3))


def test_floats_beside_the_state_come_back_exactly(tmp_path):
    losses = [float(np.float32(0.1)), 1 / 3, 1e-30]
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1), {"losses": losses})
        assert checkpoints.restore_last(state_of(0))[1]["losses"] == losses


def test_nothing_saved_restores_nothing(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.restore_last(state_of(0)) is None
        assert checkpoints.restore_best(state_of(0)) is None


def test_newest_two_and_the_best_are_kept(tmp_path):
    folder = saved(tmp_path, [1, 2, 3, 4, 5], best=2)
    assert steps_in(folder) == {"2", "4", "5"}


def test_best_survives_reopening(tmp_path):
    folder = saved(tmp_path, [1, 2, 3, 4], best=1)
    with Checkpoints(folder) as checkpoints:
        checkpoints.restore_last(state_of(0))
        checkpoints.save(5, state_of(5), {})
        checkpoints.save(6, state_of(6), {})
        state, meta = checkpoints.restore_best(state_of(0))
    assert_same(state, state_of(1))
    assert meta == {"epoch": 1}
    assert steps_in(folder) == {"1", "5", "6"}


def every_file(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "flipped"])
def test_any_damage_to_the_newest_makes_the_one_before_it_count(tmp_path, damage):
    whole = saved(tmp_path / "whole", [1, 2, 3])
    for number, file in enumerate(every_file(whole / "3")):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        spoil(folder / "3" / file.relative_to(whole / "3"), damage)
        with Checkpoints(folder) as checkpoints, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            state, _ = checkpoints.restore_last(state_of(0))
            assert_same(state, state_of(2 if caught else 3))
            assert caught or file.name.startswith(("_", "commit_success"))  # not read
            checkpoints.save(4, state_of(4), {})


def spoil(path: Path, damage: str) -> None:
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_flipped_byte_of_the_arrays_goes_unnoticed(tmp_path, data):
    folder = tmp_path / "once"
    if not folder.exists():
        saved(folder, [1, 2])
    file = folder / "checkpoints" / "2" / "arrays" / "checkpoint" / "0"
    content = file.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    value = data.draw(st.integers(1, 255))
    file.write_bytes(content[:place] + bytes([content[place] ^ value]) + content[place + 1 :])
    try:
        params = load_variables(folder)["params"]
        expected = (
            state_of(2)
            if np.array_equal(params["slope"], state_of(2).params["slope"])
            else state_of(1)
        )
        assert_same(params, jax.tree.map(np.asarray, expected.params))
    finally:
        file.write_bytes(content)


def test_a_checkpoint_that_was_being_written_is_not_taken_and_is_cleaned_up(tmp_path):
    folder = saved(tmp_path, [1, 2])
    shutil.copytree(folder / "2", folder / "3.orbax-checkpoint-tmp")
    with Checkpoints(folder) as checkpoints:
        state, _ = checkpoints.restore_last(state_of(0))
        assert_same(state, state_of(2))
        checkpoints.save(3, state_of(3), {})
    assert steps_in(folder) == {"2", "3"}


def test_steps_after_the_restored_one_can_be_saved_again(tmp_path):
    folder = saved(tmp_path, [1, 2])
    spoil(folder / "2" / "content" / "metadata", "cut")
    with Checkpoints(folder) as checkpoints:
        with pytest.warns(UserWarning, match="2: damaged checkpoint"):
            checkpoints.restore_last(state_of(0))
        checkpoints.save(2, state_of(7), {})
        assert_same(checkpoints.restore_last(state_of(0))[0], state_of(7))


def test_a_step_that_is_saved_again_is_replaced(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1), {"epoch": 0})
        checkpoints.save(1, state_of(2), {"epoch": 1})
        state, meta = checkpoints.restore_last(state_of(0))
    assert_same(state, state_of(2))
    assert meta == {"epoch": 1}


def test_going_back_behind_the_best_finds_the_best_of_before(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state_of(step), {"epoch": step}, best=step == 1)
        checkpoints.save(4, state_of(4), {"epoch": 4}, best=True, keep_former=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_last(state_of(0))[1] == {"epoch": 4}
        assert checkpoints.restore_last(state_of(0), before=4)[1] == {"epoch": 3}
        assert checkpoints.restore_best(state_of(0))[1] == {"epoch": 1}
    assert steps_in(tmp_path) == {"1", "3"}


def test_all_damaged_is_as_nothing_saved(tmp_path):
    folder = saved(tmp_path, [1])
    spoil(folder / "1" / "content" / "metadata", "empty")
    with Checkpoints(folder) as checkpoints:
        with pytest.warns(UserWarning, match="damaged"):
            assert checkpoints.restore_last(state_of(0)) is None
        checkpoints.save(1, state_of(1), {})


def test_restored_arrays_do_not_share_memory_with_later_steps(tmp_path):
    folder = saved(tmp_path, [1])
    with Checkpoints(folder) as checkpoints:
        state, _ = checkpoints.restore_last(state_of(0))
        step = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
        step(state)
        assert_same(checkpoints.restore_last(state_of(0))[0], state_of(1))


def test_another_network_is_named(tmp_path):
    folder = saved(tmp_path, [1])
    other = state_of(0)._replace(batch_stats={})
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(InputError, match=r"another network.*batch_stats/X00/mean"):
            checkpoints.restore_last(other)
        wide = state_of(0)._replace(step=jnp.zeros(3, jnp.int32))
        with pytest.raises(InputError, match=r"step is int32\[\], not int32\[3\]"):
            checkpoints.restore_last(wide)


def test_load_variables_gives_the_best_or_the_last(tmp_path):
    saved(tmp_path, [1, 2, 3], best=1)
    assert_same(load_variables(tmp_path)["params"], jax.tree.map(np.asarray, state_of(1).params))
    last = load_variables(tmp_path, "last")
    assert_same(last["batch_stats"], jax.tree.map(np.asarray, state_of(3).batch_stats))
    assert set(last) == {"params", "batch_stats"}
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(last))


def test_load_variables_of_a_run_without_validation_gives_the_newest(tmp_path):
    saved(tmp_path, [1, 2])
    assert_same(load_variables(tmp_path)["params"], jax.tree.map(np.asarray, state_of(2).params))


def test_load_variables_leaves_a_running_training_alone(tmp_path):
    folder = saved(tmp_path, [1])
    (folder / "2.orbax-checkpoint-tmp").mkdir()
    load_variables(tmp_path)
    assert "2.orbax-checkpoint-tmp" in steps_in(folder)


def test_load_variables_passes_over_a_damaged_newest(tmp_path):
    folder = saved(tmp_path, [1, 2])
    spoil(folder / "2" / "content" / "metadata", "cut")
    assert_same(load_variables(tmp_path)["params"], jax.tree.map(np.asarray, state_of(1).params))


def test_load_variables_without_a_whole_checkpoint_says_so(tmp_path):
    with pytest.raises(InputError, match="holds no checkpoints"):
        load_variables(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="no whole checkpoint yet"):
        load_variables(tmp_path)


def test_damaged_best_is_named_and_not_replaced_by_another(tmp_path):
    folder = saved(tmp_path, [1, 2, 3, 4], best=1)
    spoil(folder / "1" / "content" / "metadata", "cut")
    with pytest.raises(InputError, match="checkpoints/1: damaged"):
        load_variables(tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no space left on the disk: free some"),
        (ValueError("RESOURCE_EXHAUSTED: No space left on device"), "no space left on the disk"),
        (PermissionError(errno.EACCES, "Permission denied"), "not writable"),
    ],
)
def test_disk_errors_become_one_line(tmp_path, monkeypatch, error, said):
    checkpoints = failing(tmp_path, monkeypatch, error)
    with pytest.raises(InputError, match=said):
        checkpoints.close()


def test_other_errors_are_not_hidden(tmp_path, monkeypatch):
    checkpoints = failing(tmp_path, monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        checkpoints.close()


def failing(folder: Path, monkeypatch, error: Exception) -> Checkpoints:
    """Return checkpoints of which the thread fails to write one."""
    checkpoints = Checkpoints(folder)

    def fail(*args, **options):
        raise error

    monkeypatch.setattr(checkpoints._manager, "save", fail)
    checkpoints.save(1, state_of(1), {})
    return checkpoints


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "ask",
    [
        lambda checkpoints: checkpoints.save(2, state_of(2), {}),
        lambda checkpoints: checkpoints.restore_last(state_of(0)),
        lambda checkpoints: checkpoints.restore_best(state_of(0)),
        Checkpoints.close,
    ],
)
def test_what_a_thread_failed_at_is_told_once_by_whatever_is_asked_next(tmp_path, monkeypatch, ask):
    checkpoints = failing(tmp_path, monkeypatch, FULL)
    with pytest.raises(InputError, match="no space left on the disk"):
        ask(checkpoints)
    checkpoints.close()


def test_error_on_its_way_wins_and_bears_a_note_of_what_a_thread_failed_at(tmp_path, monkeypatch):
    with pytest.raises(KeyError) as caught, failing(tmp_path, monkeypatch, FULL):
        raise KeyError("other")
    assert [note.partition(": ")[2] for note in caught.value.__notes__] == [
        "no space left on the disk: free some, then run the same command again"
    ]


def test_ctrl_c_does_not_hide_that_its_checkpoint_was_not_written(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no space left"), failing(tmp_path, monkeypatch, FULL):
        raise KeyboardInterrupt


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits on file sizes")
def test_real_write_beyond_the_limit_leaves_the_checkpoint_before_it(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1), {}, best=True)
        checkpoints.restore_best(state_of(0))  # waits
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            checkpoints.save(2, state_of(2), {}, best=True)
            with pytest.raises(InputError, match=r"not writable \(File too large\)"):
                checkpoints.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with Checkpoints(tmp_path) as checkpoints:
        assert "1" in (steps := steps_in(tmp_path))
        assert "2" not in steps
        assert_same(checkpoints.restore_last(state_of(0))[0], state_of(1))
        assert_same(checkpoints.restore_best(state_of(0))[0], state_of(1))


class Held:
    """Orbax's way to write, which waits until it is let go."""

    def __init__(self, checkpoints: Checkpoints, monkeypatch):
        self.go, self.begun, self._save = threading.Event(), [], checkpoints._manager.save
        monkeypatch.setattr(checkpoints._manager, "save", self)

    def __call__(self, step, **options):
        self.begun.append(step)
        assert self.go.wait(60)
        self._save(step, **options)


def test_saved_is_what_was_handed_over_whatever_becomes_of_it(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        held, state, meta = Held(checkpoints, monkeypatch), state_of(1), {"losses": [0.5]}
        checkpoints.save(1, state, meta)
        jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(state)
        meta["losses"].append(0.4)
        assert steps_in(tmp_path) == set()
        held.go.set()
        found, told = checkpoints.restore_last(state_of(0))
    assert_same(found, state_of(1))
    assert told == {"losses": [0.5]}


def test_second_save_waits_for_the_first(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        held = Held(checkpoints, monkeypatch)
        checkpoints.save(1, state_of(1), {}, best=True)
        second = threading.Thread(target=checkpoints.save, args=(2, state_of(2), {}))
        second.start()
        second.join(0.1)
        assert second.is_alive()
        held.go.set()
        second.join()
        assert_same(checkpoints.restore_best(state_of(0))[0], state_of(1))
    assert held.begun == [1, 2]


def test_closing_waits_for_its_own_writing_alone(tmp_path, monkeypatch):
    slow, quick = Checkpoints(tmp_path / "slow"), Checkpoints(tmp_path / "quick")
    held = Held(slow, monkeypatch)
    slow.save(1, state_of(1), {})
    quick.save(1, state_of(1), {})
    quick.close()
    assert (steps_in(tmp_path / "slow"), steps_in(tmp_path / "quick")) == (set(), {"1"})
    held.go.set()
    slow.close()
    assert steps_in(tmp_path / "slow") == {"1"}


def test_a_dozen_trainings_write_at_the_same_time(tmp_path, capfd):
    level, filters = logging.getLogger("absl").level, warnings.filters[:]
    every = [Checkpoints(tmp_path / str(number)) for number in range(12)]
    for step in (1, 2, 3):
        for number, checkpoints in enumerate(every):
            checkpoints.save(step, state_of(100 * number + step), {}, best=step == 1)
    for number, checkpoints in enumerate(every):
        assert_same(checkpoints.restore_last(state_of(0))[0], state_of(100 * number + 3))
        assert_same(checkpoints.restore_best(state_of(0))[0], state_of(100 * number + 1))
        checkpoints.close()
    assert capfd.readouterr().err == ""
    assert (logging.getLogger("absl").level, warnings.filters) == (level, filters)
    assert logging.getLogger("absl").filters == []


def test_orbax_says_nothing(tmp_path, capfd):
    folder = saved(tmp_path, [1, 2, 3], best=1)
    with Checkpoints(folder) as checkpoints:
        checkpoints.restore_last(state_of(0))
    load_variables(tmp_path)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_content_is_readable_json(tmp_path):
    folder = saved(tmp_path, [1])
    content = json.loads((folder / "1" / "content" / "metadata").read_text())
    assert content["meta"] == {"epoch": 1}
    assert content["index"][0] == {
        "path": ["params", "X00", "kernel"],
        "dtype": "float32",
        "shape": [3, 3, 1, 4],
    }
