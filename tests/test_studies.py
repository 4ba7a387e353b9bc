"""What the two studies do, each as it was published."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segjax import models
from segjax.data.augment import augment_patch
from segjax.data.cache.cache import open_cache, preprocess
from segjax.data.io.formats import read_image, read_volume
from segjax.data.phantom.dataset import phantom
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import BiasFieldCorrection, BrainExtraction
from segjax.data.splits import split_cases
from segjax.data.subjects import find_subjects
from segjax.errors import InputError
from segjax.grid import orientation, reorient
from segjax.studies import names, study
from segjax.train.config import TrainConfig
from segjax.train.losses import Loss, Term
from segjax.train.network import check_patch_size
from segjax.volume import Volume

WRITTEN = Path(__file__).parent / "made_by_0_1" / "configs"  # by segjax 0.1


def trained(name: str, **options) -> TrainConfig:
    return TrainConfig.from_json(study(name).settings(**options))


def steps_of(name: str) -> list[str]:
    return [step.name for step in study(name).pipeline().steps]


def test_studies_are_plain_data_that_need_no_jax():
    code = "import sys; from segjax.studies import study; study('ms-7t').settings()"
    code += "; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in names():
        settings = study(name).settings()
        assert json.loads(json.dumps(settings)) == settings


def test_settings_decide_all_that_the_data_would_but_channels_and_labels():
    decided = {
        "model", "patch_size", "pipeline", "batch_size", "patches_per_case", "foreground",
        "epochs", "validate_every", "dropout", "optimizer", "augment", "loss",
    }  # fmt: skip
    for name in names():
        settings = study(name).settings()
        assert decided <= settings.keys()
        assert not {"in_channels", "labels", "name"} & settings.keys()


@pytest.mark.parametrize("name", names())
def test_configuration_is_what_it_has_been(name):
    before = json.loads((WRITTEN / f"{name}.json").read_text(encoding="utf-8"))
    config = TrainConfig.from_json({**study(name).settings(), "labels": before["labels"]})
    assert config.to_json() == {key: before[key] for key in before if key != "segjax"}


# Preprocessing


def test_steps_are_those_of_the_studies_in_their_order():
    assert names() == ("ms-7t", "ms-7t-released", "meningioma-2d")
    assert steps_of("ms-7t") == ["reorient", "n4", "brain-extraction", "min-max", "resample"]
    assert steps_of("ms-7t-released") == [
        "reorient",
        "resample",
        "crop-or-pad",
        "histogram-standardization",
        "z-score",
    ]
    assert steps_of("meningioma-2d") == ["histogram-standardization", "z-score", "rescale"]


@pytest.mark.parametrize("method", ["hd-bet", "zero-background", "brain.onnx"])
def test_method_of_brain_extraction_can_be_chosen(method):
    steps = study("ms-7t").pipeline(brain=method).steps
    assert BrainExtraction(method) in steps
    assert [step.name for step in steps] == steps_of("ms-7t")
    assert trained("ms-7t", brain=method).pipeline.steps == steps


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ms-3t", {}, "no study is named 'ms-3t': choose ms-7t, ms-7t-released, meningioma-2d"),
        ("ms-7t", {"model": "unet2d-k3"}, r"'ms-7t' is for mpunet\+\+, unet3d: model unet2d-k3"),
        ("meningioma-2d", {"brain": "hd-bet"}, "extracts no brain: leave 'hd-bet' out"),
        ("ms-7t", {"brain": "skull-off"}, "skull-off"),
    ],
)
def test_what_does_not_belong_together_is_refused(name, options, said):
    with pytest.raises(InputError, match=said):
        study(name).settings(**options)


def test_ms_7t_gives_intensities_from_0_to_1_at_1_mm_in_ras():
    head, _ = phantom(0, shape=(48, 60, 56), spacing=3.0)
    head = Volume(head.data[::-1], head.affine @ np.diag([-1.0, 1.0, 1.0, 1.0]))
    processed = study("ms-7t").pipeline().apply(head)
    assert processed.spacing == pytest.approx((1, 1, 1))
    assert orientation(processed.affine) == "RAS"
    assert processed.spatial_shape == (144, 180, 168)
    assert (processed.data.min(), processed.data.max()) == (0, pytest.approx(1, abs=0.1))
    assert 0.05 < np.mean(processed.data > 0) < 0.6  # the skull is gone


def test_ms_7t_released_gives_its_shape_and_z_scores_above_the_mean():
    heads = [phantom(seed, shape=(48, 60, 56), spacing=3.0)[0] for seed in range(2)]
    processed = study("ms-7t-released").pipeline().fit(lambda: heads).apply(heads[0])
    assert processed.spatial_shape == (192, 192, 224)
    assert processed.spacing == pytest.approx((1, 1, 1))
    # z-scores by mean m and deviation s of what lay above the overall mean c: above (c - m) / s
    data = processed.data.astype(np.float64)
    chosen = data[data > data.mean()]
    assert chosen.mean() == pytest.approx(0, abs=1e-4)
    assert chosen.std() == pytest.approx(1, abs=1e-4)


def test_meningioma_2d_brings_every_slice_to_the_same_range_and_landmarks():
    slices = [phantom(seed, shape=(64, 64), kind="meningioma")[0] for seed in range(6)]
    slices = [image.with_data(image.data * (1 + 0.3 * i)) for i, image in enumerate(slices)]
    pipeline = study("meningioma-2d").pipeline()
    assert not pipeline.fitted
    pipeline = pipeline.fit(lambda: slices)
    processed = [pipeline.apply(image).data for image in slices]
    assert {(float(p.min()), float(p.max())) for p in processed} == {(-1.0, 1.0)}


def test_extracted_brains_go_through_ms_7t_without_harm(data_dir):
    """Nothing of the brain is lost, its grid stays, and intensities only change by a slow field."""
    folder = data_dir / "ms_lesions" / "patient07"
    flair = reorient(read_image(folder / "flair.nii.gz"))
    first = Pipeline(study("ms-7t").pipeline().steps[:3])
    quick = Pipeline(
        tuple(
            BiasFieldCorrection(iterations=(5,)) if step.name == "n4" else step
            for step in first.steps
        )
    )
    processed = quick.apply(flair)
    brain = flair.data != 0
    kept = (processed.data != 0) & brain
    assert kept.sum() > 0.999 * brain.sum()
    assert not processed.data[~brain].any()
    np.testing.assert_array_equal(processed.affine, flair.affine)
    ratio = processed.data[kept] / flair.data[kept]
    low, high = np.percentile(ratio, (1, 99))
    assert 0.5 < low < high < 2


@pytest.mark.slow
def test_preprocessing_keeps_the_lesions_of_real_patients(data_dir, tmp_path):
    dataset = find_subjects(
        data_dir / "ms_lesions", images=["flair.nii.gz"], label="lesions.nii.gz"
    )
    for name, learned in (("ms-7t", 0), ("ms-7t-released", 2)):
        preprocess(dataset, study(name).pipeline(), tmp_path / name, workers=1)
        cache = open_cache(tmp_path / name)
        assert len(cache.learned_from) == learned
        for case in cache.cases:
            raw = read_volume(case.source.label).data
            assert case.foreground.size == pytest.approx(np.count_nonzero(raw), rel=0.001)
            inside, outside = case.image[..., 0][case.label > 0], case.image[..., 0]
            assert np.median(inside) > np.percentile(outside, 90)  # bright in FLAIR


# Augmentation


def test_meningiomas_are_augmented_with_the_probabilities_that_the_study_states():
    transforms = study("meningioma-2d").augmentation()
    chances = {transform.name: transform.probability for transform in transforms}
    assert chances == {
        "affine": 1.0,
        "elastic": 1.0,
        "noise": 0.25,
        "scale-intensity": 0.25,
        "motion": 0.05,
        "bias-field": 0.2,
    }


@pytest.mark.parametrize("name", ["ms-7t", "meningioma-2d"])
@pytest.mark.parametrize("shape", [(40, 33), (17, 24, 20)])
def test_images_of_two_and_three_axes_are_augmented(name, shape):
    rng = np.random.default_rng(0)
    image = rng.random((*shape, 1), dtype=np.float32)
    label = (image[..., 0] > 0.5).astype(np.uint8)
    for _ in range(5):
        result, mask = augment_patch(rng, image, label, study(name).augmentation())
        assert result.shape == image.shape
        assert result.dtype == np.float32
        assert np.isfinite(result).all()
        assert set(np.unique(mask)) <= {0, 1}


# Training


def test_meningiomas_train_as_the_study_says():
    config = trained("meningioma-2d")
    assert (config.model, config.patch_size, config.dropout) == ("unet2d-k5", (512, 512), 0.3)
    (term,) = config.loss.terms
    assert term == Term("tversky", alpha=0.5, beta=None)  # beta is 1 - alpha
    assert (config.patience, config.validate_every) == (5, 1)
    assert config.augment == study("meningioma-2d").augmentation()


def test_ms_lesions_train_as_the_study_says():
    for name in ("ms-7t", "ms-7t-released"):
        config = trained(name)
        assert (config.model, config.patch_size) == ("mpunet++", (64, 64, 64))
        assert config.loss == Loss((Term("dice"),))
        assert config.dropout is None  # the network's own: that of the study
        assert config.augment == study("ms-7t").augmentation()
    assert trained("ms-7t").optimizer.learning_rate == 1e-2
    assert trained("ms-7t", model="unet3d").optimizer.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("name", "cases", "counts"), [("meningioma-2d", 602, (482, 120)), ("ms-7t", 46, (34, 12))]
)
def test_split_has_the_counts_of_the_study(name, cases, counts):
    split = split_cases(map(str, range(cases)), validation=study(name).validation)
    assert (len(split.train), len(split.validation)) == counts


def test_split_with_test_images_has_the_counts_of_the_study():
    split = split_cases(map(str, range(708)), validation=120 / 708, test=106 / 708)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [482, 120, 106]


def test_every_network_of_a_study_takes_its_patches():
    families = {"unet2d": "meningioma-2d", "unet3d": "ms-7t", "mpunet": "ms-7t"}
    for model in set(models.names()) - {"unet2d-small"}:  # which is ours
        (name,) = (name for start, name in families.items() if model.startswith(start))
        config = trained(name, model=model)
        assert config.model == model
        check_patch_size(config, models.create(model))
