import numpy as np
import pytest

from segjax.data.loaded import LoadedCase
from segjax.data.loader import Loader, Sampling
from segjax.data.phantom.dataset import phantom
from segjax.errors import InputError
from segjax.train.config import OptimizerConfig, TrainConfig
from segjax.train.failure import save_failed_batch


def loader(**options):
    image, label = phantom(0, shape=(32, 32))
    case = LoadedCase("head", image.channels_last, label.data, image, label)
    return Loader([case], Sampling((16, 16), batch_size=4), seed=3, **options)


def test_the_whole_batch_is_saved_also_by_a_host_that_draws_half_of_it(tmp_path):
    config = TrainConfig("unet2d-k3", (16, 16), batch_size=4)
    save_failed_batch(tmp_path, config, loader(rows=slice(2)), 7, float("nan"))
    images, labels = loader().batch(7)
    with np.load(tmp_path / "failed-batch.npz") as saved:
        np.testing.assert_array_equal(saved["images"], images)
        np.testing.assert_array_equal(saved["labels"], labels)
        assert saved["cases"].tolist() == ["head"] * 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "with a lower learning rate than 0.003, and look"),
        ({"compute_dtype": "bfloat16"}, "than 0.003 or compute_dtype float32, and look"),
        ({"optimizer": OptimizerConfig(gradient_clip=None)}, "than 0.003 or gradient_clip, and"),
    ],
)
def test_what_may_help_depends_on_the_configuration(tmp_path, changes, said):
    config = TrainConfig("unet2d-k3", (16, 16), batch_size=4, **changes)
    for loss in (float("nan"), float("inf")):  # the second one replaces the file
        error = save_failed_batch(tmp_path, config, loader(), 7, loss)
    assert isinstance(error, InputError)
    assert "the loss became inf at step 8 with this batch, from head, inten" in str(error)
    assert said in str(error)
