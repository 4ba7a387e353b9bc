"""Intensities: against MONAI, TorchIO and calculation by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import minimize_scalar
from scipy.stats import gaussian_kde, iqr, norm

from segjax.data.io.formats import read_volume
from segjax.data.prepare.intensity import (
    choose,
    clip_percentiles,
    min_max,
    rescale,
    robust_z_score,
    tissue_peak,
    z_score,
)
from segjax.errors import InputError
from tests.peers import intensity_normalization, monai, torch, torchio


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


# -- median and quartiles ------------------------------------------------------------------------


@pytest.mark.parametrize("where", WHERE)
def test_median_and_quartiles_as_scipy(where):
    data = brain(channels=1)
    chosen = {"all": data, "above-mean": data[data > data.mean()], "nonzero": data[data != 0]}
    of = chosen[where].astype(float)
    expected = (data - np.median(of)) / iqr(of, scale="normal")
    np.testing.assert_allclose(robust_z_score(data, where=where), expected, rtol=1e-5, atol=1e-5)


def test_of_a_normal_distribution_it_is_the_z_score():
    values = norm(50, 7).ppf((np.arange(10_000) + 0.5) / 10_000)[:, None]
    np.testing.assert_allclose(robust_z_score(values), z_score(values), atol=2e-3)


def test_a_third_of_lesions_shifts_the_median_less_than_the_mean():
    rng = np.random.default_rng(0)
    tissue, lesions = rng.normal(100, 10, (9000, 1)), rng.normal(220, 10, (3000, 1))
    both = np.concatenate([tissue, lesions])
    assert abs(robust_z_score(both)[:9000].mean()) < abs(z_score(both)[:9000].mean())


def test_equal_quartiles_shift_and_do_not_scale():
    data = column(0, 5, 5, 5, 5, 9)
    np.testing.assert_array_equal(robust_z_score(data, where="nonzero"), data - 5)
    np.testing.assert_array_equal(tissue_peak(data, where="nonzero"), data - 5)
    np.testing.assert_array_equal(robust_z_score(np.full((3, 1), 4.0)), np.zeros((3, 1)))


# -- peaks ----------------------------------------------------------------------------------------


def two_tissues(first=(60, 8), second=(130, 12), share=0.4, count=60_000):
    """Return the quantiles of a mixture of two normal distributions, which no chance moves."""
    lower = norm(*first).ppf((np.arange(int(share * count)) + 0.5) / int(share * count))
    upper = norm(*second).ppf((np.arange(int((1 - share) * count)) + 0.5) / (count * (1 - share)))
    return np.concatenate([lower, upper])[:, None]


@pytest.mark.parametrize(
    ("peak", "mode", "deviation"), [("largest", 60, 8), ("first", 60, 8), ("last", 130, 12)]
)
def test_peaks_of_two_tissues_have_their_places_and_widths(peak, mode, deviation):
    data = two_tissues(share=0.6)
    scaled = tissue_peak(data, peak=peak)
    slope, shift = np.polyfit(data.ravel(), scaled.ravel(), 1)
    assert -shift / slope == pytest.approx(mode, abs=1)
    assert 1 / slope == pytest.approx(deviation, rel=0.1)


def test_halves_of_a_peak_have_their_own_widths():
    half = norm(0, 1).ppf(0.5 + (np.arange(20_000) + 0.5) / 40_000)
    data = 100 + np.concatenate([-12 * half, -12 * half, 6 * half])[:, None]  # of one density
    deviations = {}
    for side in ("lower", "both", "upper"):
        slope, shift = np.polyfit(data.ravel(), tissue_peak(data, side=side).ravel(), 1)
        assert -shift / slope == pytest.approx(100, abs=1.5)
        deviations[side] = 1 / slope
    assert deviations == pytest.approx({"lower": 12, "both": 9, "upper": 6}, rel=0.15)


def test_mode_is_that_of_a_kernel_density():
    data = np.random.default_rng(0).gamma(6, 10, (4000, 1))
    spread = iqr(data, scale="normal")
    density = gaussian_kde(data.ravel(), bw_method=0.15 * spread / data.std(ddof=1))
    mode = minimize_scalar(lambda x: -density(x)[0], bounds=(20, 80), method="bounded").x
    scaled = tissue_peak(data)
    slope, shift = np.polyfit(data.ravel(), scaled.ravel(), 1)
    assert -shift / slope == pytest.approx(mode, abs=spread / 50)


def test_of_equal_peaks_the_first_counts():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        around = np.round(rng.normal(0, 1, rng.integers(20, 400)), 2)
        around = np.concatenate([around, -around])
        apart = round(rng.uniform(6, 40), 2)
        data = np.concatenate([around, around + apart])[:, None]
        slope, shift = np.polyfit(data.ravel(), tissue_peak(data, where="all").ravel(), 1)
        assert -shift / slope == pytest.approx(0, abs=apart / 4)


def test_far_values_move_neither_place_nor_width():
    data = two_tissues(share=0.6)
    with_far = np.concatenate([data, np.full((600, 1), 1e4)])
    np.testing.assert_allclose(tissue_peak(with_far)[:-600], tissue_peak(data), atol=0.1)


def test_values_of_eight_bits_are_no_peaks_of_their_own():
    fine = np.random.default_rng(0).normal(20, 2, (20_000, 1))
    result, expected = tissue_peak(np.rint(fine)), tissue_peak(fine)
    assert result.mean() == pytest.approx(expected.mean(), abs=0.3)
    assert result.std() == pytest.approx(expected.std(), rel=0.15)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 100), st.floats(-1000, 1000), st.sampled_from(["largest", "first", "last"]))
def test_units_of_the_image_do_not_matter(factor, shift, peak):
    data = two_tissues(count=2000)
    for normalised in (robust_z_score, lambda data: tissue_peak(data, peak=peak)):
        result = normalised(data * factor + shift)
        np.testing.assert_allclose(result, normalised(data), atol=0.05)


def test_what_is_not_finite_is_not_hidden():
    data = two_tissues(count=1000)
    data[0] = np.inf
    assert np.isfinite(tissue_peak(data)[1:]).all()
    data[0] = np.nan
    assert np.isnan(tissue_peak(data)).all()
    assert np.isnan(robust_z_score(data)).all()


def test_unknown_peaks_are_refused():
    with pytest.raises((InputError, TypeError), match=r"peak 'middle': give|middle"):
        tissue_peak(brain(), peak="middle")
    with pytest.raises((InputError, TypeError), match=r"side 'left': give|left"):
        tissue_peak(brain(), side="left")


@pytest.mark.peer("intensity_normalization")
@pytest.mark.parametrize(
    ("name", "peak"), [("flair", "largest"), ("t2", "largest"), ("t1", "last")]
)
@pytest.mark.parametrize("patient", ["patient07", "patient19"])
def test_mode_is_that_of_intensity_normalization(patient, name, peak, data_dir):
    data = read_volume(data_dir / "ms_lesions" / patient / f"{name}.nii.gz").data
    tissue = data[data > 0]
    expected = intensity_normalization.histogram.tissue_mode(tissue, peak=peak)
    scaled = tissue_peak(data[..., None], peak=peak, where=data > 0)[..., 0]
    slope, shift = np.polyfit(tissue[:1000].astype(float), scaled[data > 0][:1000], 1)
    step = float(np.ptp(tissue)) / 79  # of its grid
    assert -shift / slope == pytest.approx(expected, abs=step)


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
        *(robust_z_score(data, where=where) for where in ("all", "above-mean", "nonzero")),
        *(tissue_peak(data, peak=peak) for peak in ("largest", "first", "last")),
        *(tissue_peak(data, side=side) for side in ("lower", "upper")),
        min_max(data),
        rescale(data, -1, 1),
        clip_percentiles(data, 1, 99),
    ):
        assert result.dtype == np.float32
        assert result.shape == data.shape
        assert np.isfinite(result).all()
    np.testing.assert_array_equal(data, before)
