"""Intensities: against MONAI, TorchIO and calculation by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from segjax.data.io.formats import read_volume
from segjax.data.prepare.intensity import choose, clip_percentiles, min_max, rescale, z_score
from segjax.errors import InputError
from tests.peers import monai, torch, torchio


def above_mean(tensor):
    return torchio.ZNormalization.mean(tensor)


WHERE = {"all": None, "above-mean": above_mean, "nonzero": lambda tensor: tensor != 0}


def brain(seed=0, channels=2):
    """Return noise of another scale in each channel, with a background of zeros."""
    rng = np.random.default_rng(seed)
    data = rng.gamma(3, 20, (9, 8, 7, channels)) * 10.0 ** np.arange(channels)
    data[:3] = 0
    return data.astype(np.float32)


def column(*values):
    return np.array(values, np.float32)[:, None]


images = arrays.arrays(
    st.sampled_from([np.float32, np.int16, np.uint8]),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 2)),
    elements={"min_value": 0, "max_value": 200},
)


# -- z-score ------------------------------------------------------------------------------------


def test_all_voxels_by_hand():
    np.testing.assert_allclose(z_score(column(1, 3, 5, 7)), column(-3, -1, 1, 3) / np.sqrt(5))


def test_nonzero_voxels_by_hand():
    np.testing.assert_allclose(
        z_score(column(0, 0, 2, 6), where="nonzero"), column(-2, -2, -1, 1)
    )  # mean 4, deviation 2


def test_voxels_above_the_mean_by_hand():
    np.testing.assert_allclose(
        z_score(column(0, 0, 0, 4, 6), where="above-mean"), column(-5, -5, -5, -1, 1)
    )  # mean of all 2; of 4 and 6: 5, deviation 1


@pytest.mark.peer("monai")
def test_all_voxels_as_monai():
    data = brain()
    peer = monai.transforms.NormalizeIntensity(channel_wise=True)
    expected = np.moveaxis(np.asarray(peer(np.moveaxis(data, -1, 0))), 0, -1)
    np.testing.assert_allclose(z_score(data), expected, atol=1e-5)


@pytest.mark.peer("monai")
def test_nonzero_voxels_as_monai_within_the_tissue():
    data = brain()
    peer = monai.transforms.NormalizeIntensity(nonzero=True, channel_wise=True)
    expected = np.moveaxis(np.asarray(peer(np.moveaxis(data, -1, 0))), 0, -1)
    inside = data != 0
    np.testing.assert_allclose(z_score(data, where="nonzero")[inside], expected[inside], atol=1e-5)


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("where", WHERE)
def test_every_choice_as_torchio(where):
    data = brain(channels=1)
    image = torchio.ScalarImage(tensor=torch.from_numpy(np.moveaxis(data, -1, 0)))
    expected = np.moveaxis(
        torchio.ZNormalization(masking_method=WHERE[where])(image).numpy(), 0, -1
    )
    inside = data[data > data.mean()] if where == "above-mean" else data[data != 0]
    count = data.size if where == "all" else inside.size
    unbiased = np.sqrt((count - 1) / count)  # TorchIO divides by n - 1
    np.testing.assert_allclose(z_score(data, where=where) * unbiased, expected, atol=1e-5)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("value", [0.0, 0.1, -3.0, 1e-30, 1e30])
def test_constant_channels_become_zero(where, value):
    data = np.full((5, 6, 7, 1), value, np.float32)
    np.testing.assert_array_equal(z_score(data, where=where), np.zeros_like(data))


def test_tissue_of_one_value_is_shifted_not_scaled():
    np.testing.assert_array_equal(z_score(column(0, 5, 5), where="nonzero"), column(-5, 0, 0))


def test_a_constant_channel_beside_another_does_not_matter():
    data = brain()
    data[..., 1] = 4
    np.testing.assert_array_equal(z_score(data)[..., 0], z_score(data[..., :1])[..., 0])
    assert (z_score(data)[..., 1] == 0).all()


def test_large_offsets_lose_no_precision():
    data = column(1, 3, 5, 7) + 2**20
    np.testing.assert_allclose(z_score(data), column(-3, -1, 1, 3) / np.sqrt(5), rtol=1e-6)


def test_unknown_words_are_refused():
    with pytest.raises((InputError, TypeError), match="brain"):
        z_score(brain(), where="brain")


# -- masks --------------------------------------------------------------------------------------


def test_a_mask_or_a_function_chooses_voxels():
    data = brain(channels=1)
    mask = np.random.default_rng(1).random(data.shape[:-1]) > 0.5
    chosen = data[mask]
    expected = (data - chosen.mean(dtype=float)) / chosen.std(dtype=float)
    np.testing.assert_allclose(z_score(data, where=mask), expected, atol=1e-5)
    np.testing.assert_array_equal(
        z_score(data, where=lambda channel: mask), z_score(data, where=mask)
    )
    np.testing.assert_array_equal(choose(data[..., 0], mask), chosen[:, 0])


@pytest.mark.peer("torchio")
def test_a_mask_as_torchio():
    data = brain(channels=1)
    mask = data[..., 0] > 50
    subject = torchio.Subject(
        t1=torchio.ScalarImage(tensor=torch.from_numpy(np.moveaxis(data, -1, 0))),
        brain=torchio.LabelMap(tensor=torch.from_numpy(mask[None].astype(np.uint8))),
    )
    peer = torchio.ZNormalization(masking_method="brain")(subject).t1.numpy()[0]
    unbiased = np.sqrt((mask.sum() - 1) / mask.sum())
    np.testing.assert_allclose(z_score(data, where=mask)[..., 0] * unbiased, peer, atol=1e-5)


def test_words_choose_voxels_by_hand():
    channel = np.array([0.0, 0.0, -2.0, 10.0])
    assert choose(channel).tolist() == [0, 0, -2, 10]
    assert choose(channel, "nonzero").tolist() == [-2, 10]
    assert choose(channel, "above-mean").tolist() == [10]
    assert choose(np.zeros(3), "nonzero").size == 0


def test_masks_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"mask of shape \(2, 2\) does not fit"):
        z_score(brain(), where=np.ones((2, 2), bool))


# -- real images --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(data_dir):
    flair = read_volume(data_dir / "ms_lesions" / "patient19" / "flair.nii.gz")
    return np.ascontiguousarray(flair.channels_last)


def close(result, peer):
    expected = np.moveaxis(peer, 0, -1)
    np.testing.assert_allclose(result, expected, atol=1e-5 * np.ptp(expected))


def as_torchio(data):
    return torchio.ScalarImage(tensor=torch.from_numpy(np.moveaxis(data, -1, 0).copy()))


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("where", WHERE)
def test_z_score_of_a_real_image_as_torchio(real, where):
    peer = torchio.ZNormalization(masking_method=WHERE[where])(as_torchio(real))
    close(z_score(real, where=where), peer.numpy())


@pytest.mark.peer("torchio")
def test_ranges_of_a_real_image_as_torchio(real):
    close(rescale(real, -1, 1), torchio.RescaleIntensity((-1, 1))(as_torchio(real)).numpy())
    close(min_max(real), torchio.RescaleIntensity((0, 1))(as_torchio(real)).numpy())
    low, high = np.percentile(real, (1, 99.5))
    clamped = torchio.Clamp(float(low), float(high))(as_torchio(real))
    close(clip_percentiles(real, 1, 99.5), clamped.numpy())
    both = torchio.RescaleIntensity((-1, 1), percentiles=(1, 99.5))(as_torchio(real))
    close(rescale(clip_percentiles(real, 1, 99.5), -1, 1), both.numpy())


# -- ranges -------------------------------------------------------------------------------------


@pytest.mark.peer("monai")
def test_min_max_as_monai():
    data = brain()
    peer = monai.transforms.ScaleIntensity(0.0, 1.0, channel_wise=True)
    expected = np.moveaxis(np.asarray(peer(np.moveaxis(data, -1, 0))), 0, -1)
    np.testing.assert_allclose(min_max(data), expected, atol=1e-6)


@pytest.mark.peer("torchio")
def test_rescale_as_torchio():
    data = brain(channels=1)
    image = torchio.ScalarImage(tensor=torch.from_numpy(np.moveaxis(data, -1, 0)))
    expected = np.moveaxis(torchio.RescaleIntensity((-1, 1))(image).numpy(), 0, -1)
    np.testing.assert_allclose(rescale(data, -1.0, 1.0), expected, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(images, st.floats(-10, 10), st.floats(0.01, 20))
def test_rescaling_reaches_both_ends_and_keeps_the_order(data, low, width):
    result = rescale(data, low, low + width)
    assert result.dtype == np.float32
    for c in range(data.shape[-1]):
        channel, scaled = data[..., c].ravel(), result[..., c].ravel()
        if channel.max() - channel.min() > 1e-6 * channel.max():
            assert scaled.min() == pytest.approx(low, abs=1e-5)
            assert scaled.max() == pytest.approx(low + width, abs=1e-5)
            assert (np.diff(scaled[np.argsort(channel)]) >= 0).all()
        else:
            assert (scaled == 0).all()


def test_ranges_beyond_float32_do_not_overflow():
    data = column(-3e38, 0, 3e38)
    np.testing.assert_allclose(rescale(data, -1, 1), column(-1, 0, 1), atol=1e-6)
    assert np.isfinite(z_score(data)).all()


def test_integers_do_not_wrap():
    data = np.array([[-32768], [32767]], np.int16)
    np.testing.assert_array_equal(min_max(data), column(0, 1))
    np.testing.assert_array_equal(min_max(np.array([[0], [255]], np.uint8)), column(0, 1))


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (np.nan, 1.0), (0.0, np.inf)])
def test_ranges_need_two_numbers_in_order(low, high):
    with pytest.raises(InputError, match="give two finite numbers"):
        rescale(brain(), low, high)


# -- percentiles --------------------------------------------------------------------------------


@pytest.mark.peer("monai")
def test_percentiles_as_monai():
    data = brain(channels=1)
    peer = monai.transforms.ClipIntensityPercentiles(5, 95)
    expected = np.moveaxis(np.asarray(peer(np.moveaxis(data, -1, 0))), 0, -1)
    np.testing.assert_allclose(clip_percentiles(data, 5.0, 95.0), expected, rtol=1e-5)


def test_percentiles_by_hand_and_by_channel():
    data = np.stack([np.arange(11.0), np.arange(11.0)[::-1] * 10], axis=-1)
    result = clip_percentiles(data, 10, 90)
    np.testing.assert_array_equal(result[:, 0], [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9])
    np.testing.assert_array_equal(result[::-1, 1], result[:, 0] * 10)


def test_all_percentiles_change_nothing():
    np.testing.assert_array_equal(clip_percentiles(brain(), 0, 100), brain())


@pytest.mark.parametrize(("low", "high"), [(-1.0, 50.0), (50.0, 101.0), (60.0, 40.0), (5.0, 5.0)])
def test_percentiles_are_between_0_and_100(low, high):
    with pytest.raises(InputError, match="give 0 <= low < high <= 100"):
        clip_percentiles(brain(), low, high)


@settings(max_examples=100, deadline=None)
@given(images)
def test_nothing_is_ever_nan_nor_changes_its_input(data):
    before = data.copy()
    for result in (
        *(z_score(data, where=where) for where in ("all", "above-mean", "nonzero")),
        min_max(data),
        rescale(data, -1, 1),
        clip_percentiles(data, 1, 99),
    ):
        assert result.dtype == np.float32
        assert result.shape == data.shape
        assert np.isfinite(result).all()
    np.testing.assert_array_equal(data, before)
