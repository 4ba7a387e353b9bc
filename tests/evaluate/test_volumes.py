"""The tables of a folder of masks."""

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.evaluate.measure import measure_mask
from segjax.evaluate.volumes import CaseTables
from segjax.files import read_csv
from segjax.volume import Volume

LABELS = ("background", "edema", "core")


def test_tables_have_a_row_for_each_label_and_lesion(tmp_path):
    data = np.zeros((4, 4, 4), np.uint8)
    data[0, 0, :2], data[3, 3, 3], data[0, 3, 0] = 1, 1, 2
    mask = Volume(data, np.diag([10, 10, 10, 1.0]))
    loads = measure_mask(mask, labels=LABELS, maps={"spread": np.full((4, 4, 4, 1), 0.25)})
    with CaseTables(tmp_path) as tables:
        tables.put("p1", loads, network_sha256="ab", warnings='is "odd", says it')
    edema, core = read_csv(tmp_path / "volumes.csv")
    told = ("case", "label", "volume", "unit", "lesions", "largest", "spread", "network_sha256")
    assert [edema[name] for name in told] == ["p1", "edema", "3.0", "ml", "2", "2.0", "0.25", "ab"]
    assert (core["label"], core["volume"], core["warnings"]) == ("core", "1.0", 'is "odd", says it')
    assert (edema["longest_mm"], edema["perpendicular_mm"]) == ("10.0", "10.0")
    lesions = read_csv(tmp_path / "lesions.csv")
    diameters = ("longest_mm", "perpendicular_mm", "feret_mm")
    assert [lesions[0][name] for name in diameters] == ["10.0", "10.0", "20.0"]
    assert [(row["label"], row["lesion"], row["voxels"]) for row in lesions] == [
        ("edema", "1", "2"),
        ("edema", "2", "1"),
        ("core", "1", "1"),
    ]
    assert [lesions[0][name] for name in ("volume", "unit", "x", "y", "z", "probability")] == [
        "2000.0", "mm3", "0.0", "0.0", "5.0", "",
    ]  # fmt: skip


def loads_with(voxels):
    data = np.zeros((2, 5, 5), np.uint8)
    data.flat[:voxels] = 1
    return measure_mask(Volume(data, np.diag([10, 10, 10, 1.0])), labels=LABELS[:2])


def test_rows_of_other_cases_stay_and_those_of_a_case_are_replaced(tmp_path):
    with CaseTables(tmp_path) as tables:
        tables.put("a", loads_with(1))
        tables.put("b", loads_with(2))
        tables.put("failed", error="broken")
    with CaseTables(tmp_path) as tables:
        assert "a" in tables
        assert "failed" not in tables
        tables.put("a", loads_with(0))
        tables.put("failed", loads_with(3))
        tables.put("c", error="full")
    rows = read_csv(tmp_path / "volumes.csv")
    assert [(row["case"], row["volume"], row["error"]) for row in rows] == [
        ("a", "0.0", ""),
        ("b", "2.0", ""),
        ("failed", "3.0", ""),
        ("c", "", "full"),
    ]
    assert [row["case"] for row in read_csv(tmp_path / "lesions.csv")] == ["b", "failed"]


def test_rows_of_earlier_tables_stay_without_diameters(tmp_path):
    (tmp_path / "volumes.csv").write_text(
        "case,label,volume,unit,lesions,largest,spread,network_sha256,image_sha256,warnings,error\n"
        "old,edema,3.0,ml,1,3.0,0.5,ab,cd,odd,\n"
    )
    (tmp_path / "lesions.csv").write_text(
        "case,label,lesion,voxels,volume,unit,x,y,z,probability,spread\n"
        "old,edema,1,3,3000.0,mm3,1.0,2.0,3.0,0.9,0.5\n"
    )
    with CaseTables(tmp_path) as tables:
        assert "old" in tables
        tables.put("new", loads_with(1))
    old, new = read_csv(tmp_path / "volumes.csv")
    told = ("volume", "longest_mm", "perpendicular_mm", "spread", "network_sha256", "warnings")
    assert [old[name] for name in told] == ["3.0", "", "", "0.5", "ab", "odd"]
    assert (new["case"], new["longest_mm"]) == ("new", "10.0")
    old, new = read_csv(tmp_path / "lesions.csv")
    told = ("z", "longest_mm", "feret_mm", "probability", "spread")
    assert [old[name] for name in told] == ["3.0", "", "", "0.9", "0.5"]
    assert (new["case"], new["feret_mm"]) == ("new", "10.0")


def test_two_at_a_time_keep_each_others_rows(tmp_path):
    with CaseTables(tmp_path) as one, CaseTables(tmp_path) as two:
        one.put("a", loads_with(1))
        two.put("b", loads_with(2))
    assert [row["case"] for row in read_csv(tmp_path / "volumes.csv")] == ["a", "b"]


def test_many_cases_are_written_seldom_and_all_at_the_end(tmp_path, monkeypatch):
    times = []
    from segjax.evaluate import volumes

    write = volumes.write_csv
    monkeypatch.setattr(volumes, "write_csv", lambda *a, **o: times.append(1) or write(*a, **o))
    with CaseTables(tmp_path) as tables:
        for number in range(100):
            tables.put(f"{number}", loads_with(1))
    assert len(times) < 20
    assert len(read_csv(tmp_path / "volumes.csv")) == 100


def test_a_table_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "volumes.csv").write_text("case,ml\na,1\n")
    with pytest.raises(InputError, match=r"volumes\.csv: is no table of segjax predict"):
        CaseTables(tmp_path)
    (tmp_path / "volumes.csv").unlink()
    (tmp_path / "lesions.csv").mkdir()
    with pytest.raises(InputError, match=r"lesions\.csv: exists and is no ordinary file"):
        CaseTables(tmp_path)
