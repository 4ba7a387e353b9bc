"""Atomic writing."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segjax.errors import InputError
from segjax.files import (
    atomic_folder,
    atomic_path,
    locked,
    read_csv,
    read_json_object,
    reading,
    walk,
    write_csv,
    write_json,
)


def write(path, text, *, overwrite=False, then=lambda: None):
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text(text)
        then()


def fail(error):
    raise error


def test_files_behind_links_come_last_and_once_under_their_own_names(tmp_path):
    for name in ("a/x", "b/y", "out/z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    root = tmp_path / "root"
    root.mkdir()
    for name in ("a", "b"):
        (tmp_path / name).rename(root / name)
    (root / "a" / "beside").symlink_to(root / "b")
    (root / "a" / "round").symlink_to(root)
    (root / "0").symlink_to(tmp_path / "out")
    assert [str(file.relative_to(root)) for file in walk(root)] == ["a/x", "b/y", "0/z"]


def test_file_appears_only_when_the_block_ends(tmp_path):
    path = tmp_path / "case.nii.gz"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"mask")
        assert not path.exists()
    assert path.read_bytes() == b"mask"
    assert os.listdir(tmp_path) == ["case.nii.gz"]


def test_temporary_file_has_the_folder_and_suffixes(tmp_path):
    with atomic_path(tmp_path / "sub-1.5.nii.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        temporary.touch()


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "a.csv") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(old)
    assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o640


def test_existing_file_is_refused_before_the_block_runs(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("old")
    wanted = r"model\.onnx: exists already.* --overwrite \(in Python: overwrite=True\)"
    with pytest.raises(InputError, match=wanted), atomic_path(path):
        pytest.fail("the block ran")
    assert path.read_text() == "old"


def test_file_that_appeared_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(InputError, match="exists already"):
        write(path, "new", then=lambda: path.write_text("someone else's"))
    assert path.read_text() == "someone else's"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_overwrite_replaces_the_file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("old")
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), SystemExit(3)])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "model.onnx"
    path.write_text("old")
    with pytest.raises(type(error)):
        write(path, "half", overwrite=True, then=lambda: fail(error))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO])
def test_errors_of_the_disk_name_the_file(tmp_path, number):
    path = tmp_path / "mask.nii"
    error = OSError(number, os.strerror(number))
    with pytest.raises(InputError, match=rf"mask\.nii: cannot be written: {error.strerror}"):
        write(path, "half", then=lambda: fail(error))
    assert os.listdir(tmp_path) == []


def test_errors_about_other_files_pass_through(tmp_path):
    with pytest.raises(PermissionError), atomic_path(tmp_path / "mask.nii"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/flair.nii")
    with pytest.raises(OSError, match="odd"), atomic_path(tmp_path / "mask.nii"):
        raise OSError(errno.EAGAIN, "odd")


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*results"):
        atomic_path(tmp_path / "results" / "a.csv").__enter__()


@pytest.mark.parametrize("name", ["folder", "link"])
def test_what_is_no_ordinary_file_is_never_replaced(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no ordinary file"):
        atomic_path(tmp_path / name, overwrite=True).__enter__()


def test_a_path_without_a_name_is_refused():
    with pytest.raises(InputError, match="give the name of a file"):
        atomic_path(Path("/")).__enter__()


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be written"), atomic_path(tmp_path / ("x" * 300)):
        pytest.fail("the block ran")


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match="cannot be written"), atomic_path(tmp_path / "a.csv"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.fixture
def as_nobody(tmp_path):
    """Run a test as a user for whom permissions count, in a folder that is not to be written."""
    root = os.geteuid() == 0
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    tmp_path.chmod(0o555)
    os.seteuid(65534 if root else os.geteuid())
    yield
    os.seteuid(0 if root else os.geteuid())
    tmp_path.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs users")
def test_unwritable_folder_is_refused_before_the_block_runs(tmp_path, as_nobody):
    with pytest.raises(InputError, match=r"a\.csv: cannot be written: Permission denied"):
        atomic_path(tmp_path / "a.csv").__enter__()


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits on file sizes")
def test_a_real_write_beyond_the_limit_leaves_nothing(tmp_path):
    program = f"""
import resource
from segjax.files import atomic_folder, atomic_path, locked, reading
from segjax.errors import InputError
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with atomic_path({str(tmp_path / "big.nii")!r}) as temporary:
        temporary.write_bytes(bytes(100_000))
except InputError as error:
    print(error)
"""
    printed = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert "big.nii: cannot be written: File too large" in printed
    assert os.listdir(tmp_path) == []


# -- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none.nii", "."])
def test_missing_files_and_folders_are_no_files(tmp_path, name):
    with pytest.raises(InputError, match="there is no such file"):
        reading(tmp_path / name).__enter__()


def test_bytes_are_read_as_they_are(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"mask")
    with reading(tmp_path / "a.nii") as stream:
        assert stream.read() == b"mask"


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "a.nii").touch()
    error = OSError(errno.EIO, os.strerror(errno.EIO))
    with (
        pytest.raises(InputError, match=rf"a\.nii: cannot be read: {error.strerror}"),
        reading(tmp_path / "a.nii"),
    ):
        raise error


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs users")
def test_closed_files_are_named(tmp_path, request):
    (tmp_path / "a.nii").touch(mode=0o000)
    request.getfixturevalue("as_nobody")
    with pytest.raises(InputError, match=r"a\.nii: cannot be read: Permission denied"):
        reading(tmp_path / "a.nii").__enter__()


# Folders


def fill(path, text, then=lambda: None):
    with atomic_folder(path) as temporary:
        (temporary / "case.json").write_text(text)
        then()


def test_folder_appears_only_when_the_block_ends(tmp_path):
    path = tmp_path / "case"
    fill(path, "new", then=lambda: [] if not path.exists() else pytest.fail("too early"))
    assert (path / "case.json").read_text() == "new"
    assert os.listdir(tmp_path) == ["case"]


def test_folder_that_was_there_is_replaced_whole(tmp_path):
    fill(tmp_path / "case", "old")
    (tmp_path / "case" / "more.json").touch()
    fill(tmp_path / "case", "new")
    assert os.listdir(tmp_path / "case") == ["case.json"]
    assert (tmp_path / "case" / "case.json").read_text() == "new"
    assert os.listdir(tmp_path) == ["case"]


def test_failed_block_leaves_the_old_folder_and_no_remains(tmp_path):
    fill(tmp_path / "case", "old")
    with pytest.raises(ZeroDivisionError):
        fill(tmp_path / "case", "new", then=lambda: fail(ZeroDivisionError()))
    assert (tmp_path / "case" / "case.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["case"]


@pytest.mark.parametrize("filename", [None, "case.json"])
def test_full_disk_is_told_of_a_folder(filename, tmp_path):
    def full():
        (temporary,) = tmp_path.iterdir()
        where = () if filename is None else (str(temporary / filename),)
        fail(OSError(errno.ENOSPC, "No space left on device", *where))

    with pytest.raises(InputError, match="case: cannot be written: No space left on device"):
        fill(tmp_path / "case", "new", then=full)


def test_errors_of_other_files_pass_through_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        fill(tmp_path / "case", "new", then=(tmp_path / "absent").read_text)


def test_missing_parent_of_a_folder_is_told(tmp_path):
    with pytest.raises(InputError, match="case: cannot be written: No such file"):
        fill(tmp_path / "absent" / "case", "new")


def test_lock_is_free_again_after_the_block(tmp_path):
    with locked(tmp_path) as mine:
        assert mine
        with locked(tmp_path) as second:
            assert not second
    with locked(tmp_path) as mine:
        assert mine


def test_written_json_is_read_again_and_replaced_on_demand(tmp_path):
    path = tmp_path / "split.json"
    write_json({"train": ["a", "ä"]}, path)
    assert path.read_bytes().endswith(b"\n")
    assert read_json_object(path) == {"train": ["a", "ä"]}
    with pytest.raises(InputError, match="exists already"):
        write_json({}, path)
    write_json([], path, overwrite=True)
    with pytest.raises(InputError, match=r"split\.json: holds no JSON object"):
        read_json_object(path)


def test_written_table_is_plain_csv(tmp_path):
    path = tmp_path / "folds.csv"
    write_csv([("case", "dice"), ("a, b", 0.5)], path)
    assert read_csv(path) == [{"case": "a, b", "dice": "0.5"}]
    assert path.read_bytes() == b'case,dice\n"a, b",0.5\n'
