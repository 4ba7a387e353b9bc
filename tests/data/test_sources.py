"""Files of cases, and whether they have changed."""

import hashlib

import pydicom
import pytest

from segjax.data import sources
from segjax.errors import InputError


def test_folder_of_a_dicom_series_is_one_source(series):
    (source,) = sources.identify([series], {})
    assert source["size"] == sum(file.stat().st_size for file in series.iterdir())
    assert sources.unchanged([series], {"sources": [source]})
    sorted(series.iterdir())[-1].unlink()
    assert not sources.unchanged([series], {"sources": [source]})
    assert sources.digest_files(series) != source["digest"]


def test_missing_source_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.nii: cannot be read: No such file"):
        sources.identify([tmp_path / "absent.nii"], {})
    with pytest.raises(InputError, match=r"absent\.nii: there is no such file"):
        sources.digest_files(tmp_path / "absent.nii")
    assert not sources.unchanged([tmp_path / "absent.nii"], {})


def test_a_dicom_segmentation_is_a_source_as_any_file(tmp_path):
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    dataset.SOPInstanceUID = "1.2.3"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    (source,) = sources.identify([tmp_path / "a.dcm"], {})
    assert source["size"] == (tmp_path / "a.dcm").stat().st_size


def test_the_sha256_of_a_header_and_its_voxels_is_that_of_both_after_one_another(tmp_path):
    header = "NRRD0004\ntype: uint8\ndimension: 2\nsizes: 1 3\nencoding: raw\ndata file: a.raw\n\n"
    (tmp_path / "a.nhdr").write_text(header)
    (tmp_path / "a.raw").write_bytes(b"abc")
    joined = header.encode() + b"abc"
    assert sources.sha256_files(tmp_path / "a.nhdr") == hashlib.sha256(joined).hexdigest()
