import dataclasses
import functools
import math
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segjax.data.patches import sliding_window
from segjax.errors import InputError
from segjax.models import UNetPlusPlus
from segjax_onnx import Predictor
from segjax_onnx.predict import pieces
from segjax_onnx.predict.metadata import read_metadata
from segjax_onnx.predict.network import Network
from segjax_onnx.predict.pieces import Budget, plan
from segjax_onnx.write.convert import checked_bytes
from tests.segjax_onnx.write.test_convert import build, metadata_of, network

several = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def export(path, rank):
    model, variables = build("mpunet++", features=(2, 3, 3), spatial_dims=rank)
    metadata = metadata_of(model, patch_size=(8,) * rank, pipeline=[])
    path.write_bytes(checked_bytes(model, variables, metadata=metadata, opset=18))
    return path


@pytest.fixture(scope="module", params=[2, 3])
def model(request, tmp_path_factory):
    return export(tmp_path_factory.mktemp("models") / "model.onnx", request.param)


opened = functools.cache(functools.partial(Predictor, threads=1))


def in_one_piece(model, image):
    """What the graph says of a volume with zeros behind it, or of each of its slices."""
    metadata = read_metadata(model)
    rank = metadata.spatial_dims
    sizes = [max(8, -(-n // 4) * 4) for n in image.shape[:rank]]
    padded = np.zeros((*sizes, *image.shape[rank:]), np.float32)
    padded[tuple(map(slice, image.shape[:rank]))] = image
    session = opened(model)._networks[0].session
    slices = np.moveaxis(padded.reshape(*sizes, -1), -1, 0)[:, None]
    (found,) = session.run(None, {"image": np.ascontiguousarray(slices)})
    found = np.moveaxis(found[(..., *map(slice, image.shape[:rank]))], (0, 1), (-2, -1))
    return found if image.ndim > rank else found[..., 0, :]


def shapes(rank):
    return st.tuples(*[st.integers(1, 40 if rank == 2 else 26)] * rank)


@several
@given(data=st.data())
def test_parts_give_what_one_piece_gives_at_borders_and_corners_too(model, data):
    rank = read_metadata(model).spatial_dims
    shape = data.draw(shapes(rank))
    tile = data.draw(st.integers(64, 4000))
    image = np.random.default_rng(0).standard_normal(shape, np.float32)
    expected = in_one_piece(model, image)
    (one,) = opened(model)._networks
    for staged in (True, False):
        kept = one.metadata if staged else dataclasses.replace(one.metadata, stages=())
        memory = tile * pieces._WORK * kept.bytes_per_voxel + 8 * math.prod(shape)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pieces, "_TILE", tile)
            padded = [max(8, -(-n // 4) * 4) for n in shape]
            found = one.run_whole(image[..., None], plan(kept, padded, memory=memory))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_small_volumes_go_in_one_piece_and_large_ones_in_stages(model):
    metadata = read_metadata(model)
    rank = metadata.spatial_dims
    small = plan(metadata, (16,) * rank)
    large = plan(metadata, (4096, 4096) if rank == 2 else (192, 224, 192))
    assert small.calls == 1
    assert [len(tiles) > 1 for _, tiles in large.steps] == [True, False, False, False, True]


def test_memory_is_what_tiles_are_chosen_by(model):
    metadata = read_metadata(model)
    shape = (2048, 2048) if metadata.spatial_dims == 2 else (160, 160, 160)
    most = plan(metadata, shape).memory
    for share in (0.9, 0.7, 0.55):
        assert plan(metadata, shape, memory=share * most).memory <= share * most


def test_one_piece_needs_what_its_arrays_take(model):
    # features of 2 channels in full resolution are three nodes' outputs, one upsampled, one made
    metadata = read_metadata(model)
    assert 4 * 8 < metadata.bytes_per_voxel < 4 * 40


def test_slices_of_a_volume_go_in_batches(tmp_path):
    model = export(tmp_path / "flat.onnx", 2)
    volume = np.random.default_rng(0).standard_normal((9, 12, 5)).astype(np.float32)
    expected = in_one_piece(model, volume)
    for size in (1, 2, 5):
        found = Predictor(model, batch_size=size)._predict_patches(
            volume[..., None], Predictor(model)._networks
        )
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_mirrored_copies_are_of_the_whole_volume(model):
    rank = read_metadata(model).spatial_dims
    image = np.random.default_rng(0).standard_normal((11,) * rank).astype(np.float32)
    predictor = Predictor(model, mirror_axes=[1])
    found = predictor._predict_patches(image[..., None], predictor._networks)
    mirrored = np.flip(in_one_piece(model, np.flip(image, 1)), 1)
    np.testing.assert_allclose(found, (in_one_piece(model, image) + mirrored) / 2, atol=1e-6)


def test_a_window_that_is_asked_for_slides(model):
    rank = read_metadata(model).spatial_dims
    image = np.random.default_rng(0).standard_normal((20,) * rank).astype(np.float32)
    whole, sliding = Predictor(model), Predictor(model, overlap=0.25)
    one, two = (p._predict_patches(image[..., None], p._networks) for p in (whole, sliding))
    assert np.abs(one - two).max() > 0


def test_too_little_memory_is_said_with_what_it_takes(model):
    rank = read_metadata(model).spatial_dims
    predictor = Predictor(model, memory=0.001)
    with pytest.raises(InputError, match=r"memory 0.001 GB: not enough for this image, which") as e:
        predictor.predict(np.zeros((40,) * rank, np.float32))
    needed = float(re.search(r"about ([\d.]+) GB", str(e.value))[1])
    assert needed > 0.01


@pytest.mark.parametrize("memory", [0, -1.0, float("nan")])
def test_memory_is_over_zero(memory):
    with pytest.raises(InputError, match="give gigabytes, a number over 0"):
        Budget(memory)


def test_networks_of_instance_norms_slide_as_before(tmp_path):
    net, variables = network("unet3d")
    metadata = metadata_of(net, patch_size=(8,) * 3, pipeline=[])
    path = tmp_path / "unet.onnx"
    path.write_bytes(checked_bytes(net, variables, metadata=metadata, opset=18))
    assert Predictor(path)._window is not None
    assert not read_metadata(path).stages


def test_windows_of_air_are_run_once_and_change_nothing(tmp_path, monkeypatch):
    net, variables = network("unet3d")
    metadata = metadata_of(net, patch_size=(8,) * 3, pipeline=[])
    path = tmp_path / "unet.onnx"
    path.write_bytes(checked_bytes(net, variables, metadata=metadata, opset=18))
    image = np.zeros((24, 8, 8), np.float32)
    image[16:] = np.random.default_rng(0).random((8, 8, 8))
    expected = sliding_window(
        image[..., None], Predictor(path)._networks[0].run, patch_size=(8,) * 3, overlap=0.5
    )
    runs, run = [], Network.run
    monkeypatch.setattr(Network, "run", lambda self, x: (runs.append(x), run(self, x))[1])
    np.testing.assert_array_equal(Predictor(path).probabilities(image).data, expected)
    assert len(runs) == 3  # of five windows three are of zeros


def test_a_network_of_one_level_is_cut_into_tiles(tmp_path):
    assert UNetPlusPlus(features=(2, 3)).size_multiple == 2
    net, variables = network("mpunet++")
    metadata = metadata_of(net, patch_size=(2,) * 3, pipeline=[])
    path = tmp_path / "one.onnx"
    path.write_bytes(checked_bytes(net, variables, metadata=metadata, opset=18))
    found = plan(dataclasses.replace(read_metadata(path), stages=()), (64, 64, 64), memory=5e6)
    assert found.calls > 1
    assert found.memory <= 5e6
