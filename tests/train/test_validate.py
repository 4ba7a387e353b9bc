import functools
import warnings

import jax
import numpy as np
import onnx
import pytest
import scipy.ndimage

from segjax.data.cases import Case
from segjax.data.io.formats import write_volume
from segjax.data.labels import IGNORED, LabelCoding
from segjax.data.loaded import LoadedCase
from segjax.data.patches import to_mask
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import CropOrPad, CropToForeground, Reorient, Resample, ZScore
from segjax.data.tiles import Locality
from segjax.evaluate.compare import compare_cases
from segjax.evaluate.pairs import Pair
from segjax.evaluate.scores import Score, scores_of_rows
from segjax.train.config import TrainConfig
from segjax.train.scoring import Scorer
from segjax.train.validate import validate_cases
from segjax.volume import Volume
from segjax_onnx.predict.metadata import KEY, ModelMetadata
from segjax_onnx.predict.predictor import Predictor

OBLIQUE = np.array([[0, 0, -2.0, 5], [-1, 0.1, 0, 3], [0.1, 1, 0, 0], [0, 0, 0, 1]])


NO_STEPS = Pipeline()


def loaded(truth, pipeline=NO_STEPS, affine=OBLIQUE, image=None):
    """Make a case whose image is its label map, so that the perfect network is the identity."""
    raw = Volume(
        truth, affine[: truth.ndim + 1, : truth.ndim + 1] if truth.ndim == 3 else np.eye(3)
    )
    processed, grids = pipeline.trace(raw if image is None else raw.with_data(image))
    label = pipeline.apply_label(raw, grids).data
    return LoadedCase("a", processed.data, label, raw, raw, grids)


def validate_case(case, predict, config):
    (scores,) = validate_cases([case], predict, config)
    return scores


def one_hot(classes):
    def predict(patches):
        return (patches.round() == np.arange(classes)).astype(np.float32)

    return predict


def dice(value):
    return Score("dice", pytest.approx(value))


def config(labels=3, **changes):
    names = ("background", "anterior", "posterior", "middle")[:labels]
    return TrainConfig("m", labels=names, **{"patch_size": (8, 8, 8), **changes})


def boxes():
    truth = np.zeros((20, 13, 9), np.uint8)
    truth[2:9, 3:10, 1:6] = 1
    truth[9:15, 3:10, 2:7] = 2
    return truth


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(),
        Pipeline((Reorient("RAS"),)),
        Pipeline((Reorient("LIP"), CropOrPad((24, 24, 24)))),
        Pipeline((Reorient("PIR"), CropToForeground(2.0))),
    ],
)
def test_perfect_network_has_dice_one_whatever_the_exact_steps(pipeline):
    scores = validate_case(loaded(boxes(), pipeline), one_hot(3), config(pipeline=pipeline))
    assert scores == {"anterior": dice(1), "posterior": dice(1)}


def test_dice_is_measured_on_the_grid_on_disk():
    truth = np.zeros((8, 8, 8), np.uint8)
    truth[:, :, :2] = 1
    # half of the slices are cropped away: what the network never sees is missed
    pipeline = Pipeline((CropOrPad((8, 8, 6)),))  # slice 0 and 7 go
    found = validate_case(
        loaded(truth, pipeline, np.eye(4)), one_hot(2), config(2, pipeline=pipeline)
    )
    assert found == {"anterior": dice(2 * 1 / (2 + 1))}


def test_resampled_masks_are_compared_where_the_user_would():
    truth = np.zeros((8, 8, 8), np.uint8)
    truth[2:6, 2:6, 2:6] = 1
    pipeline = Pipeline((Resample((0.5, 0.5, 0.5)),))
    case = loaded(truth, pipeline, np.eye(4))
    assert case.label.shape == (16, 16, 16)
    found = validate_case(case, one_hot(2), config(2, pipeline=pipeline))
    assert found["anterior"].value > 0.9


def test_dice_follows_its_definition():
    truth, image = np.zeros((8, 8, 8), np.uint8), np.zeros((8, 8, 8), np.float32)
    truth[:4] = 1
    image[2:5] = 1  # 2 slices found, 2 missed, 1 invented
    scores = validate_case(loaded(truth, image=image), one_hot(3), config())
    nothing = Score("false_positive_ml", 0.0)
    assert scores == {"anterior": dice(2 * 2 / (2 * 2 + 2 + 1)), "posterior": nothing}


def test_ignored_voxels_are_neither_found_nor_missed_nor_invented():
    truth, image = np.zeros((8, 8, 8), np.uint8), np.zeros((8, 8, 8), np.float32)
    truth[:4] = 1
    image[2:5] = 1  # 2 slices found, 2 missed, 1 invented
    truth[3:6] = IGNORED  # takes 1 that was found, and the one that was invented
    scores = validate_case(loaded(truth, image=image), one_hot(3), config())
    nothing = Score("false_positive_ml", 0.0)
    assert scores == {"anterior": dice(2 * 1 / (2 * 1 + 2 + 0)), "posterior": nothing}


def test_a_case_of_which_no_voxel_counts_has_neither_dice_nor_false_positives():
    truth = np.full((8, 8, 8), IGNORED, np.uint8)
    scores = validate_case(loaded(truth, image=boxes()[:8, :8, :8]), one_hot(3), config())
    nothing = Score("false_positive_ml", 0.0)
    assert scores == {"anterior": nothing, "posterior": nothing}


def test_what_is_found_where_there_is_nothing_is_told_as_a_volume():
    image = np.zeros((8, 8, 8), np.float32)
    image[2:5] = 1  # 3 slices of 64 voxels of 2 mm³
    case = loaded(np.zeros((8, 8, 8), np.uint8), affine=np.diag([2.0, 1, 1, 1]), image=image)
    assert validate_case(case, one_hot(2), config(2)) == {
        "anterior": Score("false_positive_ml", pytest.approx(3 * 64 * 2 / 1000))
    }
    flat = loaded(np.zeros((8, 8), np.uint8), image=image[..., 0])
    found = validate_case(flat, one_hot(2), config(2, patch_size=(8, 8)))
    assert found == {"anterior": Score("false_positive_pixels", 3 * 8)}


def test_many_cases_are_validated_like_each_alone():
    cases = [loaded(np.roll(boxes(), shift, 0), image=boxes()) for shift in range(4)]
    found = list(validate_cases(cases, one_hot(3), config(), batch_size=5))
    assert found == [validate_case(case, one_hot(3), config()) for case in cases]
    assert len({scores["anterior"].value for scores in found}) > 1
    assert list(validate_cases([], one_hot(3), config())) == []


def test_images_and_slices_of_volumes_are_validated():
    truth = boxes()
    scores = validate_case(loaded(truth), one_hot(3), config(patch_size=(8, 8, 1)))
    assert scores == {"anterior": dice(1), "posterior": dice(1)}
    flat = validate_case(loaded(truth[:, :, 3]), one_hot(3), config(patch_size=(8, 8)))
    assert flat == {"anterior": dice(1), "posterior": dice(1)}


def test_single_output_is_foreground_over_one_half():
    truth = (boxes() > 0).astype(np.uint8)

    def predict(patches):
        return np.where(patches > 0, 0.51, 0.5).astype(np.float32)

    assert validate_case(loaded(truth), predict, config(2)) == {"anterior": dice(1)}


def test_cases_are_read_one_after_another_while_the_network_predicts():
    events = []

    def cases():
        for number in range(6):
            events.append(f"read {number}")
            yield loaded(np.zeros((8, 8, 8), np.uint8))

    for number, _ in enumerate(validate_cases(cases(), one_hot(3), config())):
        events.append(f"measured {number}")
    ahead = [events.index(f"read {n + 4}") > events.index(f"measured {n}") for n in range(2)]
    assert ahead == [True, True]  # no more than two calls and one measurement are under way
    assert events.index("read 1") < events.index("measured 0")


# What validation measures is what the exported network gives: predict, then evaluate.

LABELS = ("background", "core", "rim")
VOLUMES = {
    "plain": Pipeline(),
    "intensities": Pipeline((ZScore(),)),
    "reoriented": Pipeline((Reorient("LIP"),)),
    "resampled": Pipeline((Resample((1.0, 1.0, 1.0)),)),
    "coarser": Pipeline((Reorient("RAS"), Resample((2.0, 1.5, 2.5)), ZScore())),
    "near enough": Pipeline((Resample((0.8, 1.1, 1.9), tolerance=0.2),)),
    "cropped": Pipeline((CropOrPad((7, 9, 6)),)),
    "padded": Pipeline((CropOrPad((17, 15, 12)),)),
    "cropped and padded": Pipeline((Reorient("PIR"), CropOrPad((16, 8, 9)))),
    "brain": Pipeline((CropToForeground(1.0), Resample((1.0, 1.0, 1.0)))),
    "cropped between voxels": Pipeline((Resample((1.0, 1.0, 1.0)), CropOrPad((9, 9, 9)))),
    "all": Pipeline(
        (Reorient("RAS"), CropToForeground(2.0), Resample((1, 1, 1)), CropOrPad((12, 9, 15)))
    ),
}
PICTURES = {
    "plain": Pipeline(),
    "resampled": Pipeline((Resample((0.7, 1.3)),)),
    "cropped": Pipeline((CropOrPad((9, 17)),)),
    "all": Pipeline((Resample((1.3, 0.8)), CropOrPad((8, 18)), ZScore())),
}


@pytest.fixture(scope="module")
def networks():
    """Return a function that gives a network, one convolution of noise, in JAX and as ONNX."""

    @functools.cache
    def network(rank, activation):
        outputs = 1 if activation == "sigmoid" else 3
        weights = np.random.default_rng(rank).normal(size=(*[3] * rank, 1, outputs)) / 300
        activate = {"sigmoid": jax.nn.sigmoid, "softmax": jax.nn.softmax}[activation]
        order = ("NDHWC", "DHWIO", "NDHWC") if rank == 3 else ("NHWC", "HWIO", "NHWC")

        @jax.jit
        def predict(images):
            kernel = weights.astype(np.float32)
            strides = (1,) * rank
            return activate(
                jax.lax.conv_general_dilated(
                    images, kernel, strides, "SAME", dimension_numbers=order
                )
            )

        return predict, as_onnx(np.moveaxis(weights, (-1, -2), (0, 1)), activation)

    return network


def as_onnx(weights, activation):
    """Write the convolution as a file of segjax, but for its metadata."""
    rank, outputs = weights.ndim - 2, len(weights)
    helper, space = onnx.helper, ["x", "y", "z"][: weights.ndim - 2]
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["logits"], pads=[1] * 2 * rank),
        helper.make_node(
            activation.capitalize(),
            ["logits"],
            ["probabilities"],
            **({"axis": 1} if activation == "softmax" else {}),
        ),
    ]
    inputs, results = (
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", size, *space])]
        for name, size in (("image", 1), ("probabilities", outputs))
    )
    kernel = onnx.numpy_helper.from_array(weights.astype(np.float32), "weights")
    graph = helper.make_graph(nodes, "blur", inputs, results, [kernel])
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def save(proto, path, settings, **local):
    """Save a network with the metadata that an export would give it."""
    metadata = ModelMetadata(
        model="blur",
        labels=settings.labels,
        activation=settings.activation,
        spatial_dims=len(settings.patch_size),
        in_channels=1,
        patch_size=settings.patch_size,
        overlap=settings.overlap,
        batch_size=1,
        size_multiple=1,
        pipeline=settings.pipeline.to_json(),
        segjax_version="0.1.0",
        **local,
    )
    onnx.helper.set_model_props(proto, {KEY: metadata.to_json()})
    onnx.save(proto, path)
    return path


def noisy_case(folder, rank, classes):
    """Write an image of noise in a dark frame, and labels that follow it a little."""
    rng = np.random.default_rng(rank)
    shape, suffix = ((13, 12, 9), ".nii.gz") if rank == 3 else ((14, 13), ".png")
    image = np.zeros(shape, np.uint8)
    image[(slice(1, -1),) * rank] = rng.integers(1, 255, [n - 2 for n in shape])
    truth = rng.integers(0, classes, shape).astype(np.uint8)
    truth[rng.random(shape) < 0.1] = 7
    paths = {}
    for name, data in (("images", image), ("labels", truth)):
        paths[name] = folder / name / f"a{suffix}"
        paths[name].parent.mkdir()
        affine = OBLIQUE @ np.diag([0.4, 1.1, 1.9, 1]) if rank == 3 else np.eye(3)
        write_volume(Volume(data, affine), paths[name])
    values = tuple(range(classes))
    coding = LabelCoding(values, LABELS[:classes], ignored=7)
    return Case("a", (paths["images"],), paths["labels"], coding)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    ("rank", "name"), [*((3, name) for name in VOLUMES), *((2, name) for name in PICTURES)]
)
def test_validation_measures_what_predict_and_evaluate_do(
    tmp_path, networks, rank, name, activation
):
    pipeline = (VOLUMES if rank == 3 else PICTURES)[name]
    classes = 2 if activation == "sigmoid" else 3
    case = noisy_case(tmp_path, rank, classes)
    predict, proto = networks(rank, activation)
    settings = TrainConfig(
        "m", (8,) * rank, labels=LABELS[:classes], activation=activation, pipeline=pipeline
    )
    found = validate_case(case.load(pipeline), predict, settings)
    predictor = Predictor(save(proto, tmp_path / "model.onnx", settings))
    with warnings.catch_warnings(action="ignore"):  # of a file that tells no spacing
        (mask,) = predictor.predict_files([case], tmp_path / "masks")
    evaluation = compare_cases([Pair("a", case.label, mask)], coding=case.coding)
    expected = scores_of_rows(evaluation.rows)["a"]
    assert {name: one.metric for name, one in found.items()} == dict.fromkeys(expected, "dice")
    for label, one in expected.items():
        assert found[label].value == pytest.approx(one.value, abs=1e-6)
        assert 0 < one.value < 1
    (whole,) = Scorer([case.load(pipeline)], settings, lambda _, x: predict(x)).scores({}).values()
    assert whole == found


@pytest.mark.parametrize(("rank", "name"), [(3, next(iter(VOLUMES))), (2, next(iter(PICTURES)))])
@pytest.mark.parametrize("times", [0.5, 4])  # in tiles, and in one piece
def test_validation_of_a_local_network_is_of_its_whole_cases(
    tmp_path, networks, monkeypatch, rank, name, times
):
    monkeypatch.setattr("segjax.train.validate._TIMES", times)
    pipeline = (VOLUMES if rank == 3 else PICTURES)[name]
    case = noisy_case(tmp_path, rank, 3)
    predict, proto = networks(rank, "softmax")
    shapes = set()
    settings = TrainConfig("m", (8,) * rank, labels=LABELS[:3], pipeline=pipeline, batch_size=1)
    locality = Locality((1,) * rank, 1)
    watched = lambda patches: (shapes.add(patches.shape), predict(patches))[1]  # noqa: E731
    (found,) = validate_cases([case.load(pipeline)], watched, settings, locality=locality)
    assert (len(shapes) == 1) == (times == 4)
    local = {"local": True, "halo": (1,) * rank, "bytes_per_voxel": 16.0}
    predictor = Predictor(save(proto, tmp_path / "model.onnx", settings, **local))
    with warnings.catch_warnings(action="ignore"):  # of a file that tells no spacing
        (mask,) = predictor.predict_files([case], tmp_path / "masks")
    evaluation = compare_cases([Pair("a", case.label, mask)], coding=case.coding)
    for label, one in scores_of_rows(evaluation.rows)["a"].items():
        assert found[label].value == pytest.approx(one.value, abs=1e-6)
        assert 0 < one.value < 1


def test_an_oracle_at_another_spacing_is_measured_by_its_probabilities():
    # lesions of a few voxels of 0.7 mm, known at 1 mm: SciPy brings the probabilities back
    centres = np.random.default_rng(0).uniform(3, 25, (40, 3))
    places = np.stack(np.meshgrid(*[np.arange(40) * 0.7] * 3, indexing="ij"), -1)
    truth = np.zeros((40, 40, 40), np.uint8)
    for centre in centres:
        truth[((places - centre) ** 2).sum(-1) < 1.6**2] = 1
    pipeline = Pipeline((Resample((1.0, 1.0, 1.0)),))
    case = loaded(truth, pipeline, np.diag([0.7, 0.7, 0.7, 1]))
    settings = config(2, pipeline=pipeline, activation="sigmoid")
    found = validate_case(case, lambda patches: patches, settings)["anterior"].value
    before, after = case.grids
    index = np.linalg.solve(after.affine, before.affine)
    voxels = np.stack(np.meshgrid(*[np.arange(40.0)] * 3, indexing="ij"))
    at = np.tensordot(index[:3, :3], voxels, 1) + index[:3, 3, None, None, None]
    back = scipy.ndimage.map_coordinates(case.image[..., 0], at, order=1, mode="nearest")
    mask = back > 0.5
    dice = 2 * (mask & (truth == 1)).sum() / (mask.sum() + truth.sum())
    assert found == pytest.approx(dice, abs=2e-3)
    hard = Volume(to_mask(case.image), after.affine)
    nearest = pipeline.invert(hard, case.volume).data
    worse = 2 * (nearest & truth).sum() / (nearest.sum() + truth.sum())
    assert found > worse + 0.02
