"""Zones of lesions, and what criteria make of them."""

from itertools import pairwise

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segjax.data.io.formats import write_volume
from segjax.errors import InputError
from segjax.evaluate.zones import (
    FREESURFER,
    STRUCTURES,
    Zones,
    dissemination_in_space,
    radiologically_isolated,
    read_structures,
    read_zones,
    structures_of,
    zone_of,
    zones_of,
)
from segjax.grid import Grid, reorient
from segjax.volume import Volume

P, J, I, D = "periventricular", "juxtacortical", "infratentorial", "deep white matter"
SHEARED = np.array([[1.0, 0.4, 0, 3], [0, 1.2, 0.5, -2], [0.3, 0, 2.0, 1], [0, 0, 0, 1]])


def line(*values, affine=None):
    """A map along the third axis."""
    return Volume(np.array([[values]], np.uint8), np.eye(4) if affine is None else affine)


def speckled(seed, shape=(9, 8, 7), affine=SHEARED):
    rng = np.random.default_rng(seed)
    return Volume(rng.choice([0] * 60 + [1, 2, 3], shape).astype(np.uint8), affine)


def within(region, affine, reach):
    """Voxels that lie within reach of a region, or share a face with it, pair by pair."""
    every = np.argwhere(np.ones(region.shape, bool))
    steps = every[:, None] - np.argwhere(region)[None]
    far = np.linalg.norm(steps @ affine[:3, :3].T, axis=-1)
    near = (far <= reach + 1e-9) | (np.abs(steps).sum(axis=-1) <= 1)
    return near.any(axis=1).reshape(region.shape)


@pytest.mark.parametrize(
    ("values", "zone"),
    [
        ((0, 0, 0), D),
        ((0, 0, 1), P),
        ((0, 0, 2), J),
        ((2, 2, 1), P),  # the ventricles go first
        ((3, 1, 2), P),  # a third under the tentorium
        ((3, 3, 1), I),
        ((3, 0), I),  # half
        ((3, 0, 0), D),
    ],
)
def test_a_lesion_has_the_first_zone_whose_rule_holds(values, zone):
    assert zone_of(np.ones((1, 1, len(values)), bool), Zones(line(*values))) == zone


def test_only_the_voxels_of_the_lesion_count():
    zones = Zones(line(1, 0, 2, 3))
    assert zone_of(np.array([[[False, True, False, False]]]), zones) == D
    assert zone_of(np.array([[[False, True, True, False]]]), zones) == J


@settings(max_examples=8)
@given(st.integers(0, 1000), st.sampled_from([0, 1, 1.5, 3]), st.sampled_from([0, 2.5]))
def test_reach_is_in_millimetres_on_a_sheared_grid(seed, ventricle_reach, cortex_reach):
    structures = speckled(seed)
    found = zones_of(structures, ventricle_reach=ventricle_reach, cortex_reach=cortex_reach)
    expected = np.zeros(structures.data.shape)
    expected[within(structures.data == 2, SHEARED, cortex_reach)] = 2
    expected[within(structures.data == 1, SHEARED, ventricle_reach)] = 1
    expected[structures.data == 3] = 3
    np.testing.assert_array_equal(found.map.data, expected)


def test_reach_is_that_of_a_distance_transform():
    affine = np.diag([0.7, 0.7, 4.0, 1.0])
    structures = speckled(1, (14, 13, 6), affine)
    found = zones_of(structures, ventricle_reach=2).map.data == 1
    ventricles = structures.data == 1
    far = ndimage.distance_transform_edt(~ventricles, sampling=(0.7, 0.7, 4.0))
    faces = ndimage.binary_dilation(ventricles)  # slices that touch are 4 mm apart
    expected = (faces | (far <= 2)) & (structures.data != 3)
    np.testing.assert_array_equal(found, expected)


def test_voxels_may_be_given_by_their_indices():
    zones = zones_of(speckled(4))
    labels, count = ndimage.label(np.random.default_rng(5).random(zones.map.data.shape) < 0.2)
    assert count > 20
    for number in range(1, count + 1):
        lesion = labels == number
        assert zone_of(np.argwhere(lesion), zones) == zone_of(lesion, zones)


def test_zones_turn_with_the_grid():
    structures = speckled(2)
    turned = reorient(structures, "PIL")
    found = zones_of(turned, ventricle_reach=2.5).map
    expected = reorient(zones_of(structures, ventricle_reach=2.5).map, "PIL")
    np.testing.assert_array_equal(found.data, expected.data)
    np.testing.assert_allclose(found.affine, expected.affine)


def test_a_larger_reach_loses_no_voxel():
    structures = speckled(3)
    zones = [zones_of(structures, ventricle_reach=reach).map.data == 1 for reach in (0, 1, 2, 4)]
    for smaller, larger in pairwise(zones):
        assert not (smaller & ~larger).any()


def test_the_values_of_freesurfer_are_known():
    values = [4, 43, 5, 31, 3, 42, 1001, 2035, 11175, 12101, 16, 15, 7, 47, 173, 628, 632]
    names = ["ventricles"] * 4 + ["cortex"] * 6 + ["infratentorial"] * 7
    labels = Volume(np.array([[values]], np.int32), np.eye(4))
    found = structures_of(labels).data.ravel().tolist()
    assert [STRUCTURES[value - 1] for value in found] == names
    others = [2, 41, 77, 10, 11, 12, 14, 24, 28, 251, 1004, 2004, 1036]  # white, deep grey, 3rd
    both = Volume(np.array([[values + others]], np.int32), np.eye(4))
    assert not structures_of(both).data[..., len(values) :].any()


def test_no_value_is_of_two_structures():
    values = [value for name in STRUCTURES for value in FREESURFER[name]]
    assert len(values) == len(set(values))


def write(path, values, affine=None, dtype=np.int16):
    write_volume(Volume(np.array([[values]], dtype), np.eye(4) if affine is None else affine), path)
    return path


def test_a_label_map_of_freesurfers_own_format_is_read(tmp_path):
    affine = np.array([[-1.0, 0, 0, 5], [0, 0, 1, -3], [0, -1, 0, 2], [0, 0, 0, 1]])
    labels = nibabel.MGHImage(np.array([[[2, 4, 1012, 16]]], np.int32), affine)
    nibabel.save(labels, tmp_path / "aparc+aseg.mgz")
    found = read_structures(tmp_path / "aparc+aseg.mgz")
    assert found.data.tolist() == [[[0, 1, 2, 3]]]
    np.testing.assert_allclose(found.affine, affine, atol=1e-5)


def test_three_masks_are_one_map(tmp_path):
    sources = {
        "infratentorial": write(tmp_path / "stem.nii.gz", [0, 0, 0, 1]),
        "ventricles": write(tmp_path / "ventricles.nii.gz", [7, 0, 0, 0]),
        "cortex": write(tmp_path / "cortex.nii.gz", [0, 0, 1, 1]),
    }
    assert read_structures(sources).data.tolist() == [[[1, 0, 2, 3]]]


def test_a_table_names_the_values_of_others(tmp_path):
    labels = write(tmp_path / "labels.nii.gz", [9, 1, 2, 3, 4])
    table = tmp_path / "table.csv"
    table.write_text("value,structure\n1,ventricles\n2,ventricles\n3,cortex\n4,infratentorial\n")
    assert read_structures(labels, table=table).data.tolist() == [[[0, 1, 1, 2, 3]]]


def test_zones_lie_where_the_image_has_them(tmp_path):
    labels = write(tmp_path / "aseg.nii.gz", [2, 4, 2, 2, 2, 2, 2, 2, 3, 16])
    affine = np.diag([1.0, 1.0, -1.0, 1.0])  # the other way round, two voxels further
    affine[2, 3] = 11
    zones = read_zones(labels, Grid((1, 1, 12), affine), ventricle_reach=1, cortex_reach=1)
    assert zones.map.data.ravel().tolist() == [0, 0, 3, 2, 2, 0, 0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(zones.map.affine, affine)


@pytest.mark.parametrize(
    ("zones", "areas", "fulfilled"),
    [
        ([], (), False),
        ([D] * 20, (), False),
        ([P] * 20 + [D], (P,), False),
        ([P, J], (P, J), True),
        ([I, D, P], (P, I), True),
        ([J, "spinal cord"], (J, "spinal cord"), True),
        ([J, "optic nerve"], (J,), False),
    ],
)
def test_two_areas_are_dissemination_in_space(zones, areas, fulfilled):
    found = dissemination_in_space(zones)
    assert (found.areas, found.fulfilled) == (areas, fulfilled)
    assert found.counts[P] == zones.count(P)
    assert found.counts[D] == zones.count(D)


def test_of_2024_the_optic_nerve_is_an_area():
    assert "optic nerve" not in dissemination_in_space([J]).counts
    assert dissemination_in_space([J, "optic nerve"], revision=2024).fulfilled


@pytest.mark.parametrize(
    ("zones", "enhancing", "criteria", "fulfilled"),
    [
        ([P] * 9, False, (True, True, False, False), False),
        ([P] * 8 + [J], False, (True, True, True, False), True),
        ([P] * 7 + [J], False, (False, True, True, False), False),  # eight lesions
        ([P] * 7 + [J], True, (True, True, True, False), True),
        ([P, P, P, J, I], False, (False, True, True, True), True),
        ([P, P, J, I], False, (False, False, True, True), False),
        ([D] * 7 + [J, "spinal cord"], False, (True, False, True, True), True),
        ([D] * 7 + [J, "optic nerve"], False, (False, False, True, False), False),
    ],
)
def test_three_of_barkhofs_four_criteria_are_the_syndrome_of_2009(
    zones, enhancing, criteria, fulfilled
):
    found = radiologically_isolated(zones, enhancing=enhancing)
    assert tuple(found.criteria.values()) == criteria
    assert (found.fulfilled_2009, found.fulfilled_2023) == (fulfilled, fulfilled)


@pytest.mark.parametrize(
    ("zones", "bands", "new", "fulfilled"),
    [
        ([P], True, True, True),
        ([P], True, False, False),
        ([P, "spinal cord"], True, False, True),
        (["spinal cord"], False, True, True),
        ([D], True, True, False),  # in no area of the criteria
        ([], True, True, False),
    ],
)
def test_two_of_three_features_are_the_syndrome_of_2023(zones, bands, new, fulfilled):
    found = radiologically_isolated(zones, oligoclonal_bands=bands, new_lesions=new)
    assert (found.fulfilled_2009, found.fulfilled_2023) == (False, fulfilled)


def test_what_is_no_map_of_zones_is_refused():
    with pytest.raises(InputError, match=r"volume of integers, not float64"):
        Zones(Volume(np.zeros((1, 1, 2)), np.eye(4)))
    with pytest.raises(InputError, match=r"\[7\]: values without a name"):
        Zones(line(0, 7))
    with pytest.raises(InputError, match="'lobar'"):
        Zones(line(0), {0: "lobar"})


def test_a_lesion_that_has_no_zone_is_refused():
    with pytest.raises(InputError, match="without voxels"):
        zone_of(np.zeros((1, 1, 2), bool), Zones(line(0, 1)))
    with pytest.raises(InputError, match=r"shape \(1, 1, 3\)"):
        zone_of(np.ones((1, 1, 3), bool), Zones(line(0, 1)))


def test_structures_that_make_no_zones_are_refused():
    with pytest.raises(InputError, match="see STRUCTURES"):
        zones_of(line(0, 4))
    with pytest.raises(InputError, match="at least 0"):
        zones_of(line(0, 1), ventricle_reach=-1)
    with pytest.raises(InputError, match="a table of ventricles: give"):
        structures_of(line(4), {"ventricles": [4]})


def test_a_label_map_without_cortex_says_so(tmp_path):
    with pytest.raises(InputError, match=r"aseg.nii.gz: the label map has no cortex: none of 3, 4"):
        read_structures(write(tmp_path / "aseg.nii.gz", [4, 2, 16]))


def test_masks_that_do_not_fit_are_named(tmp_path):
    good = write(tmp_path / "a.nii.gz", [1, 0])
    with pytest.raises(InputError, match="masks of ventricles: give one each of"):
        read_structures({"ventricles": good})
    other = write(tmp_path / "b.nii.gz", [1, 0, 0])
    with pytest.raises(InputError, match=r"b.nii.gz: lies on another grid"):
        read_structures({"ventricles": good, "cortex": other, "infratentorial": good})
    empty = write(tmp_path / "c.nii.gz", [0, 0])
    with pytest.raises(InputError, match=r"c.nii.gz: is empty, but zones need the cortex"):
        read_structures({"ventricles": good, "cortex": empty, "infratentorial": good})


def test_a_table_that_names_nothing_known_is_refused(tmp_path):
    labels, table = write(tmp_path / "labels.nii.gz", [1, 2]), tmp_path / "table.csv"
    table.write_text("value,structure\n1,lobe\n")
    with pytest.raises(InputError, match=r"table.csv: row 2 is .*'lobe'"):
        read_structures(labels, table=table)


def test_files_that_are_no_label_volumes_are_named(tmp_path):
    (tmp_path / "broken.mgz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"broken.mgz: cannot be read"):
        read_structures(tmp_path / "broken.mgz")
    nibabel.save(nibabel.MGHImage(np.ones((1, 1, 2), np.float32), np.eye(4)), tmp_path / "t1.mgz")
    with pytest.raises(InputError, match=r"t1.mgz: holds float32; labels are integers"):
        read_structures(tmp_path / "t1.mgz")
    np.save(tmp_path / "flat.npy", np.ones((3, 3), np.uint8))
    with pytest.raises(InputError, match=r"flat.npy: is no volume"):
        read_structures(tmp_path / "flat.npy")


def test_a_label_map_of_another_place_is_refused(tmp_path):
    labels = write(tmp_path / "aseg.nii.gz", [4, 3, 16])
    away = np.eye(4)
    away[:3, 3] = 500
    with pytest.raises(InputError, match=r"aseg.nii.gz: no ventricle and no cortex lies within"):
        read_zones(labels, Grid((2, 2, 2), away))
    with pytest.raises(InputError, match="a picture has no place"):
        read_zones(labels, Grid((2, 2), np.eye(3)))


@pytest.mark.parametrize("count", [dissemination_in_space, radiologically_isolated])
def test_a_zone_that_nobody_knows_is_refused(count):
    with pytest.raises(InputError, match="zone 'lobar': give one of periventricular"):
        count(["lobar"])


def test_a_revision_that_nobody_knows_is_refused():
    with pytest.raises(Exception, match="2010"):
        dissemination_in_space([], revision=2010)
