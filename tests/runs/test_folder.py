import errno
import json
import subprocess
import sys

import pytest

from segjax import files
from segjax.errors import InputError
from segjax.runs.folder import RunFolder, owned


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def put(path, content=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def learn(folder, step, **meta):
    """Leave the metadata of a checkpoint as Orbax does."""
    put(folder.checkpoints / str(step) / "content" / "metadata", {"meta": meta})


def test_names_are_those_of_the_design(folder, tmp_path):
    assert folder.config == tmp_path / "config.json"
    assert folder.fold(2).member("k3").checkpoints == tmp_path / "fold2/runs/k3/checkpoints"
    assert str(RunFolder.split) == "split.json"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("config.json", "run"),
        ("sweep.json", "sweep"),
        ("folds.csv", "cross-validation"),
        ("fold3/config.json", "cross-validation"),
        ("fold3/mask.nii.gz", None),
        ("folder/config.json", None),
    ],
)
def test_folder_is_told_by_what_it_holds(folder, tmp_path, name, kind):
    put(tmp_path / name)
    assert folder.kind == kind


def test_folds_come_by_their_numbers(folder, tmp_path):
    for name in ("fold10", "fold2", "folds", "fold2b"):
        (tmp_path / name).mkdir()
    assert [fold.path.name for fold in folder.folds] == ["fold2", "fold10"]
    assert folder.fold(2).other_folds == folder.folds
    assert RunFolder(tmp_path / "folds").other_folds == ()


def test_member_knows_its_sweep(folder):
    member = folder.member("k3-a0.5-s0")
    assert member.sweep is None
    put(folder.grid)
    assert member.sweep == folder


def test_folder_without_files_is_at_no_epoch(folder):
    assert (folder.has_checkpoints, folder.planned_epochs, folder.epoch) == (False, 0, None)


@pytest.mark.parametrize(
    ("settings", "meta", "finished"),
    [
        ({"epochs": 5, "patience": None}, {"epoch": 4, "stale": 9}, False),
        ({"epochs": 5, "patience": 2}, {"epoch": 4, "stale": 1}, False),
        ({"epochs": 5, "patience": 2}, {"epoch": 4, "stale": 2}, True),
        ({"epochs": 4, "patience": None}, {"epoch": 4, "stale": 0}, True),
    ],
)
def test_newest_checkpoint_says_how_far_a_training_is(folder, settings, meta, finished):
    put(folder.config, settings)
    assert not folder.is_finished
    learn(folder, 9, epoch=1)
    learn(folder, 12, **meta)
    assert folder.has_checkpoints
    assert (folder.epoch, folder.is_finished) == (4, finished)
    assert folder.planned_epochs == settings["epochs"]


def test_checkpoint_that_cannot_be_read_is_passed_over(folder):
    put(folder.config, {"epochs": 5})
    learn(folder, 9, epoch=3)
    put(folder.checkpoints / "12" / "content" / "metadata", "[")
    assert folder.epoch == 3


def test_ended_member_of_a_sweep_is_finished(folder):
    put(folder.result, {})
    assert folder.is_finished


def test_configuration_that_is_no_object_is_named(folder):
    put(folder.config, [])
    with pytest.raises(InputError, match=r"config\.json: holds no JSON object"):
        _ = folder.planned_epochs


def test_folder_is_made(tmp_path):
    with owned(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()


def test_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with (
        pytest.raises(InputError, match="run: is a file; give another folder"),
        owned(tmp_path / "run"),
    ):
        pass
    with pytest.raises(InputError, match="cannot be made"), owned(tmp_path / "run" / "inside"):
        pass


def test_second_training_in_one_folder_is_refused(tmp_path):
    code = f"""
from pathlib import Path
from segjax.runs.folder import owned
with owned(Path({str(tmp_path)!r})):
    print("mine", flush=True)
    input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as other:
        assert other.stdout.readline() == b"mine\n"
        with pytest.raises(InputError, match="another training is running"), owned(tmp_path):
            pass
        other.kill()
    with owned(tmp_path):  # the killed one holds nothing back
        pass


def test_systems_without_locks_train_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "name", "nt")
    with owned(tmp_path), owned(tmp_path):
        pass


def test_file_systems_without_locks_train_all_the_same(tmp_path, monkeypatch):
    import fcntl

    def fail(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with owned(tmp_path), owned(tmp_path):
        pass


def test_errors_of_the_training_come_through_the_lock(tmp_path):
    with pytest.raises(BlockingIOError), owned(tmp_path):
        raise BlockingIOError


def test_folders_and_metrics_are_told_of_without_heavy_packages():
    code = (
        "import sys, segjax.runs.folder, segjax.runs.folds, segjax.runs.metrics\n"
        "print({'numpy', 'pandas', 'jax', 'segjax.data', 'segjax.evaluate'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
