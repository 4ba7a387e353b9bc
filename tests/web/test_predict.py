import json

import numpy as np
import onnx
import pytest

from segjax.volume import Volume
from segjax_onnx import Predictor
from segjax_onnx.predict.digest import KEY as DIGEST
from segjax_onnx.predict.digest import sealed
from segjax_onnx.predict.metadata import KEY, ModelMetadata
from segjax_onnx.write.convert import checked_bytes
from segjax_onnx.write.variants import put_inside
from tests.segjax_onnx.write.test_convert import build, metadata_of
from tests.web.node import WEB, PageProblem

DIST = WEB / "node_modules" / "onnxruntime-web" / "dist"
MACHINE = {
    "build": {
        "ort": (DIST / "ort.wasm.min.mjs").as_uri(),
        "mjs": (DIST / "ort-wasm-simd-threaded.mjs").as_uri(),
        "wasm": str(DIST / "ort-wasm-simd-threaded.wasm"),
    },
    "processor": "cpu",
    "threads": 1,
}
PIPELINE = [
    {"step": "reorient"},
    {"step": "resample", "spacing": [1.5, 1.5, 1.5]},
    {"step": "z-score", "where": "nonzero"},
]
AFFINE = np.array([[-1.2, 0.1, 0, 30], [0.1, 1.1, 0.2, -9], [0, -0.2, 2.0, 4], [0, 0, 0, 1.0]])


def export(name, patch, pipeline=PIPELINE, *, changes=None, **options):
    model, variables = build(name, **options)
    metadata = metadata_of(model, patch_size=patch, pipeline=pipeline, **(changes or {}))
    return checked_bytes(model, variables, metadata=metadata, opset=18)


@pytest.fixture(scope="module")
def local():
    return export("mpunet++", (16, 16, 16), features=(2, 3, 3))


@pytest.fixture(scope="module")
def local_in_slices():
    return export("mpunet++", (16, 16), features=(2, 3, 3), spatial_dims=2)


@pytest.fixture(scope="module")
def windowed():
    return export("unet3d", (16, 16, 16), channels=(4, 6), strides=(2,), out_channels=3)


def changed(model, **fields):
    """Give a file other metadata."""
    proto = onnx.load_from_string(model)
    props = {prop.key: prop.value for prop in proto.metadata_props if prop.key != DIGEST}
    told = json.loads(props[KEY]) | fields
    props[KEY] = ModelMetadata.from_json(json.dumps(told)).to_json()
    onnx.helper.set_model_props(proto, props)
    return sealed(proto.SerializeToString())


def image(shape=(22, 31, 17), seed=0):
    return np.random.default_rng(seed).gamma(2, 50, shape).astype(np.float32)


def job(model, *channels, affine=AFFINE, **more):
    volumes = [
        None
        if one is None
        else {"data": one.ravel(), "shape": one.shape, "affine": affine.tolist()}
        for one in channels
    ]
    return {
        "model": model, "modelName": "net.onnx", "channels": volumes, "imageName": "scan.nii",
        "backend": "wasm", "memory": 4e9,
    } | more  # fmt: skip


def segment(page_modules, model, *channels, **more):
    return page_modules.call("predict/segment.segmentWith", job(model, *channels, **more), MACHINE)


def at_median(model, tmp_path, volume, missing=()):
    """Put the threshold of the last label where half of the voxels are near it, or over."""
    (tmp_path / "net.onnx").write_bytes(model)
    predictor = Predictor(tmp_path / "net.onnx", threads=1)
    predictor.missing = missing
    p = predictor.probabilities(volume).data
    threshold = float(np.median(p[..., -1]))
    rules = [{}] * (p.shape[-1] - 2) + [{"threshold": threshold}]
    return changed(model, postprocessing=rules), p, threshold


def check_like_python(page_modules, model, tmp_path, *channels, missing=(), **more):
    there = [one for one in channels if one is not None]
    volume = Volume(np.stack(there, axis=-1) if len(there) > 1 else there[0], AFFINE)
    model, p, threshold = at_median(model, tmp_path, volume, missing)
    found = segment(page_modules, model, *channels, **more)
    assert list(found["mask"]["shape"]) == list(channels[0].shape)
    mask = found["mask"]["data"].reshape(channels[0].shape) == p.shape[-1] - 1
    expected = p[..., -1] >= np.float32(threshold)
    near = np.abs(p[..., -1] - threshold) < 2e-6
    assert 0.2 < expected.mean() < 0.8
    assert near.mean() < 0.2
    np.testing.assert_array_equal(mask[~near], expected[~near])
    return found


def test_a_local_network_gives_the_mask_of_python(page_modules, local, tmp_path):
    found = check_like_python(page_modules, local, tmp_path, image())
    assert (found["backend"], found["threads"]) == ("wasm", 1)
    assert found["memory"] >= 2**24
    np.testing.assert_allclose(found["mask"]["affine"], AFFINE)


@pytest.mark.parametrize("memory", [104e6, 110e6, 125e6])
def test_tiles_in_little_memory_give_the_same(page_modules, local, tmp_path, memory):
    pipeline = [{"step": "z-score"}]
    model = changed(local, pipeline=pipeline, bytes_per_voxel=900.0)
    check_like_python(page_modules, model, tmp_path, image((40, 33, 29)), memory=memory)


def test_less_memory_than_the_smallest_tiles_need_is_refused(page_modules, local):
    with pytest.raises(PageProblem) as caught:
        segment(page_modules, local, image((40, 33, 29)), memory=100.2e6)
    assert caught.value.key == "memoryShort"
    assert caught.value.values["image"] == "scan.nii"


def test_a_local_network_of_pictures_sees_slices_along_the_third_axis(
    page_modules, local_in_slices, tmp_path
):
    check_like_python(page_modules, local_in_slices, tmp_path, image())


@pytest.mark.parametrize("overlap", [0.25, 0.5])
@pytest.mark.parametrize("shape", [(22, 31, 17), (9, 12, 8), (40, 9, 20)])
def test_windows_give_the_mask_of_python(page_modules, windowed, tmp_path, shape, overlap):
    model = changed(windowed, overlap=overlap, window={"function": "gaussian", "sigma": 0.3})
    check_like_python(page_modules, model, tmp_path, image(shape))


def test_windows_that_overlap_much_are_summed_in_64_bits(page_modules, windowed, tmp_path):
    model = changed(windowed, overlap=0.8, pipeline=[{"step": "min-max"}])
    check_like_python(page_modules, model, tmp_path, image((20, 19, 18)))


def test_windows_of_air_have_one_answer(page_modules, windowed, tmp_path):
    head = image((48, 20, 20))
    head[:30] = 0
    check_like_python(page_modules, windowed, tmp_path, head)


def test_a_network_of_pictures_with_norms_sees_windows_of_slices(page_modules, tmp_path):
    pictures = export("unet2d-k5", (16, 16), channels=(4, 6, 8), strides=(2, 2))
    check_like_python(page_modules, pictures, tmp_path, image((30, 21, 5)))


def test_a_channel_that_may_be_missing_is_zero(page_modules, tmp_path):
    changes = {"channels": ("flair", "t1"), "optional_channels": ("t1",)}
    model = export("mpunet++", (16, 16, 16), features=(2, 3), in_channels=2, changes=changes)
    check_like_python(page_modules, model, tmp_path, image(), image(seed=1))
    check_like_python(page_modules, model, tmp_path, image(), None, missing=("t1",))
    for channels, key in [
        ((None, image()), "channelRequired"),
        ((image(),), "channelsWrong"),
        ((image(), image((3, 4, 5))), "gridsDiffer"),
    ]:
        with pytest.raises(PageProblem) as caught:
            segment(page_modules, model, *channels)
        assert caught.value.key == key


def test_a_graph_that_preprocesses_itself_gives_the_mask_of_python(page_modules, local, tmp_path):
    proto = onnx.load_from_string(changed(local, pipeline=[{"step": "z-score"}]))
    del proto.metadata_props[-1]  # the seal
    put_inside(proto)
    model = sealed(proto.SerializeToString())
    check_like_python(page_modules, model, tmp_path, image())


def test_a_graph_that_preprocesses_pictures_takes_no_volumes(page_modules, local_in_slices):
    proto = onnx.load_from_string(changed(local_in_slices, pipeline=[{"step": "min-max"}]))
    del proto.metadata_props[-1]
    put_inside(proto)
    model = sealed(proto.SerializeToString())
    with pytest.raises(PageProblem) as caught:
        segment(page_modules, model, image())
    assert caught.value.key == "insideSlices"
    assert segment(page_modules, model, image((22, 31, 1)))["mask"]["data"].size == 22 * 31


def test_steps_that_cannot_run_here_are_named_before_anything_starts(page_modules, local):
    model = changed(local, pipeline=[{"step": "n4"}, {"step": "z-score"}])
    with pytest.raises(PageProblem) as caught:
        segment(page_modules, model, image())
    assert "n4" in caught.value.values["steps"]


def test_metadata_that_the_graph_belies_are_refused(page_modules, local, windowed):
    for model, fields, key in [
        (local, {"labels": ["background", "a", "b"]}, "modelShape"),
        (windowed, {"labels": ["background", "a"]}, "modelShape"),
        (local, {"size_multiple": 1, "stages": [], "patch_size": [1, 1, 1]}, "modelShape"),
    ]:
        more = {"postprocessing": [], "structures": []}
        with pytest.raises(PageProblem) as caught:
            segment(page_modules, changed(model, **fields, **more), image((21, 31, 17)))
        assert caught.value.key in (key, "modelFailed"), caught.value
        assert caught.value.values["name"] == "net.onnx"


def test_a_graph_without_the_arrays_of_the_format_is_refused(page_modules, local):
    proto = onnx.load_from_string(local)
    del proto.metadata_props[-1]
    for node in proto.graph.node:
        node.input[:] = ["picture" if name == "image" else name for name in node.input]
    proto.graph.input[0].name = "picture"
    with pytest.raises(PageProblem) as caught:
        segment(page_modules, proto.SerializeToString(), image())
    assert (caught.value.key, caught.value.values["array"]) == ("modelGraph", "image")


def test_a_graph_of_unknown_operators_is_refused(page_modules, local):
    proto = onnx.load_from_string(local)
    del proto.metadata_props[-1]
    proto.graph.node[0].op_type = "Convolve"
    with pytest.raises(PageProblem) as caught:
        segment(page_modules, proto.SerializeToString(), image())
    assert caught.value.key == "modelUnusable"


def test_plain_numbers_of_a_file_cannot_ask_for_memory(page_modules, local, windowed):
    for model, fields in [
        (local, {"size_multiple": 2**30}),
        (local, {"patch_size": [1200, 1200, 1200]}),
        (windowed, {"patch_size": [1200, 1200, 1200]}),
    ]:
        with pytest.raises(PageProblem) as caught:
            segment(page_modules, changed(model, **fields), image())
        assert caught.value.key == "memoryShort"


def test_real_images_have_the_mask_of_python(page_modules, local, tmp_path, data_dir):
    from segjax import read

    given = read(data_dir / "hippocampus" / "images" / "hippocampus_001.nii.gz")
    array = np.ascontiguousarray(given.data, np.float32)
    model, p, threshold = at_median(local, tmp_path, given)
    found = segment(page_modules, model, array, affine=given.affine)
    near = np.abs(p[..., 1] - threshold) < 2e-6
    mask = found["mask"]["data"].reshape(array.shape) == 1
    np.testing.assert_array_equal(mask[~near], (p[..., 1] >= threshold)[~near])
