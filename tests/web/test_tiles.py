import dataclasses
import json
import math

import numpy as np
import pytest

from segjax.data.patches import gaussian_window, grid_corners
from segjax.data.tiles import padded_shape, plan_tiles
from segjax_onnx.predict import pieces
from segjax_onnx.predict.metadata import ModelMetadata
from segjax_onnx.predict.stages import Stage

BASE = ModelMetadata(
    "mpunet++", ("background", "lesion"), "softmax", 3, 1, (16, 16, 16), 0.5, 1, 8, [], "0.1.0",
    local=True, halo=(46, 46, 46), bytes_per_voxel=220.0,
    stages=(
        Stage({"image": 1}, {"fine": 2}, (2, 2, 2), 2, 48.0, 3.0),
        Stage({"fine": 2}, {"coarse": 4}, (4, 4, 4), 4, 7.0, 0.5),
        Stage({"image": 1, "fine": 2, "coarse": 4}, {"probabilities": 1}, (8, 8, 8), 2, 220.0, 8.0),
    ),
)  # fmt: skip


def ranges(slices):
    return [{"start": one.start, "stop": one.stop} for one in slices]


def plain(tiles):
    return [{"read": ranges(tile.read), "write": ranges(tile.write)} for tile in tiles]


def sent(metadata):
    return json.loads(metadata.to_json())


@pytest.mark.parametrize("seed", range(25))
def test_tiles_are_those_of_python(page_modules, seed):
    rng = np.random.default_rng(seed)
    multiple, rank = int(rng.choice([1, 2, 8])), int(rng.choice([2, 3]))
    shape = [int(n) * multiple for n in rng.integers(1, 30, rank)]
    halo = [int(n) for n in rng.integers(0, 20, rank)]
    most = int(rng.integers(1, math.prod(shape) + 10))
    found = page_modules.call("predict/tiles.planTiles", shape, halo, multiple, most)
    assert found == plain(plan_tiles(shape, halo=halo, multiple=multiple, most=most))


def test_padded_shapes_are_those_of_python(page_modules):
    for shape, multiple, least in [((5, 8), 4, (12, 4)), ((7, 1, 33), 8, (16, 16, 16))]:
        found = page_modules.call("predict/tiles.paddedShape", shape, multiple, least)
        assert tuple(found) == padded_shape(shape, multiple, least)


@pytest.mark.parametrize("shape", [(48, 48, 48), (104, 128, 104), (184, 224, 184)])
@pytest.mark.parametrize("memory", [1e6, 1.2e8, 3e8, 1e9, 1e10])
@pytest.mark.parametrize("staged", [True, False])
def test_plans_are_those_of_python(page_modules, shape, memory, staged):
    metadata = BASE if staged else dataclasses.replace(BASE, stages=())
    expected = pieces.plan(metadata, shape, memory=memory)
    found = page_modules.call("predict/pieces.plan", sent(metadata), shape, memory)
    assert [one["tiles"] for one in found["steps"]] == [plain(tiles) for _, tiles in expected.steps]
    assert found["memory"] == pytest.approx(expected.memory)


@pytest.mark.parametrize("shape", [(20, 8, 5), (33, 64, 16), (16, 16, 16), (7, 40, 1)])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("rank", [2, 3])
def test_windows_begin_where_those_of_python_do(page_modules, shape, overlap, rank):
    metadata = dataclasses.replace(
        BASE, spatial_dims=rank, patch_size=(16,) * rank, overlap=overlap, halo=None, stages=()
    )
    found = page_modules.call("predict/windows.windowsOf", sent(metadata), shape)
    corners = grid_corners(shape, metadata.patch_size + (1,) * (3 - rank), overlap)
    expected = [sorted({corner[axis] for corner in corners}) for axis in range(3)]
    assert found["starts"] == expected


def test_weights_are_those_of_python(page_modules):
    window = {"function": "gaussian", "sigma": 0.2, "floor": 0.01}
    found = page_modules.call("predict/windows.weightsOf", window, (7, 16, 1))
    expected = gaussian_window((7, 16, 1), sigma=0.2, floor=0.01)
    np.testing.assert_allclose(found.reshape(7, 16, 1), expected, rtol=1e-6)


MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605 Safari/605"


@pytest.mark.parametrize(
    ("device", "most"),
    [
        ({"deviceMemory": 8, "userAgent": "Windows"}, 4e9),
        ({"deviceMemory": 32, "userAgent": "Windows"}, 2**32),
        ({"deviceMemory": 0.5, "userAgent": "Linux"}, 0.25e9),
        ({"deviceMemory": 8, "userAgent": "Linux; Android 15"}, 0.8e9),
        ({"userAgent": MAC, "maxTouchPoints": 0}, 2.5e9),
        ({"userAgent": MAC, "maxTouchPoints": 5}, 0.8e9),
        ({"userAgent": "iPhone"}, 0.8e9),
    ],
)
def test_a_tab_may_have_half_of_the_memory_and_a_phone_less(page_modules, device, most):
    assert page_modules.call("predict/memory.tabMemory", device) == most


@pytest.mark.parametrize(
    "text",
    [
        "std::bad_alloc",
        "failed to allocate a buffer of size 5",
        "Array buffer allocation failed",
        "Aborted(OOM). Build with -sASSERTIONS for more info.",
        "WebAssembly.Memory(): could not allocate memory",
        "Invalid typed array length: 99",
    ],
)
def test_errors_of_memory_are_known(page_modules, text):
    assert page_modules.call("predict/memory.isMemoryError", text)


def test_other_errors_are_none_of_memory(page_modules):
    assert not page_modules.call("predict/memory.isMemoryError", "protobuf parsing failed, room 1")
