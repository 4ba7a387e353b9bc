"""N4: against plain calls of SimpleITK, and against a field that is known."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

import segjax.data.prepare.bias_field as module
from segjax.data.io.formats import read_volume
from segjax.data.phantom.head import Tissue, draw_head
from segjax.data.prepare.bias_field import N4, correct_bias_field, estimate_bias_field
from segjax.errors import InputError
from segjax.volume import Volume

FAST = N4(shrink=2, iterations=(12, 6), spline_spacing=40.0)
SIGNAL = {Tissue.FAT: 0.9, Tissue.MARROW: 0.4, Tissue.FLUID: 0.15, Tissue.GREY: 0.6,
          Tissue.WHITE: 0.8, Tissue.MUSCLE: 0.35, Tissue.DURA: 0.3}  # fmt: skip
LPS = np.diag([-1.0, -1.0, 1.0])


def head(shape, seed=0, strength=0.5):
    """Return a noisy head with a known bias field, that field, and where its brain is."""
    rng = np.random.default_rng(seed)
    tissue = draw_head(rng, shape).tissue.reshape(shape)
    signal = np.array([SIGNAL.get(t, 0.03) for t in Tissue])[tissue]
    places = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    field = np.exp(strength * (places[0] - 0.6 * places[1] ** 2 + 0.4 * places[0] * places[-1]))
    image = 500 * gaussian_filter(signal, 0.5) * field
    image = np.abs(image + rng.normal(0, 5, shape)).astype(np.float32)
    return image, field, np.isin(tissue, (Tissue.GREY, Tissue.WHITE))


def plain(image, mask, shrink, points, iterations):
    """Return the field as one computes it with SimpleITK alone."""
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(iterations)
    n4.SetNumberOfControlPoints(points)
    n4.Execute(sitk.Shrink(image, shrink), sitk.Shrink(mask, shrink))
    return sitk.GetArrayFromImage(sitk.Exp(n4.GetLogBiasFieldAsImage(image))).T


def correlation(first, second):
    return np.corrcoef(np.log(first).ravel(), np.log(second).ravel())[0, 1]


# -- against SimpleITK --------------------------------------------------------------------------


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("shape", [(40, 44, 36), (60, 50)])
def test_field_is_that_of_plain_simpleitk(shape, given):
    image, _, brain = head(shape)
    rank = len(shape)
    affine = np.diag([*(1.0, 1.5, 2.0)[:rank], 1.0])
    peer = sitk.GetImageFromArray(image.T)
    peer.SetSpacing(np.diag(affine)[:rank].tolist())
    mask = sitk.OtsuThreshold(peer, 0, 1, 200)
    if given:
        mask = sitk.GetImageFromArray(brain.astype(np.uint8).T)
        mask.CopyInformation(peer)
    points = {3: [4, 5, 5], 2: [5, 5]}[rank]  # 40, 66 and 72 mm, or 60 and 75 mm: ceil(L/40) + 3
    expected = plain(peer, mask, [2] * rank, points, [12, 6])
    volume = Volume(image, affine)
    given_mask = volume.with_data(brain) if given else None
    field = estimate_bias_field(volume, mask=given_mask, options=FAST)
    np.testing.assert_allclose(field.data, expected, rtol=1e-5)
    corrected = correct_bias_field(volume, mask=given_mask, options=FAST)
    np.testing.assert_allclose(corrected.data, image / expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(corrected.affine, affine)


def test_orientation_does_not_matter():
    image, _, _ = head((40, 44, 36))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (10, -25, 40), degrees=True).as_matrix()
    affine[:3, 3] = (-80, 12, 33)
    field = estimate_bias_field(Volume(image, affine), options=FAST).data
    straight = estimate_bias_field(Volume(image, np.eye(4)), options=FAST).data
    np.testing.assert_array_equal(field, straight)
    peer = sitk.GetImageFromArray(image.T)
    peer.SetDirection((LPS @ affine[:3, :3]).ravel().tolist())
    peer.SetOrigin((LPS @ affine[:3, 3]).tolist())
    mask = sitk.OtsuThreshold(peer, 0, 1, 200)
    expected = plain(peer, mask, [2] * 3, [4, 5, 4], [12, 6])
    np.testing.assert_allclose(field, expected, rtol=0.05)  # SimpleITK's depends on it by 2 %


@pytest.mark.slow
def test_a_real_flair_as_plain_simpleitk(data_dir):
    volume = read_volume(data_dir / "ms_lesions" / "patient07" / "flair.nii.gz")
    peer = sitk.GetImageFromArray(volume.data.astype(np.float32).T)
    mask = sitk.OtsuThreshold(peer, 0, 1, 200)
    expected = plain(peer, mask, [4] * 3, [4, 5, 4], [50] * 4)
    field = estimate_bias_field(volume).data
    np.testing.assert_allclose(field, expected, rtol=1e-5)


# -- against the truth --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(48, 52, 44), (96, 80)])
def test_a_known_field_is_found(shape):
    image, truth, brain = head(shape)
    volume = Volume(image, np.diag([*[2.0] * len(shape), 1.0]))
    options = N4(shrink=2, iterations=(40, 40), spline_spacing=200.0)
    field = estimate_bias_field(volume, mask=volume.with_data(brain), options=options).data
    assert correlation(field[brain], truth[brain]) > 0.95
    left = np.log(field[brain] / truth[brain])
    assert left.std() < 0.35 * np.log(truth[brain]).std()


def test_without_a_field_nothing_much_changes():
    image, _, brain = head((48, 52, 44), strength=0.0)
    volume = Volume(image, np.diag([2.0, 2, 2, 1]))
    field = estimate_bias_field(volume, mask=volume.with_data(brain), options=FAST).data
    assert np.log(field[brain]).std() < 0.1


# -- shapes -------------------------------------------------------------------------------------


def test_channels_have_their_own_fields():
    first, second = head((40, 36), 0)[0], head((40, 36), 1)[0]
    both = estimate_bias_field(Volume(np.stack([first, second], -1), np.eye(3)), options=FAST)
    for c, alone in enumerate((first, second)):
        field = estimate_bias_field(Volume(alone, np.eye(3)), options=FAST)
        np.testing.assert_array_equal(both.data[..., c], field.data)


def test_one_slice_of_a_volume_is_a_slice():
    image = head((40, 36))[0]
    flat = estimate_bias_field(Volume(image, np.eye(3)), options=FAST).data
    slab = Volume(image[:, None, :], np.diag([1.0, 6.5, 1.0, 1.0]))
    np.testing.assert_array_equal(estimate_bias_field(slab, options=FAST).data[:, 0], flat)


@pytest.mark.parametrize("depth", [2, 5, 22])
def test_thick_slices_are_not_shrunk_away(depth):
    image = head((48, 52, 44))[0][:, :, 8 : 8 + depth]
    volume = Volume(image, np.diag([4.0, 4.0, 6.5, 1.0]))
    field = estimate_bias_field(volume, options=N4(iterations=(10, 5))).data
    assert np.isfinite(field).all()
    assert (field > 0).all()


def test_integers_and_a_channel_axis_are_taken_and_left():
    image = head((40, 36))[0].astype(np.int16)
    field = estimate_bias_field(Volume(image[..., None], np.eye(3)), options=FAST)
    assert (field.data.shape, field.data.dtype) == ((40, 36, 1), np.float32)


def test_voxels_of_the_mask_that_are_not_positive_do_not_count():
    image, _, brain = head((40, 36))
    image[18:20, 18:20] = -5
    volume = Volume(image, np.eye(3))
    wanted = volume.with_data(brain & (image > 0))
    np.testing.assert_array_equal(
        estimate_bias_field(volume, mask=volume.with_data(brain), options=FAST).data,
        estimate_bias_field(volume, mask=wanted, options=FAST).data,
    )


def test_threads_change_next_to_nothing():
    volume = Volume(head((40, 44, 36))[0], np.eye(4))
    one, two = (estimate_bias_field(volume, options=FAST, threads=n).data for n in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-3)


def test_every_iteration_is_counted(monkeypatch):
    seen = []

    def track(steps, description, *, unit):
        for step in steps:
            seen.append((description, unit))
            yield step

    monkeypatch.setattr(module, "track", track)
    estimate_bias_field(Volume(head((40, 36))[0], np.eye(3)), options=FAST)
    assert 2 <= len(seen) <= 18
    assert set(seen) == {("Correcting the bias field", "iteration")}


def constant(shape=(24, 28)):
    """Return an image of two values, the brighter of which N4 looks at."""
    return np.where(np.random.default_rng(0).random(shape) > 0.5, 1000, 0)


@pytest.mark.parametrize(
    ("data", "mask"),
    [
        (constant(), None),
        (constant(), constant()),
        (1e6 + constant() / 1000, np.ones((24, 28))),  # float32 cannot part their logs
        (1e30 * (1 + 1e-7 * constant() / 1000), np.ones((24, 28))),
        (head((24, 28))[0], np.eye(24, 28, -1)[::-1] * (np.arange(28) == 3)),  # shrunk away
    ],
)
def test_equal_values_have_a_field_of_one_and_that_is_said(data, mask):
    volume = Volume(data, np.eye(3))
    given = None if mask is None else volume.with_data(mask)
    with pytest.warns(UserWarning, match="the field is taken as 1"):
        field = estimate_bias_field(volume, mask=given, options=FAST).data
    np.testing.assert_array_equal(field, 1)


# -- negative tissue ----------------------------------------------------------------------------


def standardised(image, brain):
    """Return a brain of mean 0 and standard deviation 1 on a background of 0."""
    return np.where(brain, (image - image[brain].mean()) / image[brain].std(), 0)


NEGATIVE = {
    "standardised brain": standardised,
    "standardised head": lambda image, brain: (image - image.mean()) / image.std(),
    "mean subtracted": lambda image, brain: image - image.mean(),
    "scaled to -1 and 1": lambda image, brain: 2 * image / image.max() - 1,
    "Hounsfield units": lambda image, brain: 2000 * image / image.max() - 1000,
    "air of -1000": lambda image, brain: np.where(image > 50, image / 10, -1000),
    "negative tissue on 0": lambda image, brain: np.where(brain, -image, 0),
    "a few bright voxels": lambda image, brain: np.where(image > np.sort(image.ravel())[-3],
                                                         1e6, np.where(brain, -image, 0)),
}  # fmt: skip


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", NEGATIVE)
def test_negative_tissue_is_refused_with_its_share(kind, given):
    image, _, brain = head((40, 44, 36))
    data = NEGATIVE[kind](image, brain).astype(np.float32)
    volume = Volume(data, np.eye(4))
    share = f"{100 * np.mean(data[data != 0] < 0):.1f}"
    mask = volume.with_data(data != 0) if given else None
    with pytest.raises(InputError, match=rf"{share}% .* negative, .*as the scanner made it.*befor"):
        estimate_bias_field(volume, mask=mask, options=FAST)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("size", [0.04])
@pytest.mark.parametrize("place", ["everywhere", "background", "edges"])
def test_ringing_about_zero_is_taken(place, size, given):
    image, _, brain = head((60, 50))
    below = size * np.ptp(image)
    if place == "everywhere":
        data = image + below * np.random.default_rng(1).choice([-1, 1], image.shape)
    elif place == "background":
        data = np.where(image < 30, -below, image)
    else:
        edges = gaussian_filter(brain.astype(float), 1)
        data = np.where((edges > 0.2) & ~brain, -below, image)
    volume = Volume(data.astype(np.float32), np.eye(3))
    mask = volume.with_data(data != 0) if given else None
    field = estimate_bias_field(volume, mask=mask, options=FAST).data
    assert np.isfinite(field).all()
    clean = estimate_bias_field(Volume(image, np.eye(3)), options=FAST).data
    assert given or np.abs(np.log(field / clean)[brain]).max() < 0.3


def test_what_lies_outside_the_mask_may_be_negative():
    image, _, brain = head((40, 36))
    padded = Volume(np.where(brain, image, -1000).astype(np.float32), np.eye(3))
    plain = Volume(image, np.eye(3))
    fields = [
        estimate_bias_field(v, mask=v.with_data(brain), options=FAST).data for v in (padded, plain)
    ]
    np.testing.assert_allclose(fields[0][brain], fields[1][brain], rtol=1e-5)


# -- what cannot be -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((20, 20)), "no voxel of the mask is positive"),
        (np.full((20, 20), 7.0), "all voxels are equal"),
        (-np.ones((20, 20)), "as the scanner made it"),
        (np.full((20, 20), np.nan), "NaN or infinite"),
        (np.ones((20, 1)), r"shape \(20, 1\) is too small"),
    ],
)
def test_images_without_a_field_are_refused(data, message):
    with pytest.raises(InputError, match=message):
        estimate_bias_field(Volume(data, np.eye(3)))


def test_masks_that_do_not_fit_are_refused():
    volume = Volume(head((40, 36))[0], np.eye(3))
    with pytest.raises(InputError, match=r"\(36, 40\) does not fit an image of \(40, 36\)"):
        estimate_bias_field(volume, mask=Volume(np.ones((36, 40)), np.eye(3)))
    with pytest.raises(InputError, match="no voxel of the mask is positive"):
        estimate_bias_field(volume, mask=volume.with_data(np.zeros((40, 36), bool)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shrink": 0}, "shrink 0"),
        ({"spline_spacing": 0.0}, "spline spacing 0"),
        ({"iterations": ()}, "iterations"),
        ({"iterations": (50, 0)}, "iterations"),
        ({"tolerance": -1.0}, "tolerance -1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        N4(**options)
