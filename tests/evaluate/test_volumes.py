"""Volumes and lesions of masks, and the tables of a folder."""

import numpy as np
import pytest
from scipy import ndimage

from segjax.errors import InputError
from segjax.evaluate.volumes import CaseTables, loads_of
from segjax.files import read_csv
from segjax.volume import Volume

LABELS = ("background", "edema", "core")
AFFINE = np.array([[0, -2.0, 0, 5], [1.0, 0, 0, -3], [0, 0, 3.0, 1], [0, 0, 0, 1]])


def noise(shape=(12, 11, 10)):
    rng = np.random.default_rng(0)
    return Volume(rng.choice([0, 0, 0, 0, 1, 2], shape).astype(np.uint8), AFFINE), rng.random(shape)


def test_lesions_and_their_means_are_scipys():
    mask, spread = noise()
    for value, load in enumerate(loads_of(mask, LABELS, {"spread": spread[..., None]}), 1):
        where = mask.data == value
        numbers, count = ndimage.label(where, np.ones((3, 3, 3)))
        index = np.arange(1, count + 1)
        sizes = ndimage.sum(where, numbers, index)
        order = np.argsort(-sizes, kind="stable")
        centres = np.array(ndimage.center_of_mass(where, numbers, index)) @ AFFINE[:3, :3].T
        assert load.label == LABELS[value]
        assert load.size == pytest.approx(where.sum() * 6 / 1000)
        assert [piece.voxels for piece in load.pieces] == sizes[order].tolist()
        assert load.largest == pytest.approx(sizes.max() * 6 / 1000)
        found = [piece.centre for piece in load.pieces]
        np.testing.assert_allclose(found, (centres + AFFINE[:3, 3])[order])
        means = np.array(ndimage.mean(spread, numbers, index))[order]
        np.testing.assert_allclose([piece.means["spread"] for piece in load.pieces], means)
        assert load.means["spread"] == pytest.approx(spread[where].mean())


def test_a_lesion_has_the_mean_of_its_own_probability():
    mask = Volume(np.array([[[0, 1, 2]]], np.uint8), np.eye(4))
    several = np.arange(9.0).reshape(1, 1, 3, 3)
    loads = loads_of(mask, LABELS, {"probability": several})
    assert [load.means["probability"] for load in loads] == [4, 8]
    one = np.array([0.1, 0.9, 0.2]).reshape(1, 1, 3, 1)
    (load,) = loads_of(Volume(mask.data == 1, np.eye(4)), LABELS[:2], {"probability": one})
    assert load.means == {"probability": 0.9}


def test_pictures_are_measured_in_pixels():
    mask = Volume(np.array([[1, 1, 0], [0, 0, 1]], np.uint8), np.diag([0.5, 0.5, 1]))
    (load,) = loads_of(mask, ["background", "lesion"])
    assert (load.size, load.unit, load.largest) == (3.0, "pixels", 3.0)
    assert load.pieces[0].size == 0.75


def test_a_label_that_is_not_there_has_no_means():
    mask, _ = noise()
    empty = mask.with_data(np.zeros_like(mask.data))
    for load in loads_of(empty, LABELS, {"spread": np.ones((12, 11, 10, 1))}):
        assert (load.size, load.pieces, load.largest, load.means) == (0, (), 0, {})


def test_tables_have_a_row_for_each_label_and_lesion(tmp_path):
    data = np.zeros((4, 4, 4), np.uint8)
    data[0, 0, :2], data[3, 3, 3], data[0, 3, 0] = 1, 1, 2
    mask = Volume(data, np.diag([10, 10, 10, 1.0]))
    loads = loads_of(mask, LABELS, {"spread": np.full((4, 4, 4, 1), 0.25)})
    with CaseTables(tmp_path) as tables:
        tables.put("p1", loads, network_sha256="ab", warnings='is "odd", says it')
    edema, core = read_csv(tmp_path / "volumes.csv")
    told = ("case", "label", "volume", "unit", "lesions", "largest", "spread", "network_sha256")
    assert [edema[name] for name in told] == ["p1", "edema", "3.0", "ml", "2", "2.0", "0.25", "ab"]
    assert (core["label"], core["volume"], core["warnings"]) == ("core", "1.0", 'is "odd", says it')
    lesions = read_csv(tmp_path / "lesions.csv")
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
    return loads_of(Volume(data, np.diag([10, 10, 10, 1.0])), LABELS[:2])


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
