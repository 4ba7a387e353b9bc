import numpy as np
import pytest

from segjax.data.cache.cache import open_cache, preprocess
from segjax.data.cases import find_subjects
from segjax.data.io.formats import read_image, read_volume
from segjax.data.phantom.dataset import phantom
from segjax.data.prepare.pipeline import (
    BiasFieldCorrection,
    BrainExtraction,
    Pipeline,
)
from segjax.data.prepare.presets import names, preset
from segjax.errors import InputError
from segjax.grid import orientation, reorient
from segjax.volume import Volume


def steps_of(name: str) -> list[str]:
    return [step.name for step in preset(name).steps]


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


@pytest.mark.parametrize("name", names())
def test_preset_survives_json(name):
    assert Pipeline.from_json(preset(name).to_json()) == preset(name)


@pytest.mark.parametrize("method", ["hd-bet", "zero-background", "brain.onnx"])
def test_method_of_brain_extraction_can_be_chosen(method):
    steps = preset("ms-7t", brain=method).steps
    assert BrainExtraction(method) in steps
    assert [step.name for step in steps] == steps_of("ms-7t")


def test_unknown_names_and_needless_methods_are_refused():
    with pytest.raises(InputError, match="no preset is named 'ms-3t': choose ms-7t, ms-7t-rel"):
        preset("ms-3t")
    with pytest.raises(InputError, match="'meningioma-2d' extracts no brain: leave 'hd-bet' out"):
        preset("meningioma-2d", brain="hd-bet")
    with pytest.raises(InputError, match="skull-off"):
        preset("ms-7t", brain="skull-off")


def test_ms_7t_gives_intensities_from_0_to_1_at_1_mm_in_ras():
    head, _ = phantom(0, shape=(48, 60, 56), spacing=3.0)
    head = Volume(head.data[::-1], head.affine @ np.diag([-1.0, 1.0, 1.0, 1.0]))
    processed = preset("ms-7t").apply(head)
    assert processed.spacing == pytest.approx((1, 1, 1))
    assert orientation(processed.affine) == "RAS"
    assert processed.spatial_shape == (144, 180, 168)
    assert (processed.data.min(), processed.data.max()) == (0, pytest.approx(1, abs=0.1))
    assert 0.05 < np.mean(processed.data > 0) < 0.6  # the skull is gone


def test_ms_7t_released_gives_its_shape_and_z_scores_above_the_mean():
    heads = [phantom(seed, shape=(48, 60, 56), spacing=3.0)[0] for seed in range(2)]
    processed = preset("ms-7t-released").fit(lambda: heads).apply(heads[0])
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
    pipeline = preset("meningioma-2d")
    assert not pipeline.fitted
    pipeline = pipeline.fit(lambda: slices)
    processed = [pipeline.apply(image).data for image in slices]
    assert {(float(p.min()), float(p.max())) for p in processed} == {(-1.0, 1.0)}


def test_extracted_brains_go_through_ms_7t_without_harm(data_dir):
    """Nothing of the brain is lost, its grid stays, and intensities only change by a slow field."""
    folder = data_dir / "ms_lesions" / "patient07"
    flair = reorient(read_image(folder / "flair.nii.gz"))
    first = Pipeline(preset("ms-7t").steps[:3])
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
def test_presets_keep_the_lesions_of_real_patients(data_dir, tmp_path):
    dataset = find_subjects(
        data_dir / "ms_lesions", images=["flair.nii.gz"], label="lesions.nii.gz"
    )
    for name, learned in (("ms-7t", 0), ("ms-7t-released", 2)):
        preprocess(dataset, preset(name), tmp_path / name, workers=1)
        cache = open_cache(tmp_path / name)
        assert len(cache.learned_from) == learned
        for case in cache.cases:
            raw = read_volume(case.source.label).data
            assert case.foreground.size == pytest.approx(np.count_nonzero(raw), rel=0.001)
            inside, outside = case.image[..., 0][case.label > 0], case.image[..., 0]
            assert np.median(inside) > np.percentile(outside, 90)  # bright in FLAIR
