"""What an accelerator computes is what the CPU does: networks, gradients and augmentation.

The accelerator is JAX's default backend; on a machine without one, its forms run on the CPU.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data.loaded import LoadedCase
from segjax.data.loader import Loader, Sampling
from segjax.models import create, ops
from segjax.models._cpu import CpuImageForms, CpuVolumeForms
from segjax.registry import registry
from segjax.studies import study
from segjax.train.config import OptimizerConfig
from segjax.train.losses import Loss
from segjax.train.optimizers import make_optimizer
from segjax.train.resident import ResidentLoader
from segjax.train.step import init_state, make_predict, make_train_step
from segjax.volume import Volume

pytestmark = pytest.mark.gpu

SHAPES = {  # large enough for the algorithms of a GPU, small enough for a CPU
    "mpunet++": (2, 32, 32, 32),
    "unet3d": (2, 32, 32, 32),
    "unet2d-k3": (2, 64, 96),
    "unet2d-k5": (2, 64, 96),
    "unet2d-k9": (2, 64, 96),
}
CPU_FORMS = {2: CpuImageForms(), 3: CpuVolumeForms()}
TRANSFORMS = [
    registry("transform").get(name)
    for name in registry("transform").names()
    if registry("transform").get(name).__module__.startswith("segjax.")  # tests register others
]


def objective(name, dtype="float32"):
    """Return a function of parameters to logits, loss and gradients, and what it takes."""
    random = np.random.default_rng(0)
    images = random.standard_normal((*SHAPES[name], 1), dtype=np.float32)
    labels = random.integers(0, 2, SHAPES[name], dtype=np.uint8)
    model = create(name, dropout=0.0)
    variables = model.lazy_init(jax.random.key(0), jax.ShapeDtypeStruct(images.shape, jnp.float32))
    rest = {kind: values for kind, values in variables.items() if kind != "params"}

    def differentiate(params, images, labels):
        def loss(params):
            logits, _ = model.apply(
                {"params": params, **rest},
                jnp.asarray(images, dtype),
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1)},
            )
            return Loss()(logits, labels), logits

        (value, logits), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        return logits, value, gradients

    return jax.jit(differentiate), (variables["params"], images, labels)


@functools.cache
def on_cpu(name):
    """Compute in float32, by the forms of a CPU, on it."""
    differentiate, inputs = objective(name)
    with ops.use(CPU_FORMS[len(SHAPES[name]) - 1]):
        return differentiate(*jax.device_put(inputs, jax.devices("cpu")[0]))


def on_accelerator(name, dtype="float32", precision="float32"):
    """Compute by the forms of a GPU, on the default device."""
    differentiate, inputs = objective(name, dtype)
    with ops.use(ops.lax_forms(len(SHAPES[name]) - 1)), jax.default_matmul_precision(precision):
        return differentiate(*inputs)


def flat(gradients):
    return np.concatenate(
        [np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(gradients)]
    )


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def distance(a, b):
    """Return the length of a difference over that of the expected."""
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("name", SHAPES)
def test_float32_agrees_with_the_cpu(name):
    """TF32 would be off by 1e-3."""
    logits, loss, gradients = on_accelerator(name)
    expected = on_cpu(name)
    assert distance(flat(logits), flat(expected[0])) <= 2e-5
    assert float(loss) == pytest.approx(float(expected[1]), abs=1e-5)
    assert distance(flat(gradients), flat(expected[2])) <= 1e-3  # rounding moves maxima and kinks


@pytest.mark.parametrize("name", ["mpunet++", "unet2d-k3"])
def test_predictions_agree_with_the_cpu(name):
    """Those of a validation, whose precision is float32 whatever JAX's default is."""
    images = np.random.default_rng(0).standard_normal((*SHAPES[name], 1), dtype=np.float32)
    model = create(name)
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    rank, cpu = images.ndim - 2, jax.devices("cpu")[0]
    with ops.use(ops.lax_forms(rank)):
        found = make_predict(model, "softmax")(variables, images)
    with ops.use(CPU_FORMS[rank]):
        expected = make_predict(model, "softmax")(*jax.device_put((variables, images), cpu))
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("name", ["mpunet++", "unet3d", "unet2d-k5"])
@pytest.mark.parametrize(
    ("dtype", "precision", "least"),
    [("bfloat16", "float32", 0.99), ("float32", "tensorfloat32", 0.999)],
    ids=["bfloat16", "tensorfloat32"],
)
def test_gradients_of_less_precision_point_where_those_of_float32_do(name, dtype, precision, least):
    gradients = flat(on_accelerator(name, dtype, precision)[2])
    assert np.isfinite(gradients).all()
    assert cosine(gradients, flat(on_cpu(name)[2])) >= least


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("mpunet++", "bfloat16"), ("unet2d-k3", "bfloat16"), ("unet2d-k3", "tensorfloat32")],
)
@pytest.mark.filterwarnings("ignore:compute_dtype")
def test_a_training_learns_a_batch_by_heart(name, dtype):
    shape = (2, 16, 16, 16) if name == "mpunet++" else (2, 64, 64)
    labels = np.zeros(shape, np.uint8)
    labels[(slice(None), *[slice(4, 12)] * (len(shape) - 1))] = 1
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    images = jnp.asarray((labels + 0.1 * noise)[..., None])
    model, optimizer = create(name, dropout=0.0), make_optimizer(OptimizerConfig(), 30)
    state = init_state(model, optimizer, jax.random.key(0), shape[1:])
    step = make_train_step(model, Loss(), optimizer, compute_dtype=dtype)
    losses = []
    for _ in range(30):
        state, metrics = step(state, images, jnp.asarray(labels), jax.random.key(1))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.75 * losses[0]
    probabilities = make_predict(model, "softmax")(state.variables, images)
    assert bool(jnp.isfinite(probabilities).all())


def smooth_case(index, shape):
    """Return waves, on which interpolated values change little with the last bit of a place."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    waves = np.random.default_rng(index).uniform(-0.5, 0.5, (len(shape), 1))
    image = (np.sin(places @ waves) + 1.5).astype(np.float32)
    label = (image[..., 0] > 2).astype(np.uint8)
    volume = Volume(label, np.eye(len(shape) + 1))
    return LoadedCase(f"case{index}", image, label, volume, volume)


def check_batches(transforms, shape, patch, steps):
    cases = [smooth_case(index, shape) for index in range(3)]
    loader = Loader(cases, Sampling(patch, 4, patches_per_case=4), augment=tuple(transforms))
    resident = ResidentLoader(loader)
    for step in steps:
        images, labels = loader.batch(step)
        found, found_labels = map(np.asarray, resident.batch(step))
        # a place may round to the other side of a border: fill instead of image, or a neighbour
        assert (np.abs(found - images) > 2e-5 * np.ptp(images)).mean() <= 1e-3
        assert (found_labels != labels).mean() <= 1e-3


@pytest.mark.parametrize("kind", TRANSFORMS, ids=lambda kind: kind.name)
def test_augmentation_agrees_with_numpy(kind):
    for probability in (1.0, 0.5):
        some = dataclasses.replace(kind(), probability=probability)
        check_batches([some], (44, 40), (24, 24), range(2))


@pytest.mark.parametrize(("name", "rank"), [("ms-7t", 3), ("meningioma-2d", 2)])
def test_recipes_agree_with_numpy(name, rank):
    shape, patch = ((28, 26, 24), (16, 16, 16)) if rank == 3 else ((44, 40), (24, 24))
    check_batches(study(name).augmentation(), shape, patch, range(4))
