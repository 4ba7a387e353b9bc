import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.codec import check_survives
from segjax.data.augment import Flip, Noise
from segjax.data.cases import Dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import Reorient, Resample, Step, ZScore
from segjax.data.splits import Split
from segjax.errors import InputError
from segjax.registry import registry
from segjax.studies import names, study
from segjax.train._fit import fit
from segjax.train.config import (
    InitConfig,
    OptimizerConfig,
    TrainConfig,
    differences,
    read_config,
    write_config,
)
from segjax.train.losses import Loss, Term
from segjax.train.sweeps.sweep import SweepConfig, sweep

FULL = TrainConfig(
    "unet3d",
    (32, 48, 16),
    in_channels=4,
    labels=("background", "anterior", "posterior"),
    pipeline=Pipeline((Reorient("LPS"), Resample((1.0, 1.0, 3.0)), ZScore("nonzero"))),
    batch_size=3,
    patches_per_case=2,
    foreground=0.25,
    overlap=0.75,
    epochs=7,
    optimizer=OptimizerConfig(1e-4, weight_decay=0.0, schedule="cosine", gradient_clip=None),
    ema=0.999,
    compute_dtype="bfloat16",
    deep_supervision=True,
    loss=Loss((Term("tversky", alpha=0.7), Term("cross-entropy", weight=0.5))),
    augment=(Flip((1,)), Noise()),
    validate_every=2,
    patience=5,
    seed=12,
    name="anterior and posterior",
)


@pytest.mark.parametrize("config", [FULL, TrainConfig("mpunet++", (64, 64, 64))])
def test_every_field_comes_back_from_json(config):
    text = json.dumps(config.to_json())
    assert TrainConfig.from_json(json.loads(text)) == config


@settings(max_examples=25, deadline=None)  # the first look at a name imports packages
@given(
    st.fixed_dictionaries(
        {
            "epochs": st.integers(1, 10**6),
            "foreground": st.floats(0, 1),
            "patience": st.none() | st.integers(1, 100),
            "labels": st.lists(st.text(min_size=1), min_size=2, max_size=9, unique=True),
            "seed": st.integers(0, 2**32 - 1),
        }
    )
)
def test_any_valid_values_come_back_from_json(values):
    config = TrainConfig.from_json({"model": "m", "patch_size": [8, 8], **values})
    assert {name: config.to_json()[name] for name in values} == values
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_fields_left_out_of_json_have_their_defaults():
    values = {"model": "mpunet++", "patch_size": [64, 64, 64]}
    assert TrainConfig.from_json(values) == TrainConfig("mpunet++", (64, 64, 64))


def test_optimizer_written_before_it_had_a_name_is_adamw():
    before = {"learning_rate": 0.01, "weight_decay": 0.0, "schedule": "cosine"}
    values = {"model": "m", "patch_size": [8, 8], "optimizer": before}
    assert TrainConfig.from_json(values).optimizer == OptimizerConfig(0.01, 0.0, "cosine")


def test_label_values_name_the_labels_and_survive_json():
    values = {"core": [1, 4], "edema": 2, "ignore": 3}
    config = TrainConfig.from_json({"model": "m", "patch_size": [8, 8], "label_values": values})
    assert config.labels == ("background", "core", "edema")
    written = json.loads(json.dumps(config.to_json()))
    assert written["label_values"] == {"background": 0, **values}
    assert TrainConfig.from_json(written) == config


def test_other_label_values_are_a_difference():
    said = [{"a": 1}, {"a": [1, 2]}]
    old, new = (
        TrainConfig.from_json({"model": "m", "patch_size": [8, 8], "label_values": values})
        for values in said
    )
    assert differences(old, new) == [
        'label_values ({"background": 0, "a": 1} there, {"background": 0, "a": [1, 2]} now)'
    ]


def test_runs_that_never_said_what_label_values_stand_for_go_on():
    values = {"background": 0, FULL.labels[1]: [1, 2]}
    told = {**FULL.to_json(), "labels": list(values), "label_values": values}
    now = TrainConfig.from_json(told)
    assert differences(dataclasses.replace(now, label_values=None), now) == []


def test_a_configuration_says_nothing_of_label_values_unless_it_was_asked_to():
    assert FULL.label_values is None
    older = {name: value for name, value in FULL.to_json().items() if name != "label_values"}
    assert TrainConfig.from_json(older) == FULL


def test_outputs_are_one_for_sigmoid_and_one_per_label_for_softmax():
    assert FULL.out_channels == 3
    assert TrainConfig("m", (8, 8), activation="sigmoid").out_channels == 1
    assert TrainConfig("m", (8, 8), activation="sigmoid").classes == 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epoch": 3}, r"unknown field 'epoch': did you mean 'epochs'\? Known are model, "),
        ({"optimizer": {"rate": 1}}, "optimizer: unknown field 'rate': known are learning_rate"),
        ({"optimizer": 3}, "optimizer must be an object, not 3"),
        ({"epochs": "ten"}, "epochs must be a whole number from 1 up, not 'ten'"),
        ({"epochs": 2.0}, "epochs must be a whole number"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 up, not 0"),
        ({"patch_size": [8]}, "patch_size must be 2 or 3 whole numbers"),
        ({"patch_size": 8}, "patch_size must be 2 or 3 whole numbers"),
        ({"patch_size": "88"}, "patch_size must be 2 or 3 whole numbers"),
        ({"patch_size": [8, -8]}, "patch_size must be"),
        ({"labels": ["background"]}, "labels must be 2 to 255 different names"),
        ({"labels": ["background", "a", "a"]}, "different names"),
        ({"labels": "ab"}, "labels must be"),
        ({"label_values": ["a"]}, "label_values: must be an object of names and values"),
        ({"label_values": {"a": -1}}, "label_values: the label 'a' has the value -1"),
        (
            {"label_values": {"a": 1}, "labels": ["background", "b"]},
            "label_values name the labels background, a, but labels are background, b: leave",
        ),
        ({"activation": "relu"}, "activation must be one of softmax, sigmoid, not 'relu'"),
        ({"foreground": 1.5}, "foreground must be a number from 0 to 1"),
        ({"overlap": 1.0}, "overlap must be a number from 0 up to, not including, 1"),
        ({"deep_supervision": 1}, "deep_supervision must be true or false, not 1"),
        (
            {"compute_dtype": "int8"},
            "compute_dtype must be one of float32, tensorfloat32, bfloat16, not 'int8'",
        ),
        ({"ema": 1}, "ema must be a number between 0 and 1, or null, not 1"),
        ({"patience": 0}, "patience must be a whole number from 1 up, or null"),
        ({"seed": -1}, "seed must be"),
        ({"name": 3}, "name must be text"),
        ({"model": ""}, "model must be the name of a model"),
        ({"optimizer": {"learning_rate": 0}}, "optimizer.learning_rate must be a number over 0"),
        ({"optimizer": {"learning_rate": float("nan")}}, "optimizer.learning_rate must be"),
        ({"optimizer": {"weight_decay": -1}}, "optimizer.weight_decay must be a number from 0 up"),
        (
            {"optimizer": {"schedule": "step"}},
            "optimizer: unknown schedule 'step': known are one-cycle, constant",
        ),
        (
            {"optimizer": {"name": "adagrad"}},
            "unknown optimizer 'adagrad': known are adamw, adam, radam",
        ),
        ({"optimizer": {"momentum": 1}}, "optimizer.momentum must be a number from 0 up to"),
        ({"optimizer": {"warmup": -0.1}}, "optimizer.warmup must be a number from 0 up to"),
        ({"optimizer": {"power": 0}}, "optimizer.power must be a number over 0"),
        (
            {"optimizer": {"power": 2, "schedule": "cosine"}},
            "optimizer: power does nothing with the schedule cosine: leave it out, or take polyn",
        ),
        ({"optimizer": {"warmup": 0.5}}, "optimizer: warmup does nothing with .* one-cycle"),
        ({"optimizer": {"gradient_clip": 0}}, "gradient_clip must be a number over 0, or null"),
        ({"loss": [{"hinge": 1}]}, "hinge"),
        ({"augment": [{"transform": "spin"}]}, "spin"),
        ({"pipeline": [{"step": "blur"}]}, "blur"),
        (
            {"activation": "sigmoid", "labels": ["background", "a", "b"]},
            r"one output, but there are 3 labels \(background, a, b\): use softmax",
        ),
    ],
)
def test_bad_values_are_named(values, said):
    with pytest.raises(InputError, match=said) as error:
        TrainConfig.from_json({"model": "mpunet++", "patch_size": [8, 8, 8], **values})
    assert "\n" not in str(error.value)


def test_required_fields_are_named():
    with pytest.raises(InputError, match="field model, patch_size is missing"):
        TrainConfig.from_json({})


def test_values_out_of_range_are_refused_in_python_too():
    with pytest.raises(InputError, match="epochs must be"):
        dataclasses.replace(FULL, epochs=0)
    with pytest.raises(InputError, match="learning_rate must be a number over 0"):
        OptimizerConfig(learning_rate=-1.0)


def test_config_is_written_and_read(tmp_path):
    write_config(FULL, tmp_path)
    assert read_config(tmp_path) == FULL
    assert read_config(tmp_path / "config.json") == FULL


def test_config_file_says_which_version_wrote_it(tmp_path):
    import segjax

    write_config(FULL, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["segjax"] == segjax.__version__


def test_config_is_replaced_only_when_asked(tmp_path):
    write_config(FULL, tmp_path)
    with pytest.raises(InputError, match="exists"):
        write_config(FULL, tmp_path)
    write_config(dataclasses.replace(FULL, seed=3), tmp_path, overwrite=True)
    assert read_config(tmp_path).seed == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        ("[]", "not the configuration of a segjax run"),
        ('{"model": "mpunet++"}', "not the configuration of a segjax run"),
        ('{"segjax": "0.1.0", "epochs": 0}', "field model, patch_size is missing"),
    ],
)
def test_bad_config_files_are_named(tmp_path, content, said):
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=said) as error:
        read_config(tmp_path)
    assert str(error.value).startswith(str(path))


def test_folder_without_config_is_no_run(tmp_path):
    with pytest.raises(InputError, match=r"no run of segjax \(it has no config.json\)"):
        read_config(tmp_path)
    with pytest.raises(InputError, match="no run of segjax"):
        read_config(tmp_path / "missing")


def test_differences_name_the_fields_and_both_values():
    optimizer = dataclasses.replace(FULL.optimizer, learning_rate=0.5)
    new = dataclasses.replace(FULL, optimizer=optimizer, epochs=9, patience=None)
    assert differences(FULL, new) == [
        "epochs (7 there, 9 now)",
        "optimizer.learning_rate (0.0001 there, 0.5 now)",
        "patience (5 there, null now)",
    ]
    assert differences(FULL, FULL) == []


def test_config_imports_without_what_a_gpu_machine_may_lack():
    missing = ["nibabel", "SimpleITK", "grain", "tyro", "jax2onnx", "pandas", "matplotlib"]
    code = f"""
import sys
for name in {missing!r}:
    sys.modules[name] = None
import segjax.train._fit, segjax.train.config, segjax.train.checkpoints
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_folders_of_several_runs_say_which_to_name(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(InputError, match=rf"but a sweep: .* in {tmp_path}/runs$"):
        read_config(tmp_path)
    (tmp_path / "cv" / "fold0").mkdir(parents=True)
    with pytest.raises(InputError, match=rf"but a cross-validation: .* {tmp_path}/cv/fold0$"):
        read_config(tmp_path / "cv")


def test_package_gives_every_public_name_and_no_other():
    import segjax.train

    for name in segjax.train.__all__:
        assert getattr(segjax.train, name) is not None
    assert set(segjax.train.__all__) <= set(dir(segjax.train))
    with pytest.raises(AttributeError, match="train_everything"):
        _ = segjax.train.train_everything


def test_importing_the_package_loads_no_jax():
    code = "import sys, segjax.train; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


class OwnLoss(Loss):
    pass


class OwnTerm(Term):
    pass


class OwnConfig(TrainConfig):
    pass


@dataclass(frozen=True)
class Nameless(Step):
    factor: float = 1.0


class Settled(Step):
    name = "settled-by-hand"

    def __init__(self, factor):
        self.factor = factor


PLAIN = TrainConfig("unet2d-k3", (32, 32))
LOST = [
    ({"loss": OwnLoss()}, "^loss: OwnLoss would be read back as Loss"),
    ({"loss": Loss((OwnTerm("dice"),))}, r"^loss.terms\[0\]: OwnTerm would be read back as Term"),
    (
        {"pipeline": Pipeline((ZScore(), Nameless()))},
        "^pipeline: step Nameless has no name: give the class name = 'nameless'",
    ),
    ({"pipeline": Pipeline((Settled(2.0),))}, "^pipeline: .*Settled is no frozen dataclass"),
    ({"loss": Loss((Term("tversky", alpha=jnp.float32(0.5)),))}, "^loss.alpha: .* cannot be"),
]


@pytest.mark.parametrize(("change", "message"), LOST)
def test_what_the_run_could_not_give_back_is_named(change, message):
    with pytest.raises(InputError, match=message):
        check_survives(dataclasses.replace(PLAIN, **change), kind=TrainConfig)


def test_fit_and_sweep_refuse_it_before_anything_is_made(tmp_path):
    lost = dataclasses.replace(PLAIN, loss=OwnLoss((Term("tversky"),)))
    with pytest.raises(InputError, match="loss: OwnLoss would be read back as Loss"):
        fit(lost, Dataset(()), Split(("a",), ()), tmp_path / "run")
    with pytest.raises(InputError, match="loss: OwnLoss would be read back as Loss"):
        sweep(
            SweepConfig(lost, (3,), (0.5,), (0,)),
            Dataset(()),
            Split(("a",), ("b",), ("c",)),
            tmp_path / "sweep",
        )
    with pytest.raises(InputError, match="OwnConfig would be read back as TrainConfig"):
        fit(OwnConfig("unet2d-k3", (32, 32)), Dataset(()), Split(("a",), ()), tmp_path / "own")
    assert not list(tmp_path.iterdir())


def test_a_function_is_no_loss_of_a_configuration():
    with pytest.raises(InputError, match="has no name: give it to fit as loss=, or register it"):
        TrainConfig.from_json({**PLAIN.to_json(), "loss": lambda probabilities, targets: 0.0})


@pytest.mark.parametrize("name", names())
def test_trainings_of_the_studies_are_stored_as_they_are(name):
    check_survives(TrainConfig.from_json(study(name).settings()))


def test_all_that_segjax_has_names_for_is_stored():
    terms = (Term("tversky", alpha=np.float64(0.3), beta=1), Term("cross-entropy", weight=0.5))
    changes = {
        "loss": Loss(terms),
        "augment": (Flip(axes=(0,)), Noise()),
        "init": InitConfig("run", digest="ab"),
        "freeze": ("^down0/",),
        "optimizer": OptimizerConfig(1, gradient_clip=None),
    }
    check_survives(dataclasses.replace(PLAIN, **changes))


def test_options_that_a_registered_optimizer_or_schedule_has_not_are_refused():
    with (
        registry("optimizer").lend(lambda rate, *, momentum: None, "heavy"),
        registry("schedule").lend(lambda peak, steps: None, "flat"),
    ):
        assert OptimizerConfig(name="heavy", schedule="flat", momentum=0.5).name == "heavy"
        with pytest.raises(InputError, match="weight_decay does nothing with the optimizer heavy"):
            OptimizerConfig(name="heavy", weight_decay=0.1)
        with pytest.raises(InputError, match="power does nothing with the schedule flat"):
            OptimizerConfig(schedule="flat", power=2)
    with pytest.raises(InputError, match="unknown optimizer 'heavy'"):
        OptimizerConfig(name="heavy")
