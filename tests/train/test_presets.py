import json

import pytest

from segjax import models
from segjax.data.augment.recipes import recipe
from segjax.data.cases import split_cases
from segjax.data.prepare import presets as preprocessing
from segjax.errors import InputError
from segjax.train._fit import check_patch_size
from segjax.train.config import TrainConfig, create_model
from segjax.train.losses import Loss, Term
from segjax.train.presets import names, preset


def test_every_preprocessing_of_a_study_has_its_training():
    assert names() == preprocessing.names()
    for name in names():
        made = preset(name)
        assert made.config.pipeline == preprocessing.preset(name)
        assert TrainConfig.from_json(json.loads(json.dumps(made.config.to_json()))) == made.config


def test_meningiomas_train_as_the_study_says():
    config = preset("meningioma-2d").config
    assert config.patch_size == (512, 512)
    assert config.dropout == 0.3
    (term,) = config.loss.terms
    assert (term.name, term.alpha, term.beta) == ("tversky", 0.5, None)  # beta is 1 - alpha
    assert (config.patience, config.validate_every) == (5, 1)
    assert config.augment == recipe("meningioma-2d")


def test_ms_lesions_train_as_the_study_says():
    for name in ("ms-7t", "ms-7t-released"):
        config = preset(name).config
        assert config.model == "mpunet++"
        assert config.patch_size == (64, 64, 64)
        assert config.loss == Loss((Term("dice"),))
        assert config.dropout is None  # the network's own: that of the study
        assert config.augment == recipe("ms-7t")


@pytest.mark.parametrize(
    ("name", "cases", "counts"), [("meningioma-2d", 602, (482, 120)), ("ms-7t", 46, (34, 12))]
)
def test_split_has_the_counts_of_the_study(name, cases, counts):
    split = split_cases(map(str, range(cases)), validation=preset(name).validation)
    assert (len(split.train), len(split.validation)) == counts


def test_split_with_test_images_has_the_counts_of_the_study():
    split = split_cases(map(str, range(708)), validation=120 / 708, test=106 / 708)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [482, 120, 106]


def test_every_network_of_a_study_takes_its_patches():
    families = {"unet2d": "meningioma-2d", "unet3d": "ms-7t", "mpunet": "ms-7t"}
    for model in models.names():
        (name,) = (name for start, name in families.items() if model.startswith(start))
        config = preset(name, model=model).config
        assert config.model == model
        check_patch_size(config, create_model(model, in_channels=1, out_channels=2))


def test_settings_leave_out_what_the_data_decide():
    settings = preset("ms-7t").settings
    absent = TrainConfig("m", (8, 8)).to_json().keys() - settings.keys()
    assert absent == {"in_channels", "labels", "name"}


def test_brain_extraction_may_be_another_one():
    steps = preset("ms-7t", brain="hd-bet").config.pipeline
    assert steps == preprocessing.preset("ms-7t", brain="hd-bet")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ms-3t", {}, "no preset is named 'ms-3t': choose ms-7t, ms-7t-released, meningioma-2d"),
        ("ms-7t", {"model": "unet2d-k3"}, r"'ms-7t' is for mpunet\+\+, unet3d: model unet2d-k3"),
        ("meningioma-2d", {"brain": "hd-bet"}, "extracts no brain"),
    ],
)
def test_what_does_not_belong_together_is_refused(name, options, said):
    with pytest.raises(InputError, match=said):
        preset(name, **options)
