"""Losses against hand calculations, MONAI's losses and properties."""

import json
from dataclasses import FrozenInstanceError
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from segjax.data.labels import IGNORED
from segjax.errors import InputError
from segjax.registry import register, registry
from segjax.train.losses import Loss, Term, cross_entropy, dice_loss, tversky_loss
from tests.peers import monai, torch

SMOOTH = 1e-5
DTYPES = (jnp.float32, jnp.float16, jnp.bfloat16)


def random_case(seed, *, shape=(2, 4, 3), classes=3, scale=2.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (*shape, classes)).astype(np.float32)
    return logits, rng.integers(0, max(classes, 2), shape)


def softmax(logits):
    powers = np.exp(np.float64(logits))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


# One image of four voxels; class 1 is present in the first two.
HAND_PROBABILITIES = jnp.array([[[0.2, 0.8], [0.6, 0.4], [0.9, 0.1], [0.7, 0.3]]])
HAND_LABELS = jnp.array([[1, 1, 0, 0]])
# TP = 0.8 + 0.4 = 1.2, FN = 0.2 + 0.6 = 0.8, FP = 0.1 + 0.3 = 0.4


def test_dice_loss_equals_the_hand_calculation():
    loss = dice_loss(HAND_PROBABILITIES, HAND_LABELS, logits=False)
    assert float(loss) == pytest.approx(1 - 2.4 / (2.4 + 0.8 + 0.4), abs=1e-5)


def test_dice_loss_with_background_averages_both_classes():
    loss = dice_loss(HAND_PROBABILITIES, HAND_LABELS, logits=False, background=True)
    background = 1 - 3.2 / (3.2 + 0.4 + 0.8)  # TP 1.6, FN 0.4, FP 0.8
    assert float(loss) == pytest.approx((background + 1 - 2.4 / 3.6) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"),
    [
        (0.7, None, 1 - 1.2 / (1.2 + 0.7 * 0.8 + 0.3 * 0.4)),
        (0.3, None, 1 - 1.2 / (1.2 + 0.3 * 0.8 + 0.7 * 0.4)),
        (1, 1, 1 - 1.2 / 2.4),
        (0.0, 2.0, 1 - 1.2 / 2.0),
    ],
)
def test_tversky_alpha_weighs_false_negatives(alpha, beta, expected):
    loss = tversky_loss(HAND_PROBABILITIES, HAND_LABELS, alpha, beta, logits=False)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_cross_entropy_equals_the_hand_calculation():
    loss = cross_entropy(HAND_PROBABILITIES, HAND_LABELS, logits=False)
    expected = -(np.log(0.8) + np.log(0.4) + np.log(0.9) + np.log(0.7)) / 4
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_smooth_is_added_to_numerator_and_denominator():
    loss = tversky_loss(HAND_PROBABILITIES, HAND_LABELS, 0.5, logits=False, smooth=3.0)
    assert float(loss) == pytest.approx(1 - (1.2 + 3) / (1.2 + 0.4 + 0.2 + 3), abs=1e-6)


def test_per_image_averages_the_losses_of_the_images():
    logits, labels = random_case(1)
    whole = dice_loss(logits, labels, logits=True, per="image")
    images = [dice_loss(logits[i : i + 1], labels[i : i + 1], logits=True) for i in range(2)]
    assert float(whole) == pytest.approx(float(sum(images)) / 2, abs=1e-6)


def test_perfect_prediction_has_zero_loss():
    labels = np.arange(24).reshape(2, 4, 3) % 3
    perfect = np.eye(3, dtype=np.float32)[labels]
    for loss in (dice_loss, cross_entropy):
        assert float(loss(perfect, labels, logits=False)) == 0
        assert float(loss(200 * perfect, labels, logits=True)) == 0


def test_opposite_prediction_has_loss_one():
    labels = np.tile([0, 1], (2, 6))
    opposite = np.eye(2, dtype=np.float32)[1 - labels]
    assert float(dice_loss(opposite, labels, logits=False)) == pytest.approx(1, abs=1e-5)


@pytest.mark.peer("monai")
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("per", ["batch", "image"])
@pytest.mark.parametrize("spatial", [(9,), (6, 5), (3, 4, 5)])
def test_dice_and_tversky_equal_monai(spatial, per, background):
    logits, labels = random_case(2, shape=(3, *spatial), classes=4)
    common = {"to_onehot_y": True, "softmax": True, "include_background": background}
    common |= {"batch": per == "batch"}
    peer_logits = torch.tensor(np.moveaxis(logits, -1, 1))
    peer_labels = torch.tensor(labels[:, None])
    ours = {"logits": True, "per": per, "background": background}

    dice = monai.losses.DiceLoss(**common, smooth_nr=0.2, smooth_dr=0.2)(peer_logits, peer_labels)
    assert float(dice_loss(logits, labels, **ours, smooth=0.1)) == pytest.approx(
        float(dice), abs=1e-6
    )
    # MONAI's alpha weighs false positives: the names are swapped on purpose.
    options = common | {"alpha": 0.2, "beta": 0.7, "smooth_nr": 0.1, "smooth_dr": 0.1}
    tversky = monai.losses.TverskyLoss(**options)
    assert float(tversky_loss(logits, labels, 0.7, 0.2, **ours, smooth=0.1)) == pytest.approx(
        float(tversky(peer_logits, peer_labels)), abs=1e-6
    )


@pytest.mark.peer("monai")
def test_dice_plus_cross_entropy_and_its_gradient_equal_monai():
    logits, labels = random_case(3, shape=(2, 5, 4, 3))
    peer = monai.losses.DiceCELoss(
        to_onehot_y=True,
        softmax=True,
        include_background=True,
        batch=True,
        lambda_ce=0.5,
        smooth_nr=2 * SMOOTH,
        smooth_dr=2 * SMOOTH,
    )
    peer_logits = torch.tensor(np.moveaxis(logits, -1, 1), requires_grad=True)
    expected = peer(peer_logits, torch.tensor(labels[:, None]))
    expected.backward()

    loss = Loss((Term("dice", background=True), Term("cross-entropy", weight=0.5)))
    value, gradient = jax.jit(jax.value_and_grad(loss))(logits, labels)
    assert float(value) == pytest.approx(float(expected.detach()), abs=1e-6)
    np.testing.assert_allclose(gradient, np.moveaxis(peer_logits.grad.numpy(), 1, -1), atol=1e-7)


@pytest.mark.peer("monai")
def test_binary_losses_with_a_sigmoid_equal_monai():
    logits, labels = random_case(4, classes=1)
    peer_logits = torch.tensor(np.moveaxis(logits, -1, 1))
    target = torch.tensor(labels[:, None], dtype=torch.float32)
    dice = monai.losses.DiceLoss(sigmoid=True, batch=True)(peer_logits, target)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(peer_logits, target)
    assert float(dice_loss(logits, labels, logits=True)) == pytest.approx(float(dice), abs=1e-5)
    assert float(cross_entropy(logits, labels, logits=True)) == pytest.approx(
        float(entropy), abs=1e-6
    )


@pytest.mark.parametrize("background", [False, True])
def test_one_channel_equals_two_channels_whose_background_logit_is_zero(background):
    logits, labels = random_case(5, classes=1)
    two = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    options = {"logits": True, "background": background}
    assert float(dice_loss(logits, labels, **options)) == pytest.approx(
        float(dice_loss(two, labels, **options)), abs=1e-6
    )
    probabilities = 1 / (1 + np.exp(-logits))
    assert float(cross_entropy(probabilities, labels, logits=False)) == pytest.approx(
        float(cross_entropy(two, labels, logits=True)), abs=1e-6
    )


def test_logits_and_their_probabilities_give_the_same_losses():
    logits, labels = random_case(6, classes=4)
    for loss in (dice_loss, cross_entropy):
        from_logits = loss(logits, labels, logits=True)
        from_probabilities = loss(softmax(logits), labels, logits=False)
        assert float(from_logits) == pytest.approx(float(from_probabilities), abs=1e-6)


def test_sums_over_many_voxels_stay_exact():
    rng = np.random.default_rng(7)
    labels = (rng.random((2, 1_000_000)) < 0.01).astype(np.int32)
    p = np.where(labels, 0.9, 0.001).astype(np.float32)
    hit, found, present = (p * labels).sum(dtype=float), p.sum(dtype=float), labels.sum()
    loss = dice_loss(p[..., None], labels, logits=False)
    assert float(loss) == pytest.approx(1 - 2 * hit / (found + present), rel=1e-5)


seeds = st.integers(0, 2**32 - 1)
weights = st.floats(0, 1, width=32)
options = st.fixed_dictionaries(
    {"per": st.sampled_from(["batch", "image"]), "background": st.booleans()}
)


@settings(max_examples=15, deadline=None)
@given(seeds, weights, options, st.floats(0, 50))
def test_dice_and_tversky_lie_between_zero_and_one(seed, alpha, options, scale):
    logits, labels = random_case(seed, scale=scale)
    for loss in (
        dice_loss(logits, labels, logits=True, **options),
        tversky_loss(logits, labels, alpha, logits=True, **options),
    ):
        assert 0 <= float(loss) <= 1


@settings(max_examples=15, deadline=None)
@given(seeds, options)
def test_voxel_order_does_not_matter(seed, options):
    logits, labels = random_case(seed, shape=(2, 12))
    order = np.random.default_rng(seed).permutation(12)
    for loss in (Loss(), Loss((Term("tversky", alpha=0.3, **options),))):
        assert float(loss(logits[:, order], labels[:, order])) == pytest.approx(
            float(loss(logits, labels)), abs=1e-5
        )


@settings(max_examples=15, deadline=None)
@given(seeds, options, st.floats(1e-8, 10))
def test_tversky_with_equal_halves_is_dice(seed, options, smooth):
    logits, labels = random_case(seed)
    common = {"logits": True, "smooth": smooth, **options}
    assert float(tversky_loss(logits, labels, 0.5, **common)) == pytest.approx(
        float(dice_loss(logits, labels, **common)), abs=1e-7
    )


@settings(max_examples=15, deadline=None)
@given(seeds, weights, weights)
def test_tversky_grows_with_alpha_where_voxels_are_missed(seed, one, other):
    labels = np.random.default_rng(seed).integers(0, 2, (1, 20))
    labels[0, 0] = 1
    missing = (np.float32(0.4) * labels)[..., None]  # false negatives, no false positive
    low, high = sorted((one, other))
    losses = [
        float(tversky_loss(missing, labels, alpha, 0.5, logits=False)) for alpha in (low, high)
    ]
    assert losses[0] <= losses[1] + 1e-7
    if high - low > 1e-3:
        assert losses[0] < losses[1]


ALL_LOSSES = Loss(
    (
        Term("dice", background=True),
        Term("tversky", alpha=0.0, beta=1.0, per="image"),
        Term("tversky", alpha=1.0),
        Term("cross-entropy"),
    )
)
ALL_LOSSES_AND_GRADIENTS = jax.jit(jax.value_and_grad(ALL_LOSSES))


@settings(max_examples=25, deadline=None)
@given(
    seed=seeds,
    dtype=st.sampled_from(DTYPES),
    size=st.sampled_from([0.0, 1e-6, 1.0, 100.0, 6e4, 1e30]),
    labels=st.sampled_from(["empty", "one class", "last class", "mixed"]),
    classes=st.sampled_from([1, 3]),
)
def test_values_and_gradients_of_logits_are_finite(seed, dtype, size, labels, classes):
    rng = np.random.default_rng(seed)
    size = min(size, 6e4) if dtype == jnp.float16 else size
    logits = jnp.asarray(size * rng.choice([-1.0, -0.5, 0.0, 1.0], (2, 3, 3, classes)), dtype)
    constant = {"empty": 0, "one class": 1, "last class": max(1, classes - 1)}
    target = np.full((2, 3, 3), constant.get(labels, 0))
    if labels == "mixed":
        target = rng.integers(0, max(2, classes), target.shape)
    value, gradient = ALL_LOSSES_AND_GRADIENTS(logits, target)
    assert value.dtype == jnp.float32
    assert gradient.dtype == dtype
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()


@partial(jax.jit, static_argnums=2)
@jax.value_and_grad
def of_probabilities(p, labels, smooth):
    dice = tversky_loss(p, labels, 0.3, 1.0, logits=False, background=True, smooth=smooth)
    return dice + cross_entropy(p, labels, logits=False)


@settings(max_examples=15, deadline=None)
@given(
    seed=seeds,
    dtype=st.sampled_from(DTYPES),
    values=st.sampled_from([(0.0,), (1.0,), (0.0, 1.0), (0.0, 6e-8, 0.5, 1.0)]),
    foreground=st.sampled_from([0.0, 0.5, 1.0]),
    smooth=st.sampled_from([1e-8, 1e-5, 1.0]),
)
def test_values_and_gradients_of_probabilities_are_finite(seed, dtype, values, foreground, smooth):
    rng = np.random.default_rng(seed)
    p = jnp.asarray(rng.choice(values, (2, 6, 1)), dtype)
    labels = (rng.random((2, 6)) < foreground).astype(int)
    value, gradient = of_probabilities(p, labels, smooth)
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()


KINDS = {
    "dice": lambda per: Loss((Term("dice", per=per),)),
    "tversky": lambda per: Loss((Term("tversky", alpha=0.7, per=per, background=True),)),
    "cross-entropy": lambda per: Loss((Term("cross-entropy"),)),
}


@cache
def jitted(kind, per, logits):
    return jax.jit(jax.value_and_grad(lambda x, y: KINDS[kind](per)(x, y, logits=logits)))


def half_ignored(seed, classes, ignored, images=2, voxels=8):
    """Return logits, labels of which some of each image are ignored, and what is left of both."""
    logits, labels = random_case(seed, shape=(images, voxels), classes=classes)
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(voxels), (images, 1)), axis=1)
    kept = np.sort(order[:, ignored:], axis=1)
    np.put_along_axis(labels, order[:, :ignored], IGNORED, axis=1)
    rest = np.take_along_axis(logits, kept[..., None], 1), np.take_along_axis(labels, kept, 1)
    return logits, labels, kept, rest


@settings(max_examples=15, deadline=None)
@given(
    seed=seeds,
    kind=st.sampled_from(sorted(KINDS)),
    per=st.sampled_from(["batch", "image"]),
    classes=st.sampled_from([1, 3]),
    logits=st.booleans(),
    ignored=st.sampled_from([3, 7]),
)
def test_ignored_voxels_count_as_if_they_were_not_there(seed, kind, per, classes, logits, ignored):
    x, labels, kept, (rest, rest_labels) = half_ignored(seed, classes, ignored)
    if not logits:
        x, rest = (np.exp(-np.abs(array)) for array in (x, rest))
    value, gradient = jitted(kind, per, logits)(x, labels)
    expected, of_the_rest = jitted(kind, per, logits)(rest, rest_labels)
    assert float(value) == pytest.approx(float(expected), abs=1e-6)
    found = np.take_along_axis(np.asarray(gradient), kept[..., None], 1)
    np.testing.assert_allclose(found, of_the_rest, atol=1e-6, rtol=1e-5)
    assert (np.asarray(gradient)[labels == IGNORED] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("size", [1.0, 6e4])
def test_gradient_of_ignored_voxels_is_exactly_zero_in_any_precision(kind, dtype, classes, size):
    logits, labels, _, _ = half_ignored(5, classes, 4)
    value, gradient = jax.value_and_grad(KINDS[kind]("image"))(
        jnp.asarray(np.clip(size * logits, -6e4, 6e4), dtype), labels
    )
    assert jnp.isfinite(value)
    assert gradient.dtype == dtype
    assert jnp.isfinite(gradient).all()
    assert (np.asarray(gradient, np.float32)[labels == IGNORED] == 0).all()


@pytest.mark.peer("torch")
@pytest.mark.parametrize("classes", [2, 5])
def test_cross_entropy_with_ignored_voxels_equals_pytorch(classes):
    logits, labels, _, _ = half_ignored(6, classes, 3, images=3, voxels=40)
    theirs = torch.tensor(np.moveaxis(logits, -1, 1), requires_grad=True)
    loss = torch.nn.functional.cross_entropy(theirs, torch.tensor(labels), ignore_index=IGNORED)
    loss.backward()
    value, gradient = jax.value_and_grad(lambda x: cross_entropy(x, labels, logits=True))(logits)
    assert float(value) == pytest.approx(loss.item(), rel=1e-6)
    np.testing.assert_allclose(np.moveaxis(gradient, -1, 1), theirs.grad.numpy(), atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per", ["batch", "image"])
@pytest.mark.parametrize("label_type", [np.uint8, np.int32])
def test_a_batch_of_which_no_voxel_counts_has_no_loss_and_no_gradient(kind, per, label_type):
    logits, labels = random_case(8)
    nothing = np.full(labels.shape, IGNORED, label_type)
    value, gradient = jax.value_and_grad(KINDS[kind](per))(logits, nothing)
    assert float(value) == 0
    assert (np.asarray(gradient) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per", ["batch", "image"])
def test_an_image_of_which_no_voxel_counts_does_not_dilute_the_others(kind, per):
    logits, labels = random_case(9)
    labels[1] = IGNORED
    loss = KINDS[kind](per)
    assert float(loss(logits, labels)) == pytest.approx(float(loss(logits[:1], labels[:1])))


def test_empty_masks_cost_nothing_when_nothing_is_predicted():
    labels = jnp.zeros((2, 5), int)
    nothing = jnp.zeros((2, 5, 1))
    assert float(dice_loss(nothing, labels, logits=False)) == 0
    assert float(dice_loss(nothing + 0.5, labels, logits=False)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_half_precision_is_summed_in_float32(dtype):
    p = jnp.full((1, 100_000, 1), 0.5, dtype)  # the sum, 50,000 hits, is no float16 step of 0.5
    labels = jnp.ones((1, 100_000), int)
    loss = dice_loss(p, labels, logits=False)
    assert loss.dtype == jnp.float32
    assert float(loss) == pytest.approx(1 / 3, abs=1e-6)


def test_half_precision_gradient_equals_the_float32_gradient():
    logits, labels = random_case(8)
    logits = jnp.asarray(logits, jnp.bfloat16)
    half = jax.grad(Loss())(logits, labels)
    full = jax.grad(Loss())(logits.astype(jnp.float32), labels)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, full.astype(jnp.bfloat16))


def test_gradient_equals_finite_differences():
    logits, labels = random_case(9)
    loss = Loss((Term("tversky", alpha=0.8, background=True), Term("cross-entropy")))
    check_grads(lambda x: loss(x, labels), (logits,), 1, ["rev"], atol=1e-2)


def test_alpha_may_be_traced():
    logits, labels = random_case(10)
    alphas = jnp.array([0.1, 0.5, 0.9])
    batched = jax.jit(jax.vmap(lambda alpha: tversky_loss(logits, labels, alpha, logits=True)))
    one_by_one = [tversky_loss(logits, labels, float(a), logits=True) for a in alphas]
    np.testing.assert_allclose(batched(alphas), one_by_one, atol=1e-6)
    term = jax.jit(lambda alpha: Term("tversky", alpha=alpha)(logits, labels))
    assert float(term(0.9)) == pytest.approx(float(one_by_one[2]), abs=1e-6)


def test_loss_is_the_weighted_sum_of_its_terms():
    logits, labels = random_case(11)
    loss = Loss((Term("dice", weight=2.0), Term("cross-entropy", weight=0.25)))
    expected = 2 * dice_loss(logits, labels, logits=True)
    expected += 0.25 * cross_entropy(logits, labels, logits=True)
    assert float(loss(logits, labels)) == pytest.approx(float(expected), abs=1e-6)


def test_loss_survives_json():
    loss = Loss(
        (
            Term("tversky", weight=0.5, alpha=0.7, beta=0.4, per="image", smooth=1.0),
            Term("dice", background=True),
            Term("cross-entropy", weight=2.0),
        )
    )
    written = json.dumps(loss.to_json())
    assert Loss.from_json(json.loads(written)) == loss
    assert json.loads(written)[2] == {"name": "cross-entropy", "weight": 2.0}
    assert Loss.from_json(json.loads(json.dumps(Loss().to_json()))) == Loss()


def test_loss_is_immutable():
    with pytest.raises(FrozenInstanceError):
        Term().weight = 2.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Term("dise"), "'?dise'?"),
        (lambda: Term("dice", alpha=0.7), "'dice' has no 'alpha'"),
        (lambda: Term("cross-entropy", background=True), "has no 'background': leave it out"),
        (lambda: Term("tversky", alfa=0.7), "has no 'alfa': did you mean 'alpha'?"),
        (lambda: Term("tversky", alpha=-0.1), "alpha is -0.1"),
        (lambda: Term("tversky", alpha=1.5), "alpha is 1.5: give 0 to 1, or beta too"),
        (lambda: Term("tversky", alpha=float("nan")), "alpha must be a number, not nan"),
        (lambda: Term("dice", smooth=0.0), "smooth is 0.0"),
        (lambda: Term("dice", per="voxel"), "per"),
        (lambda: Loss(()), "at least one term"),
        (lambda: Term("dice", weight=-1.0), "weight is -1.0"),
        (lambda: Loss.from_json([{"name": "dice", "gamma": 2}]), "'dice' has no 'gamma'"),
        (
            lambda: Loss.from_json([{"name": "tversky", "alpha": "0.3"}]),
            "alpha must be a number, not '0.3'",
        ),
        (lambda: Loss.from_json(["dice"]), "'dice'"),
        (lambda: Loss.from_json(3), "3"),
    ],
)
def test_impossible_options_are_refused(build, message):
    with pytest.raises((InputError, TypeError), match=message):
        build()


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [((2, 4, 3), (2, 4, 1)), ((2, 4, 3), (4,)), ((2, 4), (2, 4)), ((0, 4, 3), (0, 4))],
)
def test_shapes_that_do_not_match_are_refused(predictions, labels):
    for loss in (dice_loss, cross_entropy):
        with pytest.raises((InputError, TypeError), match=r"\(2, 4|\(0, 4|labels"):
            loss(jnp.zeros(predictions), jnp.zeros(labels, int), logits=True)


@pytest.fixture
def own_losses(monkeypatch):
    """Register losses as another package would, and forget them afterwards."""
    losses = registry("loss")
    losses.names()
    monkeypatch.setattr(losses, "_things", dict(losses._things))

    @register("loss", "soft-overlap")
    def overlap(probabilities, targets, *, power: int = 1, smooth: float):
        hit = (probabilities * targets)[..., 1:].sum()
        return 1 - (2 * hit + smooth) / ((probabilities + targets)[..., 1:].sum() + smooth) ** power

    @register("loss", "squared")
    def squared(predictions, labels, *, logits: bool):
        assert logits
        return jnp.where(labels == IGNORED, 0, (predictions[..., 0] - labels) ** 2).mean()


@pytest.mark.usefixtures("own_losses")
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("logits", [True, False])
def test_loss_of_probabilities_and_targets_sees_no_ignored_voxel(classes, logits):
    x, labels, _, (rest, rest_labels) = half_ignored(5, classes, 3)
    if not logits:
        x, rest = (np.exp(-np.abs(array)) for array in (x, rest))
    loss = Loss((Term("soft-overlap", weight=0.5, smooth=1e-5),))
    expected = 0.5 * dice_loss(rest, np.minimum(rest_labels, 1), logits=logits, smooth=5e-6)
    value, gradient = jax.value_and_grad(lambda x: loss(x, labels, logits=logits))(x)
    if classes == 1:
        assert float(value) == pytest.approx(float(expected), abs=1e-6)
    alone = loss(rest, rest_labels, logits=logits)
    assert float(value) == pytest.approx(float(alone), abs=1e-6)
    assert (np.asarray(gradient)[labels == IGNORED] == 0).all()


@pytest.mark.usefixtures("own_losses")
def test_loss_that_takes_logits_gets_predictions_and_labels_as_they_are():
    logits, labels = random_case(12, classes=1)
    found = Loss((Term("squared"),))(logits, labels)
    assert float(found) == pytest.approx(((logits[..., 0] - labels) ** 2).mean(), rel=1e-5)


@pytest.mark.usefixtures("own_losses")
def test_options_of_a_registered_loss_survive_json():
    loss = Loss((Term("soft-overlap", smooth=1, power=2), Term("squared")))
    written = json.loads(json.dumps(loss.to_json()))
    assert written[0] == {"name": "soft-overlap", "weight": 1.0, "power": 2, "smooth": 1}
    assert Loss.from_json(written) == loss


@pytest.mark.usefixtures("own_losses")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "the loss 'soft-overlap' needs 'smooth'"),
        ({"smooth": 1.0, "gamma": 2}, "the loss 'soft-overlap' has no 'gamma'"),
        ({"smooth": "much"}, "smooth must be a number, not 'much'"),
        ({"smooth": 1.0, "power": 1.5}, "power must be a whole number, not 1.5"),
    ],
)
def test_options_of_a_registered_loss_are_checked_by_their_annotations(options, said):
    with pytest.raises(InputError, match=said):
        Term("soft-overlap", **options)


def test_losses_can_be_hashed_so_that_jax_can_compile_them():
    assert hash(Loss((Term("tversky", alpha=0.7),))) == hash(Loss((Term("tversky", alpha=0.7),)))


def test_labels_of_a_training_cost_what_wider_ones_do():
    logits, labels = random_case(4)
    labels[0, 0] = IGNORED
    with registry("loss").lend(lambda p, targets: ((p - targets) ** 2).sum(), "brier"):
        terms = tuple(Term(name) for name in ("dice", "tversky", "cross-entropy", "brier"))
        for predictions in (logits, logits[..., :1]):
            wide, narrow = (
                jax.value_and_grad(Loss(terms))(predictions, labels.astype(kind))
                for kind in (np.int32, np.uint8)
            )
            jax.tree.map(np.testing.assert_array_equal, wide, narrow)
