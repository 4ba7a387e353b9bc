"""Visits that are brought half-way to each other."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import logm
from scipy.spatial.transform import Rotation

from segjax.data.io.formats import read_volume
from segjax.data.phantom.dataset import phantom
from segjax.data.prepare.brain import extract_brain
from segjax.data.prepare.spatial import resample
from segjax.errors import InputError
from segjax.evaluate import registration as module
from segjax.evaluate.registration import (
    field_of_view,
    read_transform,
    register_visits,
    to_halfway,
    unregistered,
    write_transform,
)
from segjax.grid import Grid, grid, same_grid
from segjax.volume import Volume

SURE = module.PairFit(0, 1, np.eye(4), 0.97, 1.5, 0.02, 0.0, 0.0, 0.9, 0.6)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def motion(degrees=0.0, axis=(1, 0.5, 2), shift=(0, 0, 0)):
    matrix = np.eye(4)
    turn = np.deg2rad(degrees) * np.array(axis) / np.linalg.norm(axis)
    matrix[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def moved(volume, matrix):
    """Return the same head elsewhere: no value changes."""
    return Volume(volume.data, matrix @ volume.affine)


def scanned(volume, matrix, spacing=4.0):
    """Return a head that moved, as a scanner samples it along its own axes."""
    there = moved(volume, matrix)
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in volume.data.shape], [1])).reshape(4, -1)
    corners = there.affine @ ends
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = corners[:3].min(axis=1)
    shape = np.ptp(corners[:3], axis=1) // spacing + 1
    return resample(there, Grid(tuple(int(n) for n in shape), affine))


def pair_map(found, first=0, second=1):
    return found.matrices[second] @ np.linalg.inv(found.matrices[first])


def error(found, expected, brain):
    """The mean distance between where two maps bring a brain, in mm."""
    places = np.argwhere(brain.data > 0) @ brain.affine[:3, :3].T + brain.affine[:3, 3]
    apart = found - expected
    return np.linalg.norm(places @ apart[:3, :3].T + apart[:3, 3], axis=1).mean()


@pytest.fixture(scope="module", autouse=True)
def fewer_places():
    """Compare images of 4 mm at fewer places than those of a scanner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PLACES", 6000)
        patch.setattr(module, "_FEW", 3000)
        yield


@pytest.fixture(scope="module")
def head():
    return phantom(0, shape=(40, 48, 40), spacing=4.0)[0]


@pytest.fixture(scope="module")
def brain(head):
    return extract_brain(head)


@pytest.fixture(scope="module")
def turned(head, brain):
    """Register a head to itself, turned, shifted, sampled anew, with noise and other values."""
    matrix = motion(20, shift=(30, -20, 45))
    other = scanned(head, matrix)
    data = np.sqrt(np.maximum(other.data, 0)) + np.random.default_rng(0).normal(0, 0.02, 1)
    other = other.with_data(data.max() - data)
    mask = other.with_data(scanned(brain, matrix).data > 0.5)
    return matrix, other, mask, register_visits([head, other], brains=[brain, mask])


def test_a_head_that_moved_far_is_found_in_another_contrast(head, brain, turned):
    matrix, _, _, found = turned
    assert error(pair_map(found), matrix, brain) < 0.8  # voxels of 4 mm
    (pair,) = found.pairs
    np.testing.assert_allclose(pair.matrix, pair_map(found), atol=1e-9)
    assert pair.degrees == pytest.approx(20, abs=0.6)
    assert pair.inconsistency_mm < 1
    assert pair.overlap > 0.93
    assert pair.agreement > pair.mirrored + 0.1


def test_swapped_visits_give_the_same_map_inverted(head, brain, turned):
    _, other, mask, found = turned
    swapped = register_visits([other, head], brains=[mask, brain])
    assert error(pair_map(swapped, 1, 0), pair_map(found), brain) < 0.01
    for here, there in zip(found.matrices, reversed(swapped.matrices), strict=True):
        assert error(here, there, brain) < 0.01
    np.testing.assert_allclose(found.grid.affine, swapped.grid.affine, atol=0.01)


@pytest.mark.slow
def test_the_same_images_give_the_same_bits(head, brain, turned):
    _, other, mask, found = turned
    again = register_visits([head, other], brains=[brain, mask])
    for one, two in zip(found.matrices, again.matrices, strict=True):
        np.testing.assert_array_equal(one, two)


def test_both_visits_are_as_far_from_the_half_way_grid(turned):
    *_, found = turned
    here, there = (logm(matrix).real for matrix in found.matrices)
    np.testing.assert_allclose(here, -there, atol=1e-8)
    for matrix in found.matrices:
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-10)


def test_identical_images_stay_untouched(head, brain):
    found = register_visits([head, head], brains=[brain, brain])
    assert same_grid(found.grid, grid(head))
    for visit in (0, 1):
        np.testing.assert_array_equal(found.matrices[visit], np.eye(4))
        np.testing.assert_array_equal(to_halfway(head, found, visit).data, head.data)


@pytest.mark.slow
def test_three_visits_have_one_half_way_space(head, brain):
    motions = [np.eye(4), motion(4, shift=(3, 2, -5)), motion(-3, (1, 0, 0), (0, 6, 4))]
    found = register_visits([moved(head, one) for one in motions])
    assert [(pair.first, pair.second) for pair in found.pairs] == [(0, 1), (0, 2), (1, 2)]
    for first, second in ((0, 1), (1, 2), (0, 2)):
        truth = motions[second] @ np.linalg.inv(motions[first])
        assert error(pair_map(found, first, second), truth, moved(brain, motions[first])) < 0.1
    mean = np.mean([logm(matrix).real for matrix in found.matrices], axis=0)
    np.testing.assert_allclose(mean, 0, atol=1e-6)


def test_pairs_that_disagree_are_settled_by_least_squares():
    def fit(i, j, shift):
        return module.PairFit(i, j, motion(shift=(shift, 0, 0)), None, 1.0, 0.0, 0.0, 0.0)

    fits = [fit(0, 1, 10), fit(1, 2, 10), fit(0, 2, 23)]  # 3 mm too many, 1 for each pair
    places = [matrix[0, 3] for matrix in module._halfway(fits, 3)]
    np.testing.assert_allclose(np.diff(places), [11, 11], atol=1e-6)
    assert sum(places) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_affine_registration_finds_what_stretches(head, brain):
    stretch = motion(3, shift=(4, 0, 2)) @ np.diag([1.03, 0.98, 1.02, 1])
    images = [head, moved(head, stretch)]
    masks = [brain, moved(brain, stretch)]
    rigid, affine = (register_visits(images, brains=masks, kind=k) for k in ("rigid", "affine"))
    assert error(pair_map(rigid), stretch, brain) > 0.6
    assert error(pair_map(affine), stretch, brain) < 0.3
    assert affine.kind == "affine"


@pytest.mark.slow
def test_a_brain_that_is_not_found_is_that_of_the_other_visit(head, brain, monkeypatch):
    matrix = motion(8, shift=(6, 3, -4))
    monkeypatch.setattr(module, "_found_brain", lambda image: None)
    found = register_visits([head, moved(head, matrix)], brains=[brain, None])
    assert error(pair_map(found), matrix, brain) < 0.2
    assert found.pairs[0].overlap > 0.9


@pytest.mark.slow
def test_whole_heads_are_registered_where_no_brain_is_found(head, brain, monkeypatch):
    matrix = motion(8, shift=(6, 3, -4))
    monkeypatch.setattr(module, "_found_brain", lambda image: None)
    alone = register_visits([head, moved(head, matrix)])
    assert error(pair_map(alone), matrix, brain) < 0.2
    assert alone.pairs[0].overlap is None


def test_what_is_no_brain_is_none(head, brain):
    assert module._found_brain(head.with_data(np.full(head.data.shape, 1.0))) is None
    np.testing.assert_array_equal(module._found_brain(head).data, brain.data)


def test_a_brain_is_handed_on_to_the_visit_without_one(head, brain, monkeypatch):
    monkeypatch.setattr(module, "_found_brain", lambda image: None)
    matrix = motion(10, shift=(9, 0, 4))
    one = module._head("visit 1", head, brain)
    other = module._head("visit 2", moved(head, matrix), None)
    assert module._overlap(one, other, matrix) is None
    assert not other.has_brain
    handed = module._with_brain(other, one, np.linalg.inv(matrix))
    assert handed.has_brain
    assert module._overlap(one, handed, matrix) > 0.95
    assert module._with_brain(other, one, motion(shift=(900, 0, 0))) is other  # out of sight
    assert module._with_brain(one, other, matrix) is one


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agreement": 0.68, "mirrored": 0.67}, "no more alike than two persons' are"),
        ({"agreement": 0.6, "inconsistency_mm": 0.9}, "no more alike than two persons' are"),
        ({"mirrored": 0.95}, "left and right are exchanged"),
        ({"overlap": 0.6}, "cover each other to a Dice of 0.60 alone"),
        ({"matrix": motion(shift=(0, 0, 90))}, r"shows \d+ % of the brain of visit 1: too little"),
    ],
)
def test_what_does_not_belong_together_is_refused(head, brain, changes, message):
    one, other = (module._head(f"visit {n}", head, brain) for n in (1, 2))
    with pytest.raises(InputError, match="visit 1 and visit 2: .*" + message):
        module._check(one, other, replace(SURE, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agreement": 0.74}, "have little in common"),
        ({"agreement": 0.69, "mirrored": 0.6}, "have little in common"),
        ({"overlap": 0.8}, "to a Dice of 0.80: look"),
        ({"matrix": motion(shift=(0, 0, 60))}, r"shows [5-8]\d % of the brain of visit \d: only"),
    ],
)
def test_what_is_doubtful_is_warned_of(head, brain, changes, message):
    one, other = (module._head(f"visit {n}", head, brain) for n in (1, 2))
    with pytest.warns(UserWarning, match="visit 1 and visit 2: .*" + message):
        module._check(one, other, replace(SURE, **changes))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module._check(one, other, SURE)


def test_a_mirrored_head_is_refused(head, brain):
    flipped = head.with_data(head.data[::-1].copy())
    mask = brain.with_data(brain.data[::-1].copy())
    with pytest.raises(InputError, match=r"visit 1 and visit 2: .*left and right are exchanged"):
        register_visits([head, flipped], brains=[brain, mask])


@pytest.mark.slow
def test_another_head_is_refused(data_dir):
    folder = data_dir / "ms_lesions"
    images = [read_volume(folder / name / "flair.nii.gz") for name in ("patient07", "patient19")]
    with pytest.raises(InputError, match="no more alike than two persons' are"):
        register_visits(images)


def test_half_a_head_is_refused(head, brain):
    half = np.arange(head.data.shape[2]) < 18
    empty = head.with_data(np.where(half, head.data, 0))
    mask = brain.with_data(np.where(half, brain.data, 0))
    with pytest.raises(InputError, match=r"2023 and 2024: .* Dice of 0\.\d\d alone"):
        register_visits([head, empty], brains=[brain, mask], names=["2023", "2024"])


@pytest.mark.slow
def test_a_field_of_view_of_half_a_head_is_refused(head, brain):
    cut = Volume(head.data[:, :, :17], head.affine)
    with pytest.raises(InputError, match=r"visit 2 shows \d\d % of the brain of visit 1: too"):
        register_visits([head, cut], brains=[brain, Volume(brain.data[:, :, :17], head.affine)])


@pytest.mark.slow
def test_a_head_that_is_turned_round_is_refused(head, brain):
    round_ = motion(179, (0, 0, 1))
    with pytest.raises(InputError, match=r"turned round by 1\d\d degrees against the other"):
        register_visits([head, moved(head, round_)], brains=[brain, moved(brain, round_)])


@pytest.mark.slow
def test_a_part_that_was_not_imaged_is_warned_of(head, brain):
    cut = np.eye(4)
    cut[2, 3] = 14
    there = head.affine @ cut
    images = [head, Volume(head.data[:, :, 14:], there)]
    masks = [brain, Volume(brain.data[:, :, 14:], there)]
    with pytest.warns(UserWarning, match=r"visit 2 shows [78]\d % of the brain of visit 1"):
        found = register_visits(images, brains=masks)
    assert error(pair_map(found), np.eye(4), brain) < 0.2


@pytest.mark.slow
def test_brains_that_differ_are_warned_of(head, brain):
    kept = np.arange(head.data.shape[0]) < 22
    with pytest.warns(UserWarning, match=r"cover each other to a Dice of 0\.[78]\d: look"):
        register_visits(
            [head, head], brains=[brain, brain.with_data(brain.data * kept[:, None, None])]
        )


def test_images_that_cannot_be_registered_are_refused(head, brain):
    flat = Volume(np.ones((20, 20)), np.eye(3))
    slice_ = Volume(head.data[:, :, :1], head.affine)
    holed = head.with_data(np.where(head.data == head.data.max(), np.nan, head.data))
    small = Volume(head.data, np.diag([1.0, 1.0, 1.0, 1.0]))
    for other, message in (
        (flat, r"visit 2: an image of shape \(20, 20\) is one slice"),
        (slice_, "is one slice"),
        (holed, "visit 2: the image holds NaN"),
        (small, "visit 2: an image over 40 × 48 × 40 mm shows no head"),
        (head.with_data(np.zeros(head.data.shape)), "visit 2: the image is empty"),
    ):
        with pytest.raises(InputError, match=message):
            register_visits([head, other], brains=[brain, None])
    with pytest.raises(InputError, match="give two or more, not 1"):
        register_visits([head])
    with pytest.raises(InputError, match="'rigid' or 'affine'"):
        register_visits([head, head], kind="bent")
    with pytest.raises(InputError, match="1 masks of brains for 2 images"):
        register_visits([head, head], brains=[brain])
    with pytest.raises(InputError, match="visit 1: the mask of its brain is empty, or"):
        register_visits([head, head], brains=[brain.with_data(brain.data * 0), brain])
    with pytest.raises(InputError, match="the mask of its brain"):
        register_visits([head, head], brains=[flat, brain])


def test_headers_are_trusted_where_nothing_is_registered():
    one = Grid((10, 12, 5), np.diag([2.0, 2.0, 6.0, 1.0]))
    found = unregistered([one, one])
    assert found.kind == "none"
    assert same_grid(found.grid, one)
    further = Grid((10, 12, 20), np.diag([3.0, 2.0, 1.5, 1.0]))
    common = unregistered([one, further]).grid
    assert common.spacing == pytest.approx((2, 2, 1.5))
    assert common.shape == (15, 12, 20)  # 27 mm in x; in z 28.5
    apart = Grid((10, 12, 5), motion(shift=(90, 0, 0)))
    with pytest.raises(InputError, match="where nothing overlaps"):
        unregistered([one, apart])
    for grids in ([], [Grid((4, 4), np.eye(3))]):
        with pytest.raises(InputError, match="one volume of rank 3"):
            unregistered(grids)


@given(st.floats(-15, 15), st.tuples(*[st.floats(-3, 3)] * 3), st.sampled_from([3.0, 1.5]))
def test_a_common_grid_holds_all_voxels_and_keeps_slices(degrees, shift, thick):
    one = Grid((20, 22, 8), motion(7) @ np.diag([0.8, 0.8, 3.0, 1.0]))
    other = Grid((18, 20, 9), motion(degrees, shift=shift) @ np.diag([1.0, 1.0, thick, 1.0]))
    common = unregistered([one, other]).grid
    np.testing.assert_allclose(common.spacing, (0.8, 0.8, min(3.0, thick)), rtol=1e-6)
    for inner in (one, other):
        ends = np.array(np.meshgrid(*[(0, n - 1) for n in inner.shape], [1])).reshape(4, -1)
        index = (np.linalg.inv(common.affine) @ inner.affine @ ends)[:3]
        assert index.min() > -1e-3
        assert (index.max(axis=1) < np.array(common.shape) - 1 + 1e-3).all()


def test_a_common_grid_of_crossed_slices_stays_small(monkeypatch):
    monkeypatch.setattr(module, "_MOST_VOXELS", 30_000)
    axial = Grid((50, 50, 10), np.diag([1.0, 1.0, 5.0, 1.0]))
    sagittal = Grid((10, 50, 50), np.diag([5.0, 1.0, 1.0, 1.0]))
    common = unregistered([axial, sagittal]).grid
    assert np.prod(common.shape) < 40_000
    turned = Grid((10, 50, 50), np.array([[0, 0, 1, 0], [0, 1, 0, 0], [5, 0, 0, 0], [0, 0, 0, 1]]))
    assert same_grid(unregistered([axial, axial]).grid, axial)
    assert min(unregistered([axial, turned]).grid.spacing) >= 1


def test_masks_become_shares_and_the_field_that_all_visits_show_is_known():
    data = np.zeros((8, 8, 8), np.uint8)
    data[2:6, 2:6, 2:6] = 1
    one = Volume(data, np.eye(4))
    found = unregistered([grid(one), Grid((8, 8, 8), motion(shift=(0.5, 0, 0)))])
    half = to_halfway(one, found, 0)
    assert half.data.dtype == np.float32
    assert half.data.sum() == pytest.approx(64, rel=1e-5)
    seen = field_of_view([grid(one), Grid((4, 8, 8), np.eye(4))], found)
    assert seen.data.dtype == np.uint8
    assert 0 < seen.data.sum() < seen.data.size
    assert to_halfway(one, found, 0, interpolation="nearest").data.dtype == np.uint8


@pytest.mark.parametrize("stretch", [1.0, 1.1])
def test_simpleitk_resamples_with_a_written_transform_as_segjax_does(tmp_path, head, stretch):
    sitk = pytest.importorskip("SimpleITK")
    matrix = motion(14, shift=(5, -8, 3)) @ np.diag([stretch, 1, 1, 1])
    like = Grid((30, 36, 33), motion(3) @ np.diag([4.0, 4.5, 5.0, 1.0]))
    found = module.Registration((matrix, matrix), like, "rigid")
    write_transform(tmp_path / "visit.tfm", matrix)
    transform = sitk.ReadTransform(str(tmp_path / "visit.tfm"))
    assert transform.GetName() == ("Euler3DTransform" if stretch == 1 else "AffineTransform")

    def image(data, affine):
        lps = LPS @ affine
        steps = np.linalg.norm(lps[:3, :3], axis=0)
        made = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
        made.SetSpacing(steps.tolist())
        made.SetOrigin(lps[:3, 3].tolist())
        made.SetDirection((lps[:3, :3] / steps).ravel().tolist())
        return made

    target = image(np.zeros(like.shape, np.float32), like.affine)
    theirs = sitk.Resample(image(head.data, head.affine), target, transform, sitk.sitkLinear, 0.0)
    ours = to_halfway(head, found, 0).data
    values = sitk.GetArrayFromImage(theirs).T
    assert (values != 0).mean() > 0.15
    both = (values != 0) & (ours != 0)  # which voxels lie outside, rounding decides
    np.testing.assert_allclose(ours[both], values[both], rtol=1e-4, atol=1e-4 * ours.max())
    assert ((values != 0) ^ (ours != 0)).mean() < 1e-3


@given(
    st.floats(-180, 180),
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.1),
    st.tuples(*[st.floats(-200, 200)] * 3),
)
def test_written_transforms_are_read_back(tmp_path_factory, degrees, axis, shift):
    path = tmp_path_factory.getbasetemp() / "again.tfm"
    matrix = motion(degrees, axis, shift)
    write_transform(path, matrix, overwrite=True)
    np.testing.assert_allclose(read_transform(path), matrix, atol=1e-10)


def test_a_turn_that_euler_angles_cannot_tell_is_written_as_affine(tmp_path):
    matrix = motion(90, (1, 0, 0)) @ motion(30, (0, 1, 0))
    write_transform(tmp_path / "turned.tfm", matrix)
    assert "AffineTransform" in (tmp_path / "turned.tfm").read_text()
    np.testing.assert_allclose(read_transform(tmp_path / "turned.tfm"), matrix, atol=1e-12)


def test_transforms_of_others_are_read(tmp_path):
    (tmp_path / "ants.txt").write_text(
        "#Insight Transform File V1.0\n#Transform 0\n"
        "Transform: MatrixOffsetTransformBase_double_3_3\n"
        "Parameters: 0 -1 0 1 0 0 0 0 2 3 4 5\nFixedParameters: 10 0 0\n"
    )  # y = A (x - c) + t + c in LPS
    expected = np.array([[0, -1, 0, -13], [1, 0, 0, 6], [0, 0, 2, 5], [0, 0, 0, 1]])
    np.testing.assert_allclose(read_transform(tmp_path / "ants.txt"), expected, atol=1e-12)


def test_files_that_hold_no_linear_transform_are_refused(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    with pytest.raises(InputError, match=r"none.tfm: there is no such file"):
        read_transform(tmp_path / "none.tfm")
    (tmp_path / "text.tfm").write_text("hello")
    with pytest.raises(InputError, match=r"text.tfm: cannot be read as an ITK transform"):
        read_transform(tmp_path / "text.tfm")
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "flat.tfm"))
    sitk.WriteTransform(sitk.BSplineTransform(3), str(tmp_path / "bent.tfm"))
    for name in ("flat", "bent"):
        with pytest.raises(InputError, match=f"{name}.tfm: holds no rigid or affine transform"):
            read_transform(tmp_path / f"{name}.tfm")
    with pytest.raises(InputError, match=r"the suffix .tfm or .txt"):
        write_transform(tmp_path / "visit.mat", np.eye(4))
    with pytest.raises(InputError, match="not invertible"):
        write_transform(tmp_path / "visit.tfm", np.diag([1.0, 1.0, 0.0, 1.0]))
    write_transform(tmp_path / "visit.tfm", np.eye(4))
    with pytest.raises(InputError, match=r"visit\.tfm"):
        write_transform(tmp_path / "visit.tfm", np.eye(4))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patient", "first", "second", "most"),
    [
        ("patient01", "FLAIR", "FLAIR", 0.35),
        ("patient12", "FLAIR", "FLAIR", 0.35),
        ("patient01", "FLAIR", "T2W", 0.6),
        ("patient12", "T2W", "FLAIR", 0.6),
        ("patient12", "T1W", "FLAIR", 0.6),
    ],
)
def test_real_visits_lie_where_their_authors_have_them(data_dir, patient, first, second, most):
    folder = data_dir / "ms_longitudinal" / patient

    def chain(study, name):
        own = read_transform(folder / f"{study}_FLAIR_to_common_space.txt")
        if name == "FLAIR":
            return own
        return read_transform(folder / f"{study}_{name}_intrastudy_to_FLAIR.txt") @ own

    names = (("study1", first), ("study2", second))
    images = [read_volume(folder / f"{study}_{name}.nii.gz") for study, name in names]
    here, there = (chain(*name) for name in names)
    brain = moved(read_volume(folder / "brainmask.nii.gz"), here)
    found = register_visits(images)
    assert error(pair_map(found), there @ np.linalg.inv(here), brain) < most
    assert np.prod(found.grid.shape) < 3 * max(one.data.size for one in images)
    assert found.pairs[0].agreement > found.pairs[0].mirrored + 0.05
