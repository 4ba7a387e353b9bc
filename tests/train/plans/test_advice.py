"""Proposals for data sets whose answer is known, because they were made for it."""

import dataclasses
import json
import math
import re
import warnings

import numpy as np
import pytest

from segjax.cli import main
from segjax.data.augment import Flip, Noise, ScaleIntensity
from segjax.data.cache.cache import preprocess
from segjax.data.cases import Case, Dataset, find_cases
from segjax.data.io.formats import write_volume
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import (
    Clip,
    ClipPercentiles,
    CropToForeground,
    Reorient,
    Resample,
    Resize,
    TissuePeak,
    ZScore,
)
from segjax.data.synthesis.transform import PutLesions
from segjax.errors import InputError
from segjax.train.config import TrainConfig
from segjax.train.losses import Loss, Term
from segjax.train.plans.advice import advise, training_bytes
from segjax.train.plans.examine import hit_rate
from segjax.train.plans.plan import plan, read_settings
from segjax.volume import Volume

MOVED = ["affine", "elastic", "noise", "scale-intensity", "bias-field", "motion"]
SUFFIX = {2: ".npy", 3: ".nii.gz"}


def ball(shape, centre, radius):
    axes = np.indices(shape)
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) <= radius**2


def write(folder, name, label, *, spacing=1.0, image=None, seed=0):
    """Write a case; its image is noise about 100 unless it is given."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 10, label.shape) if image is None else image
    affine = np.diag([*np.broadcast_to(spacing, label.ndim), 1.0])
    for part, data in (("images", image.astype(np.float32)), ("labels", label.astype(np.uint8))):
        write_volume(Volume(data, affine), folder / part / (name + SUFFIX[label.ndim]))


def proposal(folder, **options):
    advice = advise(find_cases(folder), **options)
    return advice.config, {reason.choice: reason for reason in advice.reasons}, advice.facts


def steps(config):
    return [type(step) for step in config.pipeline.steps]


def cube(shape=(24, 24, 24), at=(8, 9, 10)):
    return ball(shape, at, 4)


def test_volumes_of_one_spacing_are_left_at_it(tmp_path):
    for n in range(3):
        write(tmp_path, f"c{n}", cube(), spacing=0.8)
    config, why, facts = proposal(tmp_path)
    assert steps(config) == [Reorient, Resample, ZScore]
    untouched = Resample((0.8, 0.8, 0.8), tolerance=0.05)
    assert config.pipeline.steps == (Reorient("RAS"), untouched, ZScore("all"))
    assert config.model == "mpunet++"
    assert "0.8 × 0.8 × 0.8 mm" in why["spacing"].why
    assert facts["spacing"] == "0.8 × 0.8 × 0.8 mm"
    assert facts["shape"] == "24 × 24 × 24"
    assert set(why) == {
        "spacing", "network", "normalisation", "patch", "batch", "foreground", "mirroring",
        "augmentation", "length",
    }  # fmt: skip


def test_pieces_of_foreground_are_counted_and_measured(tmp_path):
    label = ball((30, 30, 30), (6, 6, 6), 2) | ball((30, 30, 30), (20, 20, 20), 2)
    for n in range(2):
        write(tmp_path, f"c{n}", label, spacing=2.0)
    _, _, facts = proposal(tmp_path)
    millilitres = label.sum() / 2 * 8 / 1000
    assert facts["pieces"].startswith(f"2.0 of foreground in a case, of {millilitres:.3g} ml")
    assert facts["labels"] == f"lesion {label.mean():.2%} of the voxels"


def test_different_spacings_are_brought_to_their_median(tmp_path):
    spacings = [(1, 1, 1), (1, 1, 1.5), (1.2, 1, 1.2), (0.9, 1, 1.2), (1, 1, 3)]
    for n, spacing in enumerate(spacings):
        write(tmp_path, f"c{n}", cube(), spacing=spacing)
    config, why, _ = proposal(tmp_path)
    assert config.pipeline.steps[1] == Resample((1.0, 1.0, 1.2), tolerance=0.05)
    assert "0.9 × 1 × 1 mm to 1.2 × 1 × 3 mm" in why["spacing"].why
    with pytest.warns(
        UserWarning, match=r"from 0\.9 × 1 × 1 to 1\.2 × 1 × 3 mm, and nothing resam"
    ):
        usual(find_cases(tmp_path), pipeline=Pipeline((Reorient("RAS"), ZScore())))
    assert usual(find_cases(tmp_path)).pipeline.steps[1] == config.pipeline.steps[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        usual(find_cases(tmp_path), pipeline=config.pipeline)


def test_thick_slices_go_last_and_to_a_2d_network(tmp_path):
    for n, thick in enumerate((6.0, 5.0, 6.0)):  # sagittal: the first axis is the coarse one
        write(tmp_path, f"c{n}", cube((6, 40, 36), (3, 12, 14)), spacing=(thick, 0.5, 0.5))
    config, why, _ = proposal(tmp_path)
    assert config.model == "unet2d-k3"
    assert config.pipeline.steps[0] == Reorient("ASR")
    # nearly the thinnest of the slices: resampling must not blur them all to the thickest
    assert config.pipeline.steps[1] == Resample((0.5, 0.5, 5.2), tolerance=0.05)
    assert config.patch_size == (64, 64, 1)
    assert "slices, not volumes" in why["network"].why


def test_flat_volumes_go_to_a_2d_network(tmp_path):
    for n in range(2):
        write(tmp_path, f"c{n}", cube((40, 40, 5), (20, 12, 2)))
    config, why, _ = proposal(tmp_path)
    assert config.model == "unet2d-k3"
    assert "40 × 40 × 5 voxels are too flat" in why["network"].why


def test_images_go_to_a_2d_network_and_wishes_are_granted(tmp_path):
    for n in range(2):
        write(tmp_path, f"c{n}", ball((40, 48), (10, 12), 4))
    config, _, facts = proposal(tmp_path)
    assert (config.model, config.patch_size) == ("unet2d-k3", (64, 64))
    assert "pixels" in facts["pieces"]
    config, why, _ = proposal(tmp_path, model="unet2d-k5")
    assert (config.model, why["network"].why) == ("unet2d-k5", "asked for")
    with pytest.raises(InputError, match="needs volumes"):
        proposal(tmp_path, model="unet3d")


def test_removed_background_and_outliers_are_seen(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(2):
        image = rng.normal(100, 10, (24, 24, 24))
        image[:12] = 0
        image[20, 20, 20] = 5000
        write(tmp_path, f"c{n}", cube(), image=image)
    config, why, _ = proposal(tmp_path)
    assert config.pipeline.steps[2:] == (ClipPercentiles(), ZScore("nonzero"))
    assert "50% of the voxels are exactly 0" in why["normalisation"].why


@pytest.mark.parametrize(
    ("place", "fraction", "hits"), [(4, 0.75, "0%"), (90, 0.5, None), (256, 0.33, "100%")]
)
def test_rare_foreground_is_sought_more_often(tmp_path, place, fraction, hits):
    for n in range(2):
        write(tmp_path, f"c{n}", ball((512, 512), (place, place), 3))
    config, why, _ = proposal(tmp_path)
    assert config.patch_size == (256, 256)
    assert config.foreground == fraction
    assert hits is None or why["foreground"].why.startswith(f"{hits} of the patches")


def test_share_of_patches_with_foreground_is_that_of_their_places():
    label = np.zeros((100,), np.uint8)
    label[50] = 1
    assert hit_rate([label] * 200, (21,)) == pytest.approx(21 / 80, abs=0.02)
    assert hit_rate([np.zeros((5, 5), np.uint8)], (8, 8)) == 0


def symmetric_head(side, n):
    """A head that is its own mirror image from left to right alone, with a lesion on a side."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, 24)] * 3, indexing="ij")
    head = (100 + 80 * y + 60 * z) * (x**2 + y**2 + z**2 < 0.9)
    lesion = ball((24, 24, 24), (7 if side else 16, 12 + n % 3, 12 - n % 2), 2)
    return head + 50 * lesion, lesion


def test_mirrors_follow_symmetry_where_lesions_lie_on_either_side(tmp_path):
    for n in range(6):
        image, lesion = symmetric_head(n % 2, n)
        write(tmp_path, f"c{n}", lesion, image=image)
    config, why, _ = proposal(tmp_path)
    assert config.augment[0] == Flip(axes=(0,))
    assert why["mirroring"].value == "left-right"


def test_lateral_labels_are_not_mirrored(tmp_path):
    for n in range(6):
        image, left = symmetric_head(False, n)
        right = symmetric_head(True, n)[1]
        write(tmp_path, f"c{n}", left + 2 * right, image=image)
    config, why, _ = proposal(tmp_path)
    assert not any(isinstance(transform, Flip) for transform in config.augment)
    assert "left-right: labels keep to their side" in why["mirroring"].why


def test_few_cases_cannot_tell_sides(tmp_path):
    for n in range(3):
        write(tmp_path, f"c{n}", cube())
    _, why, _ = proposal(tmp_path)
    assert why["mirroring"].value == "none"
    assert "3 labelled cases cannot tell" in why["mirroring"].why


def test_batch_and_then_patch_shrink_until_they_fit(tmp_path):
    for n in range(2):
        write(tmp_path, f"c{n}", ball((64, 64), (20, 20), 4))
    usual, why, _ = proposal(tmp_path, memory_gb=100.0)
    assert (usual.batch_size, usual.patch_size) == (8, (64, 64))
    assert "of 100 GB allowed" in why["batch"].why
    one = training_bytes(dataclasses.replace(usual, batch_size=1)) / 1e9
    config, why, _ = proposal(tmp_path, memory_gb=one * 1.01)
    assert (config.batch_size, config.patch_size) == (1, (64, 64))
    assert "a usual one would not fit" in why["batch"].why
    half = training_bytes(dataclasses.replace(usual, batch_size=1, patch_size=(32, 64))) / 1e9
    config, why, _ = proposal(tmp_path, memory_gb=half * 1.01)
    assert config.patch_size == (32, 64)
    assert "64 × 64 is too much" in why["patch"].why
    with pytest.raises(InputError, match="even with a single patch"):
        proposal(tmp_path, memory_gb=1e-4)


def test_memory_that_nobody_knows_limits_nothing(tmp_path, monkeypatch):
    for n in range(2):
        write(tmp_path, f"c{n}", ball((64, 64), (20, 20), 4))
    usual, _, _ = proposal(tmp_path, memory_gb=100.0)
    for found, said in (
        (None, "GB; how much there is cannot be told here: say it (--memory)"),
        ((8 * 10**9, "container"), "of 4 GB, half of the container's memory"),
    ):
        monkeypatch.setattr("segjax.train.plans.advice.device_bytes", lambda _, found=found: found)
        config, why, _ = proposal(tmp_path)
        assert config == usual
        assert said in why["batch"].why


def test_memory_grows_with_channels_of_the_input_and_size():
    small = TrainConfig("unet2d-k3", (64, 64), batch_size=8)
    big = dataclasses.replace(small, patch_size=(256, 256))
    parameters = 4 * 4 * 2_651_580
    ratio = (training_bytes(big) - parameters) / (training_bytes(small) - parameters)
    assert ratio == pytest.approx(16, rel=0.01)


def test_plan_is_written_and_trained_with(tmp_path, capsys):
    data, path = tmp_path / "data", tmp_path / "plan.json"
    for n in range(4):
        write(data, f"c{n}", cube((16, 16, 16)), spacing=1 + n / 4)
    assert main(["plan", str(data), "--out", str(path), "--memory", "2"]) == 0
    text = capsys.readouterr().out
    for words in ("4 images looked at", "because", "normalisation", str(path)):
        assert words in text
    planned = plan(data, read_settings(path)).config
    assert planned.to_json() == {
        k: v for k, v in json.loads(path.read_text()).items() if k != "segjax"
    }
    assert main(["plan", str(data), "--out", str(path)]) == 1
    assert "plan.json" in capsys.readouterr().err


def test_plan_of_preprocessed_images_is_refused(tmp_path, capsys):
    write(tmp_path / "data", "a", cube((16, 16, 16)))
    dataset: Dataset = find_cases(tmp_path / "data")
    list(preprocess(dataset, Pipeline((ZScore(),)), tmp_path / "cache", workers=1))
    assert main(["plan", str(tmp_path / "cache")]) == 1
    assert "plan on the ones it was made of" in capsys.readouterr().err


def test_images_without_any_label_are_told(tmp_path):
    write(tmp_path, "a", cube())
    write(tmp_path, "b", np.zeros((24, 24, 24)))
    _, _, facts = proposal(tmp_path)
    assert facts["cases"] == "2 (2 images looked at, 1 without any label)"


def test_spacing_of_a_cache_is_that_it_was_brought_to(tmp_path):
    for n in range(2):
        write(tmp_path / "data", f"c{n}", cube((16, 16, 16)), spacing=1.0 + n)
    from segjax.data.cache.cache import open_cache
    from segjax.train.plans.survey import survey

    list(
        preprocess(
            find_cases(tmp_path / "data"),
            Pipeline((Resample((1.5, 1.5, 1.5)),)),
            tmp_path / "cache",
            workers=1,
        )
    )
    cache = open_cache(tmp_path / "cache")
    found = survey(Dataset(cache.cases, cache.labels, cache.channels), cache.pipeline)
    np.testing.assert_allclose(found.spacings, 1.5)


# What a training takes without a look at the images


def usual(dataset, model=None, **options):
    return advise(dataset, model=model, look=False, **options).config


def labelled(folder, shapes, *, values=(0, 1), rank=3) -> Dataset:
    cases = []
    suffix = ".nii.gz" if rank == 3 else ".png"
    for number, shape in enumerate(shapes):
        label = np.zeros(shape, np.uint8)
        label.flat[: len(values)] = values
        paths = [folder / f"{kind}{number}{suffix}" for kind in ("image", "label")]
        affine = np.eye(rank + 1)
        write_volume(Volume(label, affine), paths[0])
        write_volume(Volume(label, affine), paths[1])
        cases.append(Case(f"case{number}", (paths[0],), paths[1]))
    return Dataset(tuple(cases))


def test_default_patch_covers_small_volumes_in_multiples_of_eight(tmp_path):
    # 20 sizes along x, 19 of at most 38: the patch covers these, and not the one of 60
    shapes = [(38, 55, 42)] * 19 + [(60, 55, 42)]
    config = usual(labelled(tmp_path, shapes), "mpunet++")
    assert config.patch_size == (40, 56, 48)
    assert config.patches_per_case == 1


def test_default_patch_of_large_volumes_is_64_and_sees_them_as_a_whole(tmp_path):
    config = usual(labelled(tmp_path, [(128, 128, 64)]), "mpunet++")
    assert config.patch_size == (64, 64, 64)
    assert config.patches_per_case == 4
    assert config.batch_size == 2


def test_default_patch_is_measured_after_the_spatial_steps(tmp_path):
    pipeline = Pipeline((Resample((2.0, 2.0, 2.0)),))
    config = usual(labelled(tmp_path, [(64, 64, 32)]), pipeline=pipeline)
    assert config.patch_size == (32, 32, 16)
    assert config.pipeline == pipeline


def test_resized_pictures_are_drawn_from_as_the_network_sees_them(tmp_path, recwarn):
    cases = []
    for size in (64, 128) * 3:
        label = np.zeros((size, size), np.uint8)
        label[: size // 2, : size // 2] = 1
        file = tmp_path / f"{len(cases)}.png"
        write_volume(Volume(label, np.eye(3)), file)
        cases.append(Case(file.stem, (file,), file))
    pipeline = Pipeline((Resize(32),))
    made = advise(Dataset(tuple(cases)), look=True, pipeline=pipeline)
    assert made.config.patch_size == (32, 32)
    why = {reason.choice: reason.why for reason in made.reasons}
    assert why["foreground"].startswith("100%")
    assert not [one for one in recwarn if "nothing resamples" in str(one.message)]


def test_defaults_of_volumes(tmp_path):
    dataset = write_dataset(tmp_path, count=3, shape=(24, 24, 24))
    config = usual(dataset)
    assert config.model == "mpunet++"
    assert config.labels == ("background", "lesion")
    resample = Resample((1.0, 1.0, 1.0), tolerance=0.05)
    assert config.pipeline == Pipeline((Reorient("RAS"), resample, ZScore()))
    assert config.loss == Loss((Term("dice"), Term("cross-entropy")))
    names = [transform.name for transform in config.augment]
    assert names == ["affine", "elastic", "gamma", "noise", "bias-field", "motion"]
    assert config.optimizer.schedule == "one-cycle"
    assert config.batch_size == 4
    assert 900 <= config.epochs <= 1100  # one step per epoch
    TrainConfig.from_json(config.to_json())


def test_many_volumes_are_neither_turned_nor_bent(tmp_path):
    config = usual(labelled(tmp_path, [(24, 24, 24)] * 20))
    assert [type(transform) for transform in config.augment] == [ScaleIntensity, Noise]


@pytest.mark.parametrize(("radius", "patch"), [(3, (32, 32, 32)), (6, (64, 64, 48))])
def test_tiny_pieces_of_foreground_get_many_small_patches(tmp_path, radius, patch):
    shape = (64, 60, 48)
    write(tmp_path, "c0", ball(shape, (20, 30, 20), radius) | ball(shape, (40, 30, 20), radius))
    config, why, _ = proposal(tmp_path, memory_gb=8.0)
    assert config.patch_size == patch
    assert ("123 voxels in the median" in why["patch"].why) == (radius == 3)
    steps = config.epochs * math.ceil(config.patches_per_case / config.batch_size)
    assert 1000 <= steps <= 1010


QUARTILES = 13.49  # between those of noise with a standard deviation of 10


def brain(folder, name, *, brighter=2.0, background=0.0, labels=1, large=False, seed=0):
    """Write a brain with two tiny lesions, so many interquartile ranges brighter."""
    shape = (64, 60, 48)
    places = ((30, 30, 20), (50, 30, 20))
    pieces = [ball(shape, place, 3) for place in places]
    label = pieces[0] * 1 + pieces[1] * labels
    if large:
        label[ball(shape, (40, 12, 35), 9)] = 1
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 10, shape) + brighter * QUARTILES * (label > 0)
    image[:16] = background
    write(folder, name, label, image=image)


def put_in(config):
    return [each for each in config.augment if isinstance(each, PutLesions)]


@pytest.mark.parametrize(("brighter", "bounds"), [(2.0, (1.33, 3.33)), (-1.5, (-2.5, -1.0))])
def test_lesions_are_drawn_into_few_extracted_brains_as_bright_as_theirs(
    tmp_path, brighter, bounds
):
    brain(tmp_path, "c0", brighter=brighter)
    config, why, _ = proposal(tmp_path, memory_gb=8.0)
    assert [each.by_volume for each in put_in(config)] == [False, True]
    for each in put_in(config):
        assert each.contrast == pytest.approx(bounds, abs=0.2)
    assert config.augment[2].name == "affine"
    assert config.loss == Loss((Term("tversky", alpha=0.8),))
    told = re.search(r"([+-][\d.]+) interquartile ranges", why["augmentation"].why)
    assert float(told[1]) == pytest.approx(brighter, abs=0.2)
    assert set(why) >= {"augmentation", "loss"}
    if brighter > 0:
        upper = (CropToForeground(), TissuePeak(side="upper"), Clip(low=-5.0, high=8.0))
        assert config.pipeline.steps[2:] == upper
    else:
        assert config.pipeline.steps[-1] == ZScore("nonzero")


def test_lesions_are_drawn_as_bright_as_theirs_in_every_channel(tmp_path):
    for channel, brighter in (("0000", 2.0), ("0001", -1.0)):
        brain(tmp_path, f"c0_{channel}", brighter=brighter)
    (tmp_path / "labels/c0_0000.nii.gz").rename(tmp_path / "labels/c0.nii.gz")
    (tmp_path / "labels/c0_0001.nii.gz").unlink()
    config, _, _ = proposal(tmp_path, memory_gb=8.0)
    assert put_in(config)[0].contrast == pytest.approx((1.33, 3.33, -1.67, -0.67), abs=0.2)


@pytest.mark.parametrize(
    ("cases", "options"),
    [
        (4, {}),
        (1, {"background": 90.0}),
        (1, {"brighter": 0.2}),
        (1, {"labels": 2}),
        (1, {"large": True}),
    ],
    ids=["four cases", "heads", "lesions that hardly differ", "two labels", "many lesions"],
)
def test_lesions_are_not_drawn_where_nothing_speaks_for_it(tmp_path, cases, options):
    for n in range(cases):
        brain(tmp_path, f"c{n}", seed=n, **options)
    config, why, _ = proposal(tmp_path, memory_gb=8.0)
    assert config.patch_size == (32, 32, 32)
    assert not put_in(config)
    assert config.loss == Loss()
    assert "loss" not in why


def test_few_brains_without_any_lesion_are_planned_without_a_warning(tmp_path):
    image = np.random.default_rng(0).normal(100, 10, (64, 60, 48))
    image[:16] = 0
    write(tmp_path, "c0", ball(image.shape, (30, 30, 20), 3) & False, image=image)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = dataclasses.replace(find_cases(tmp_path), labels={0: "background", 1: "lesion"})
        config = advise(dataset, memory_gb=8.0).config
    assert not put_in(config)


def test_lesions_are_not_drawn_where_another_augmentation_is_asked_for(tmp_path):
    brain(tmp_path, "c0")
    chosen = plan(tmp_path, {"augment": []}, memory_gb=8.0, validation=0)
    assert (chosen.config.augment, chosen.config.loss) == ((), Loss())
    assert not {reason.choice for reason in chosen.reasons} & {"augmentation", "loss"}


@pytest.mark.parametrize(
    ("patch", "batch_size", "patches_per_case"), [((64, 64, 48), 2, 1), ((32, 32, 32), 8, 64)]
)
def test_many_patches_make_a_batch_only_if_they_are_small(
    tmp_path, patch, batch_size, patches_per_case
):
    write(tmp_path, "c0", ball((64, 60, 48), (20, 30, 20), 3))
    config = plan(tmp_path, {"patch_size": patch}, memory_gb=8.0, validation=0).config
    assert config.patch_size == patch
    assert (config.batch_size, config.patches_per_case) == (batch_size, patches_per_case)


def test_defaults_of_images(tmp_path):
    config = usual(labelled(tmp_path, [(300, 70)], rank=2), "unet2d-k3")
    assert config.patch_size == (256, 96)
    assert config.batch_size == 8
    assert (config.dropout, config.optimizer.learning_rate) == (0.0, 5e-3)
    assert [transform.name for transform in config.augment] == MOVED


def test_2d_network_on_volumes_gets_slices(tmp_path):
    config = usual(labelled(tmp_path, [(60, 70, 20)]), "unet2d-k3")
    assert config.patch_size == (64, 96, 1)
    assert [transform.name for transform in config.augment] == MOVED


def test_3d_network_on_images_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"model mpunet\+\+ needs volumes, but the cases are 2D"):
        usual(labelled(tmp_path, [(30, 40)], rank=2), "mpunet++")
