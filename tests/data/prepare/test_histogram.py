"""Histogram standardisation: against TorchIO on real volumes, and by hand."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.io.formats import read_volume
from segjax.data.prepare.histogram import (
    check_landmarks,
    landmark_percentiles,
    read_landmarks,
    standardize,
    train_landmarks,
    write_landmarks,
)
from segjax.errors import InputError
from segjax.volume import Volume
from tests.peers import Peer, torch, torchio

peer = Peer("torchio.transforms.preprocessing.intensity.histogram_standardization", "torchio")


def above_mean(tensor):
    return torchio.ZNormalization.mean(tensor)


WHERE = {"all": None, "above-mean": above_mean, "nonzero": lambda tensor: tensor != 0}


def image(seed, shape=(12, 11, 10), channels=1, scale=100.0):
    """Return noise with a background of zeros, of another scale for every seed and channel."""
    rng = np.random.default_rng(seed)
    data = rng.gamma(2 + seed % 3, scale * (1 + seed), (*shape, channels)).astype(np.float32)
    data *= 3.0 ** np.arange(channels)
    data[: shape[0] // 4] = 0
    return Volume(data, np.eye(len(shape) + 1))


def as_torchio(volume):
    data = np.ascontiguousarray(np.moveaxis(volume.channels_last.astype(np.float32), -1, 0))
    if volume.spatial_dims == 2:
        data = data[..., None]
    return torchio.ScalarImage(tensor=torch.from_numpy(data))


def saved(volumes, folder):
    """Write volumes for TorchIO, which trains on files."""
    paths = [folder / f"{i}.nii" for i in range(len(volumes))]
    for volume, path in zip(volumes, paths, strict=True):
        as_torchio(volume).save(path)
    return paths


def flairs(data_dir):
    patients = ("patient07", "patient19")
    return [read_volume(data_dir / "ms_lesions" / p / "flair.nii.gz") for p in patients]


def slices(data_dir):
    files = sorted((data_dir / "meningioma2d").rglob("*.png"))
    images = [file for file in files if "label" not in str(file.parent) + file.name]
    return [read_volume(file) for file in images[:40:10]]


# -- against TorchIO ----------------------------------------------------------------------------


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("find", [flairs, slices])
def test_real_images_as_torchio(data_dir, tmp_path, find, where):
    volumes = find(data_dir)
    expected = torchio.HistogramStandardization.train(
        saved(volumes, tmp_path), masking_function=WHERE[where], progress=False
    )
    landmarks = train_landmarks(volumes, where=where)
    np.testing.assert_allclose(landmarks[0], expected, atol=1e-5)
    transform = torchio.HistogramStandardization({"t1": expected}, masking_method=WHERE[where])
    wanted = transform(torchio.Subject(t1=as_torchio(volumes[0]))).t1.numpy()
    found = standardize(volumes[0].channels_last, landmarks, where=where)[..., 0]
    np.testing.assert_allclose(found, wanted.reshape(found.shape), atol=1e-5 * np.ptp(wanted))


@pytest.mark.peer("torchio")
def test_a_given_mask_as_torchio(tmp_path):
    volumes = [image(seed) for seed in range(3)]
    mask = np.random.default_rng(5).random((12, 11, 10)) > 0.4
    label = torchio.LabelMap(tensor=torch.from_numpy(mask[None].astype(np.uint8)))
    label.save(tmp_path / "mask.nii")
    expected = torchio.HistogramStandardization.train(
        saved(volumes, tmp_path), mask_path=tmp_path / "mask.nii", progress=False
    )
    landmarks = train_landmarks(volumes, where=mask)
    np.testing.assert_allclose(landmarks[0], expected, atol=1e-9)
    transform = torchio.HistogramStandardization({"t1": expected}, masking_method="brain")
    wanted = transform(torchio.Subject(t1=as_torchio(volumes[1]), brain=label)).t1.numpy()[0]
    found = standardize(volumes[1].data, landmarks, where=mask)[..., 0]
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.ptp(wanted))
    by_function = standardize(volumes[1].data, landmarks, where=lambda channel: mask)[..., 0]
    np.testing.assert_array_equal(by_function, found)


@pytest.mark.peer("torchio")
@settings(max_examples=30, deadline=None)
@given(st.floats(0, 0.09), st.floats(0.91, 1), st.integers(0, 100))
def test_every_cutoff_as_torchio(low, high, seed):
    volumes = [image(seed), image(seed + 1)]
    percentiles = peer._get_percentiles((100 * low, 100 * high))
    np.testing.assert_allclose(landmark_percentiles((low, high)), percentiles)
    rows = np.vstack([np.percentile(v.data, percentiles) for v in volumes])
    landmarks = train_landmarks(volumes, cutoff=(low, high))
    np.testing.assert_allclose(landmarks[0], peer._get_average_mapping(rows), atol=1e-6)
    tensor = torch.from_numpy(volumes[0].data)
    expected = peer._normalize(tensor, landmarks[0], None, cutoff=(low, high)).numpy()
    found = standardize(volumes[0].data, landmarks, cutoff=(low, high))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.ptp(expected))


@pytest.mark.peer("torchio")
def test_repeated_values_as_torchio():
    data = np.round(image(3).data / 400) * 400  # many percentiles are equal
    landmarks = train_landmarks([image(0), image(1)])
    expected = peer._normalize(torch.from_numpy(data), landmarks[0], None).numpy()
    np.testing.assert_allclose(standardize(data, landmarks), expected, atol=1e-5)


# -- by hand ------------------------------------------------------------------------------------


def test_landmarks_of_one_ramp_are_its_percentiles_on_the_scale():
    ramp = Volume(np.arange(101, dtype=np.int16).reshape(1, 101), np.eye(3))
    percentiles = np.array([1, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 99])
    np.testing.assert_allclose(train_landmarks([ramp])[0], (percentiles - 1) / 98 * 100)


def test_scale_and_offset_of_the_images_do_not_matter():
    first = image(0)
    others = [first.with_data(first.data * factor + 7) for factor in (1.0, 0.01, 250.0)]
    landmarks = train_landmarks([image(0), image(1)])
    results = [standardize(other.data, landmarks) for other in others]
    np.testing.assert_allclose(results[0], results[1], atol=2e-3)
    np.testing.assert_allclose(results[0], results[2], atol=2e-3)


def test_an_image_of_tiny_values_is_standardised_too():
    tiny = image(1).data * 1e-9
    landmarks = train_landmarks([image(0), image(1)])
    np.testing.assert_allclose(
        standardize(tiny, landmarks), standardize(image(1).data, landmarks), atol=1e-3
    )


@pytest.mark.parametrize("low", [1e6, -1e6, 1e30, 1e-40, 0.0])
def test_images_of_two_values_one_step_of_float32_apart_are_standardised(low):
    low = np.float32(low)
    data = np.where(np.arange(1000) % 2, low, np.nextafter(low, np.float32(np.inf)))
    ramp = Volume(data.astype(np.float32).reshape(10, 100), np.eye(3))
    landmarks = train_landmarks([ramp, ramp])
    found = standardize(ramp.channels_last, landmarks)
    np.testing.assert_allclose(found.ravel()[:2], [100, 0], atol=1e-3)


def test_ends_go_on_along_the_outermost_pieces():
    ramp = np.arange(101.0)[:, None]
    landmarks = train_landmarks([Volume(ramp[None], np.eye(3))])
    np.testing.assert_allclose(standardize(ramp, landmarks), (ramp - 1) / 98 * 100, atol=1e-4)


def test_channels_are_apart():
    both = [image(seed, channels=2) for seed in range(2)]
    landmarks = train_landmarks(both)
    assert landmarks.shape == (2, 13)
    for c in range(2):
        alone = [volume.with_data(volume.data[..., c]) for volume in both]
        np.testing.assert_array_equal(train_landmarks(alone)[0], landmarks[c])
        np.testing.assert_array_equal(
            standardize(both[0].data, landmarks)[..., c],
            standardize(alone[0].channels_last, landmarks[c : c + 1])[..., 0],
        )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 300))
def test_the_order_of_values_is_kept_and_nothing_is_nan(seed, levels):
    rng = np.random.default_rng(seed)
    data = rng.integers(0, levels + 1, (9, 30, 1)).astype(np.float32)
    if np.ptp(np.percentile(data, (1, 99))) == 0:
        return
    result = standardize(data, train_landmarks([image(seed, (9, 30)), image(seed + 1, (9, 30))]))
    assert np.isfinite(result).all()
    assert (np.diff(result.ravel()[np.argsort(data.ravel(), kind="stable")]) >= -1e-4).all()


def test_training_holds_one_image_at_a_time():
    def peak(count):
        tracemalloc.start()
        train_landmarks(image(seed, (40, 40, 40)) for seed in range(count))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(20) < 1.2 * peak(3)


# -- what cannot be -----------------------------------------------------------------------------


def test_constant_images_are_refused_by_number():
    flat = Volume(np.full((5, 5, 5), 3.0), np.eye(4))
    with pytest.raises(InputError, match=r"image 2, channel 0: .* the same value, 3, from perce"):
        train_landmarks([image(0), flat])
    with pytest.raises(InputError, match="there is no histogram to standardise"):
        standardize(flat.channels_last, np.arange(13.0)[None])


def test_empty_masks_are_refused():
    empty = np.zeros((12, 11, 10), bool)
    with pytest.raises(InputError, match="image 1, channel 0: no voxel is chosen"):
        train_landmarks([image(0)], where=empty)
    with pytest.raises(InputError, match="no voxel is chosen"):
        standardize(image(0).data, np.arange(13.0)[None], where=empty)


def test_masks_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"mask of shape \(3, 3\) does not fit"):
        train_landmarks([image(0)], where=np.ones((3, 3), bool))


def test_nan_is_refused():
    data = image(0).data.copy()
    data[5, 5, 5] = np.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        train_landmarks([Volume(data, np.eye(4))])


def test_no_images_and_other_channels_are_refused():
    with pytest.raises(InputError, match="no image to train"):
        train_landmarks([])
    with pytest.raises(InputError, match="image 2 has 2 channels, the first 1"):
        train_landmarks([image(0), image(1, channels=2)])
    with pytest.raises(InputError, match="landmarks of 2 channels do not fit an image of shape"):
        standardize(image(0).data, np.tile(np.arange(13.0), (2, 1)))


@pytest.mark.parametrize(
    "landmarks",
    [[], range(12), [range(12)], np.zeros(13), range(13, 0, -1), [np.nan] * 13, "abc", [[[1.0]]]],
)
def test_landmarks_that_do_not_ascend_are_refused(landmarks):
    with pytest.raises(InputError, match=r"landmarks .*(give 13|do not ascend)"):
        check_landmarks(landmarks)


@pytest.mark.parametrize("cutoff", [(0.1, 0.99), (-0.01, 0.99), (0.01, 0.9), (0.01, 1.1)])
def test_cutoffs_out_of_range_are_refused(cutoff):
    with pytest.raises(InputError, match="give quantiles 0 to"):
        landmark_percentiles(cutoff)


# -- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_files_round_trip(tmp_path, suffix):
    landmarks = train_landmarks([image(0, channels=2), image(1, channels=2)])
    path = tmp_path / f"landmarks{suffix}"
    write_landmarks(landmarks, path)
    np.testing.assert_array_equal(read_landmarks(path), landmarks)
    with pytest.raises(InputError, match="exists already"):
        write_landmarks(landmarks, path)
    write_landmarks(landmarks, path, overwrite=True)


@pytest.mark.peer("torchio")
def test_torchios_files_are_read(tmp_path):
    path = tmp_path / "landmarks.npy"
    expected = torchio.HistogramStandardization.train(
        saved([image(0), image(1)], tmp_path), output_path=path, progress=False
    )
    np.testing.assert_array_equal(read_landmarks(path), expected[None])


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="landmarks are written as"):
        write_landmarks(np.arange(13.0)[None], tmp_path / "landmarks.txt")
    with pytest.raises(InputError, match="no such file"):
        read_landmarks(tmp_path / "landmarks.npy")
    for name, content in {
        "a.json": json.dumps([1, 2]), "b.json": "no", "c.npy": "no", "d.npy": ""
    }.items():  # fmt: skip
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=r"[a-d]\.(json|npy): (holds no|is no file of) landm"):
            read_landmarks(tmp_path / name)
