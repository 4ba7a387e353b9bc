"""What train steps are on a GPU, read from their programs for CUDA."""

import jax
import jax.numpy as jnp
import pytest

from segjax.models import create, names
from segjax.train import Loss, OptimizerConfig, init_state, make_optimizer, make_train_step
from tests.cuda import convolutions, text_for_cuda

PATCHES = {2: (512, 512), 3: (64, 64, 64)}
OWN = [name for name in names() if name.startswith(("mpunet", "unet"))]


def train_step_for_cuda(monkeypatch, name, dtype, **options):
    """Return the program of a train step and its largest kernel."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    model, key = create(name), jax.eval_shape(lambda: jax.random.key(0))
    patch = PATCHES[model.spatial_dims]
    optimizer = make_optimizer(OptimizerConfig(), 100)
    ema = options.get("ema")
    state = jax.eval_shape(lambda key: init_state(model, optimizer, key, patch, ema=ema), key)
    step = make_train_step(model, Loss(), optimizer, compute_dtype=dtype, **options)
    images = jax.ShapeDtypeStruct((2, *patch, 1), jnp.float32)
    labels = jax.ShapeDtypeStruct((2, *patch), jnp.uint8)
    kernels = [leaf for leaf in jax.tree.leaves(state.params) if leaf.ndim == 2 + len(patch)]
    text = text_for_cuda(monkeypatch, step, state, images, labels, key)
    return text, max(size for kernel in kernels for size in kernel.shape[:-2]), len(kernels)


def check(text, largest, kernels, precision):
    found = convolutions(text)
    kinds = [conv.kind for conv in found]
    assert set(kinds) == {"forward", "input gradient", "kernel gradient"}
    assert kinds.count("kernel gradient") == kernels
    assert max(max(conv.window) for conv in found if conv.kind != "kernel gradient") == largest
    assert {conv.groups for conv in found} == {1}
    assert {conv.precision for conv in found} == {(precision, precision)}
    assert "f64" not in text
    sums = [line for line in text.splitlines() if "stablehlo.reduce(" in line and "bf16" in line]
    assert not [line for line in sums if "stablehlo.add" in line]


@pytest.mark.parametrize("name", OWN)
def test_each_convolution_of_a_train_step_is_one_that_cudnn_knows(monkeypatch, name):
    check(*train_step_for_cuda(monkeypatch, name, "float32"), "HIGHEST")


@pytest.mark.parametrize(
    ("dtype", "precision"), [("tensorfloat32", "HIGH"), ("bfloat16", "HIGHEST")]
)
@pytest.mark.parametrize("name", ["unet2d-k3"])
def test_precision_is_that_of_the_compute_dtype(monkeypatch, name, dtype, precision):
    options = {"ema": 0.99, "deep_supervision": True} if name == "mpunet++" else {}
    text, *rest = train_step_for_cuda(monkeypatch, name, dtype, **options)
    check(text, *rest, precision)
    types = {conv.dtype for conv in convolutions(text)}
    assert types == {"bf16" if dtype == "bfloat16" else "f32"}
