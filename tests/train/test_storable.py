import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data.augment import Flip, Noise
from segjax.data.augment.transform import IntensityTransform
from segjax.data.cases import Dataset, Split
from segjax.data.prepare.pipeline import Pipeline, Step, ZScore
from segjax.errors import InputError
from segjax.train._fit import fit
from segjax.train.config import InitConfig, OptimizerConfig, TrainConfig
from segjax.train.losses import Loss, Term
from segjax.train.presets import names, preset
from segjax.train.storable import check_storable
from segjax.train.sweeps.sweep import SweepConfig, sweep

CONFIG = TrainConfig("unet2d-k3", (32, 32))


class OwnLoss(Loss):
    def __call__(self, predictions, labels, *, logits=True):
        return super().__call__(predictions, labels, logits=logits) ** 2


class OwnTerm(Term):
    pass


@dataclass(frozen=True)
class Sharpen(IntensityTransform):
    name: ClassVar[str] = "sharpen"
    probability: float = 1.0

    def draw(self, rng, shape):
        return {}

    def identity(self, shape):
        return {}

    def apply(self, image, parameters, xp):
        return image


class OwnNoise(Noise):
    pass


@dataclass(frozen=True)
class Square(Step):
    name: ClassVar[str] = "square"


class OwnZScore(ZScore):
    pass


ODD: list[tuple[dict[str, Any], str]] = [
    ({"loss": OwnLoss()}, "loss: OwnLoss cannot be stored in config.json, which reads as Loss;"),
    ({"loss": Loss((OwnTerm("dice"),))}, "loss: OwnTerm cannot be .*, which reads as Term;"),
    ({"augment": (Flip(), Sharpen())}, "augment: Sharpen cannot be .*unknown transform 'sharpen'"),
    ({"augment": (OwnNoise(),)}, "augment: OwnNoise cannot be .*, which reads as Noise;"),
    (
        {"pipeline": Pipeline((ZScore(), Square()))},
        "pipeline: Square cannot .*unknown step 'square'",
    ),
    ({"pipeline": Pipeline((OwnZScore(),))}, "pipeline: OwnZScore cannot be .* reads as ZScore;"),
    (
        {"loss": Loss((Term("dice"), Term("tversky", alpha=jnp.float32(0.5))))},
        "loss: Term cannot be .*is not JSON serializable",
    ),
]


@pytest.mark.parametrize(("change", "message"), ODD)
def test_what_the_run_could_not_give_back_is_named(change, message):
    with pytest.raises(InputError, match=message):
        check_storable(dataclasses.replace(CONFIG, **change))


@pytest.mark.parametrize("change", [ODD[0][0], ODD[2][0], ODD[4][0]])
def test_fit_refuses_it_before_anything_is_made(change, tmp_path):
    config = dataclasses.replace(CONFIG, **change)
    with pytest.raises(InputError, match="nothing could open the run"):
        fit(config, Dataset(()), Split(("a",), ()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_sweep_refuses_it_before_anything_is_made(tmp_path):
    base = dataclasses.replace(CONFIG, loss=OwnLoss((Term("tversky"),)))
    grid = SweepConfig(base, (3,), (0.5,), (0,))
    with pytest.raises(InputError, match="loss: OwnLoss cannot be stored"):
        sweep(grid, Dataset(()), Split(("a",), ("b",), ("c",)), tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("name", names())
def test_trainings_of_the_studies_are_stored_as_they_are(name):
    check_storable(preset(name).config)


def test_all_that_segjax_has_names_for_is_stored():
    terms = (Term("tversky", alpha=np.float64(0.3), beta=1), Term("cross-entropy", weight=0.5))
    check_storable(
        dataclasses.replace(
            CONFIG,
            loss=Loss(terms),
            augment=(Flip(axes=(0,)), Noise()),
            init=InitConfig("run", digest="ab"),
            freeze=("^down0/",),
            optimizer=OptimizerConfig(1, gradient_clip=None),
        )
    )
