"""What the tests of data share."""

import json
import shutil
from pathlib import Path

import pydicom
import pytest

from segjax.data.io.dicom.series import series_files


@pytest.fixture
def make_folder(tmp_path):
    """Return a function that makes a folder of empty files, and JSON files from objects."""

    def make(*files, **jsons):
        for name in files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        for name, content in jsons.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return tmp_path

    return make


@pytest.fixture
def scan(tmp_path):
    """Return a function that writes a real DICOM slice to a file, as part of a series."""
    one = pydicom.dcmread(Path(pydicom.__file__).parent / "data/test_files/MR_small.dcm")

    def write(name, series, **tags):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        one.SeriesNumber, one.SeriesInstanceUID = series, f"1.2.{series}"
        one.update(tags)
        one.save_as(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def series(data_dir, tmp_path) -> Path:
    """A DICOM series of three slices."""
    (tmp_path / "series").mkdir()
    for file in series_files(data_dir / "dicom" / "flair_oblique")[:3]:
        shutil.copy(file, tmp_path / "series")
    return tmp_path / "series"
