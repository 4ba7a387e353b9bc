import dataclasses
import importlib.util
import io
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax import models
from segjax.data.cases import find_cases
from segjax.data.phantom.dataset import write_dataset
from segjax.data.splits import split_cases
from segjax.errors import InputError
from segjax.train._fit import RunFinishedError, fit
from segjax.train.checkpoints import Checkpoints, load_variables
from segjax.train.config import InitConfig, OptimizerConfig, TrainConfig, read_config, write_config
from segjax.train.losses import Loss
from segjax.train.optimizers import make_optimizer
from segjax.train.plans.plan import plan
from segjax.train.step import init_state, make_train_step
from segjax.train.transfer import (
    freeze,
    freeze_norms,
    hold,
    load_source,
    recorded,
    warm_start,
)
from tests.peers import monai, torch

SCRIPT = Path(__file__).with_name("train_tiny.py")
spec = importlib.util.spec_from_file_location("tiny", SCRIPT)
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)

pytestmark = pytest.mark.usefixtures("cache")

OPTIMIZER = optax.sgd(0.1)
KEY = jax.random.key(7)


@pytest.fixture(autouse=True)
def _tiny_networks():
    with tiny.registered():
        yield


def state_of(config, seed=1, ema=None):
    model = models.create(config.model, **config.interface)
    key = jax.random.key(seed)
    return init_state(model, OPTIMIZER, key, config.patch_size, ema=ema)


def write_run(folder, config, seed=0):
    """Write a run that took no step from its random weights."""
    folder.mkdir()
    state = state_of(config, seed)
    write_config(config, folder)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(1, state, {}, best=True)
    return jax.device_get(state.variables)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the tiny network, and its variables."""
    with tiny.registered():
        folder = tmp_path_factory.mktemp("runs") / "run"
        return folder, write_run(folder, tiny.config())


def start(run, **changes):
    init = InitConfig(str(run), new_head=changes.pop("new_head", False))
    config = tiny.config(init=init, **changes)
    return jax.device_get(warm_start(state_of(config), config)), jax.device_get(state_of(config))


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_all_weights_of_a_run_are_taken(run):
    folder, variables = run
    state, _ = start(folder)
    assert_equal(state.training_variables, variables)


def test_moving_averages_begin_with_the_weights_that_were_taken(run):
    folder, variables = run
    config = tiny.config(init=InitConfig(str(folder)))
    state = warm_start(state_of(config, ema=0.9), config)
    assert_equal(jax.device_get(state.average), variables)
    pointers = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state.average)}
    assert not pointers & {x.unsafe_buffer_pointer() for x in jax.tree.leaves(state.params)}


def test_without_a_source_nothing_changes():
    state = state_of(tiny.config())
    assert warm_start(state, tiny.config()) is state
    assert recorded(tiny.config()) == tiny.config()


def test_new_head_is_drawn_and_the_rest_is_taken(run):
    folder, variables = run
    for labels in (("background", "a"), ("background", "a", "b")):
        state, drawn = start(folder, labels=labels, new_head=True)
        assert_equal(state.params["Conv_1"], drawn.params["Conv_1"])
        assert_equal(state.params["Conv_0"], variables["params"]["Conv_0"])
        assert_equal(state.batch_stats, variables["batch_stats"])


def test_first_layer_is_drawn_too_where_the_channels_are_others(run):
    folder, variables = run
    state, drawn = start(folder, in_channels=2, new_head=True)
    assert_equal(state.params["Conv_0"], drawn.params["Conv_0"])
    assert_equal(state.params["BatchNorm_0"], variables["params"]["BatchNorm_0"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"labels": ("background", "a", "b")},
            r"Conv_1/bias has the shape \(2,\), but \(3,\) is needed .* 3 output channels: ask for "
            r"a new head",
        ),
        ({"in_channels": 2}, r"Conv_0/kernel has the shape \(3, 3, 3, 1, 4\), but \(3, 3, 3, 2, 4"),
        ({"model": "tiny-no-norm"}, "run: holds a tiny, not a tiny-no-norm"),
    ],
)
def test_weights_that_do_not_fit_are_refused(run, changes, message):
    with pytest.raises(InputError, match=message):
        start(run[0], **changes)


def test_outputs_of_another_meaning_are_pointed_out(run):
    with pytest.warns(UserWarning, match="mean background, lesion, .* background, tumour"):
        start(run[0], labels=("background", "tumour"))


def test_layers_that_only_one_network_has_are_named(tmp_path, run):
    config = tiny.config()
    folder = tmp_path / "run"
    write_run(folder, config)
    other = json.loads((folder / "config.json").read_text()) | {"model": "tiny-no-norm"}
    (folder / "config.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match=r"another network than tiny-no-norm: .*BatchNorm_0/mean"):
        start(folder, model="tiny-no-norm")


def test_digest_tells_whether_weights_changed(tmp_path):
    config = tiny.config()
    for name, seed in (("a", 0), ("again", 0), ("other", 1)):
        write_run(tmp_path / name, config, seed)
    digests = [load_source(tmp_path / name, "tiny").digest for name in ("a", "again", "other")]
    assert digests[0] == digests[1] != digests[2]
    planned = recorded(tiny.config(init=InitConfig(str(tmp_path / "a"))))
    assert planned.init.digest == digests[0]
    moved = dataclasses.replace(planned.init, source=str(tmp_path / "other"))
    with pytest.raises(InputError, match="its weights have changed"):
        recorded(dataclasses.replace(planned, init=moved))


# Files


UNET = TrainConfig("unet2d-k3", (32, 32), in_channels=2, labels=("background", "a", "b"))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return monai.networks.nets.UNet(
        spatial_dims=2,
        in_channels=2,
        out_channels=3,
        channels=(16, 32, 64, 128, 256, 512),
        strides=(2,) * 5,
        num_res_units=0,
    )


@pytest.mark.peer("monai")
def test_pytorch_weights_get_a_new_head(network, tmp_path):
    path = tmp_path / "monai.pt"
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, path)
    config = dataclasses.replace(
        UNET, labels=("background", "x"), init=InitConfig(str(path), new_head=True)
    )
    state = warm_start(state_of(config), config)
    assert state.params["up0"]["kernel"].shape[-1] == 2
    expected = np.moveaxis(network.state_dict()["model.0.conv.weight"].numpy(), (0, 1), (-1, -2))
    np.testing.assert_array_equal(state.params["down0"]["kernel"], expected)


@pytest.mark.peer("monai")
def test_what_holds_no_weights_is_refused(network, tmp_path):
    torch.save(network, tmp_path / "whole.pt")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    torch.save({"a": torch.ones(1)}, tmp_path / "foreign.pth")
    (tmp_path / "notes.txt").touch()
    for name, message in (
        ("whole.pt", "is a whole network, pickled"),
        ("none.pt", "holds no state dict, from names to tensors"),
        ("foreign.pth", "these are no weights of unet2d-k3"),
        ("notes.txt", r"give the folder of a run or a file \(.pt, .*, .safetensors, .onnx\)"),
        ("missing.pt", "no such file or folder"),
    ):
        with pytest.raises(InputError, match=rf"{name}: {message}"):
            load_source(tmp_path / name, "unet2d-k3")


# Freezing


PARAMS = {
    "down0": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    "up0": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
}


def test_frozen_parameters_stay_and_do_not_count_in_the_clipping():
    optimizer = freeze(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0)), ["^down0/"])
    gradients = {"down0": jax.tree.map(lambda p: 100 * p, PARAMS["down0"]), "up0": PARAMS["up0"]}
    updates, _ = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    jax.tree.map(lambda u: np.testing.assert_array_equal(u, 0), updates["down0"])
    np.testing.assert_allclose(updates["up0"]["bias"], -1 / np.sqrt(6), rtol=1e-6)


def test_frozen_parameters_do_not_decay_either():
    optimizer = freeze(make_optimizer(OptimizerConfig(weight_decay=0.5), 4), ["kernel"])
    updates, _ = optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)
    for layer in updates.values():
        np.testing.assert_array_equal(layer["kernel"], 0)
        assert np.all(layer["bias"] != 0)


def test_no_pattern_is_the_optimizer_itself():
    assert freeze(OPTIMIZER, ()) is OPTIMIZER


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["X00"], "freeze 'X00': finds none of the parameters down0/bias"),
        (["["], r"freeze '\[': no regular expression"),
        (["down", "up"], "freeze down, up: nothing would be left"),
    ],
)
def test_patterns_that_freeze_nothing_or_all_are_refused(patterns, message):
    with pytest.raises(InputError, match=message):
        freeze(OPTIMIZER, patterns).init(PARAMS)


def tuned(patterns):
    """Return loss and variables of a step, and loss in evaluation and variables before it."""
    model, loss = models.UNetPlusPlus(features=(2,), dropout=0.0, spatial_dims=2), Loss()
    optimizer = freeze(optax.sgd(0.1), patterns)
    images = jnp.asarray(np.random.default_rng(0).normal(3, 2, (2, 8, 8, 1)), jnp.float32)
    labels = (images[..., 0] > 3).astype(jnp.int32)
    step = freeze_norms(make_train_step(model, loss, optimizer), patterns)
    state = init_state(model, optimizer, jax.random.key(0), (8, 8))
    before = jax.tree.map(np.array, state.training_variables)
    evaluated = float(loss(model.apply(before, images), labels))
    state, metrics = step(state, images, labels, KEY)
    return float(metrics["loss"]), state.training_variables, evaluated, before


def test_frozen_norms_keep_their_running_statistics_and_use_them():
    loss, after, evaluated, before = tuned(["^X00/first/"])
    assert_equal(jax.device_get(after["batch_stats"]), before["batch_stats"])
    assert_equal(jax.device_get(after["params"]["X00"]["first"]), before["params"]["X00"]["first"])
    assert loss == pytest.approx(evaluated, rel=1e-5)


@pytest.mark.parametrize("pattern", ["^X00/first/kernel", "^X00/first/(kernel|scale)"])
def test_a_norm_that_may_still_learn_goes_on_following_the_images(pattern):
    loss, after, evaluated, before = tuned([pattern])
    mean = before["batch_stats"]["X00"]["first"]["mean"]
    assert np.all(np.asarray(after["batch_stats"]["X00"]["first"]["mean"]) != mean)
    assert loss != pytest.approx(evaluated, rel=1e-3)


def test_without_patterns_the_step_is_the_same_one():
    step = make_train_step(tiny.Tiny(), Loss(), OPTIMIZER)
    assert freeze_norms(step, ()) is step


# What a run holds


def test_a_run_holds_the_weights_that_it_starts_from(tmp_path):
    written = write_run(tmp_path / "source", tiny.config())
    config = recorded(tiny.config(init=InitConfig(str(tmp_path / "source"))))
    out = tmp_path / "cv" / "fold0"
    out.mkdir(parents=True)
    hold(config, out, begun=False)
    (tmp_path / "source").rename(tmp_path / "moved")
    unplanned = tiny.config(init=InitConfig(str(tmp_path / "source")))
    for run in (out, tmp_path / "cv", tmp_path / "cv" / "fold1"):
        assert recorded(unplanned, run) == recorded(config, run) == config
        assert_equal(warm_start(state_of(config), config, run).training_variables, written)
    assert recorded(unplanned) == unplanned
    hold(config, tmp_path / "cv", begun=False)
    assert (tmp_path / "cv" / "init.npz").exists()
    for run, init in (
        (tmp_path / "other", config.init),
        (out, dataclasses.replace(config.init, digest="ab")),
        (out, InitConfig(str(tmp_path / "another"))),
    ):
        with pytest.raises(InputError, match="no such file or folder to start from"):
            recorded(tiny.config(init=init), run)


def test_what_a_run_holds_is_no_excuse_for_a_source_that_changed(tmp_path):
    write_run(tmp_path / "source", tiny.config())
    config = recorded(tiny.config(init=InitConfig(str(tmp_path / "source"))))
    hold(config, tmp_path, begun=False)
    (tmp_path / "source").rename(tmp_path / "moved")
    write_run(tmp_path / "source", tiny.config(), seed=1)
    with pytest.raises(InputError, match="its weights have changed"):
        recorded(config, tmp_path)
    with pytest.raises(InputError, match="its weights have changed"):
        hold(config, tmp_path, begun=False)
    hold(config, tmp_path, begun=True)


def archive_of_unknown_compression():
    np.savez(stream := io.BytesIO(), digest=np.zeros(1))
    content = bytearray(stream.getvalue())
    content[content.find(b"PK\x03\x04") + 8] = content[content.find(b"PK\x01\x02") + 10] = 99
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", archive_of_unknown_compression()],
    ids=["empty", "cut short", "unknown compression"],
)
def test_a_damaged_copy_is_named(tmp_path, content):
    (tmp_path / "init.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"init\.npz: damaged"):
        recorded(tiny.config(init=InitConfig(str(tmp_path / "gone"))), tmp_path)


# Whole trainings


def test_training_goes_on_and_is_finished_after_its_source_is_gone(tmp_path, monkeypatch):
    write_dataset(tmp_path / "heads", count=3, shape=(16, 16, 16))
    dataset = find_cases(tmp_path / "heads")
    split = split_cases([case.name for case in dataset.cases], validation=0.34)
    write_run(tmp_path / "source", tiny.config())
    settings = {"init": InitConfig(str(tmp_path / "source")), "epochs": 1, "augment": ()}
    out = tmp_path / "run"
    with monkeypatch.context() as patch:  # killed before its first checkpoint
        patch.setattr(Checkpoints, "save", lambda *_, **__: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            fit(tiny.config(**settings), dataset, split, out)
    (tmp_path / "source").rename(tmp_path / "moved")
    fit(tiny.config(**settings), dataset, split, out)
    with pytest.raises(RunFinishedError):
        fit(tiny.config(**settings), dataset, split, out)
    (out / "init.npz").unlink()  # as of a run of earlier versions
    with pytest.raises(RunFinishedError):
        fit(tiny.config(**settings), dataset, split, out)


def test_configuration_keeps_its_source(tmp_path):
    config = tiny.config(init=InitConfig("run", "ab12", new_head=True), freeze=("^Conv_0/",))
    write_config(config, tmp_path)
    assert read_config(tmp_path) == config
    with pytest.raises(InputError, match="give init too"):
        tiny.config(freeze=("a",))
    for values, message in (
        ({"source": 3}, "init.source must be a file"),
        ({"sauce": "run"}, "init: unknown field 'sauce'"),
    ):
        with pytest.raises(InputError, match=message):
            TrainConfig.from_json(config.to_json() | {"init": values})


class Killed(BaseException):
    pass


def test_tuned_network_keeps_frozen_layers_and_resumes_to_the_bit(tmp_path, run, monkeypatch):
    write_dataset(tmp_path / "heads", count=4, shape=(16, 16, 16))
    dataset = find_cases(tmp_path / "heads")
    split = split_cases([case.name for case in dataset.cases], validation=0.25)
    init = InitConfig(str(run[0]), new_head=True)
    config = recorded(tiny.config(init=init, freeze=("^Conv_0/",), epochs=2, augment=()))
    fit(config, dataset, split, tmp_path / "whole")
    whole = load_variables(tmp_path / "whole", "last")
    assert_equal(whole["params"]["Conv_0"], run[1]["params"]["Conv_0"])
    assert np.any(whole["params"]["Conv_1"]["kernel"] != run[1]["params"]["Conv_1"]["kernel"])

    save = Checkpoints.save

    def killed(self, step, *arguments, **options):
        save(self, step, *arguments, **options)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed)
        with pytest.raises(Killed):
            fit(config, dataset, split, tmp_path / "parts")
    monkeypatch.setattr("segjax.train.network.warm_start", lambda *_: pytest.fail("started again"))
    fit(config, dataset, split, tmp_path / "parts")
    assert_equal(load_variables(tmp_path / "parts", "last"), whole)


def test_plan_records_the_digest(tmp_path, run):
    write_dataset(tmp_path, count=3, shape=(16, 16, 16))
    settings = {"model": "tiny", "init": {"source": str(run[0])}}
    config = plan(tmp_path, settings).config
    assert config.init == InitConfig(str(run[0]), load_source(run[0], "tiny").digest)
