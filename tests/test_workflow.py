import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segjax import workflow
from segjax.data.datasets import Case
from segjax.data.formats import write_volume
from segjax.data.phantom import write_dataset
from segjax.errors import InputError
from segjax.volume import Volume
from segjax.workflow import Segmentation, check_all, plan, read_settings, segment


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, count=5, shape=(16, 16, 16))
    return folder


def test_settings_replace_defaults_and_later_ones_win(data):
    config = plan(data, {"epochs": 3, "seed": 1}, {"epochs": 4}).config
    assert (config.model, config.epochs, config.seed) == ("mpunet++", 4, 1)


def test_optimizer_is_merged_field_by_field(data):
    default = plan(data).config.optimizer
    changed = plan(
        data, {"optimizer": {"learning_rate": 0.5}}, {"optimizer": {"schedule": "cosine"}}
    ).config.optimizer
    assert (changed.learning_rate, changed.schedule) == (0.5, "cosine")
    assert changed.weight_decay == default.weight_decay


def test_preprocessing_among_the_settings_decides_the_patch(data):
    steps = [{"step": "crop-or-pad", "shape": [40, 16, 16]}]
    config = plan(data, {"pipeline": steps}).config
    assert config.pipeline.to_json() == steps
    assert config.patch_size == (40, 16, 16)


def test_split_has_the_asked_sizes_and_does_not_overlap(data):
    split = plan(data, validation=0.2, test=0.4).split
    assert (len(split.train), len(split.validation), len(split.test)) == (2, 1, 2)
    assert len({*split.train, *split.validation, *split.test}) == 5


def test_validation_cases_are_those_of_the_split(data):
    planned = plan(data, validation=0.4)
    assert tuple(case.name for case in planned.validation_cases) == planned.split.validation


def test_unknown_settings_are_named(data):
    with pytest.raises(InputError, match="learning_speed"):
        plan(data, {"learning_speed": 1})


def test_settings_are_read_from_the_config_of_a_run(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"segjax": "0.1.0", "epochs": 5}))
    assert read_settings(path) == {"epochs": 5}


@pytest.mark.parametrize("text", ["{", "[1]", None])
def test_unreadable_settings_are_named(text, tmp_path):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"config\.json"):
        read_settings(path)


class StandInPredictor:
    """Marks 3 voxels as label 1 and 2 voxels as label 2; cannot read cases named ``bad``."""

    metadata = SimpleNamespace(labels=("background", "one", "two"))

    def __init__(self, rank: int = 3):
        self.rank = rank

    def predict_files(self, cases: Sequence[Case], out: Path, **options: bool) -> list[Path]:
        (case,) = cases
        if case.name == "bad":
            raise InputError("bad.nii.gz: cannot be read")
        data = np.zeros((4,) * self.rank, np.uint8)
        data.flat[:5] = (1, 1, 1, 2, 2)
        affine = np.diag([10.0] * self.rank + [1.0])
        path = Path(out) / (case.name + (".nii.gz" if self.rank == 3 else ".png"))
        write_volume(Volume(data, affine), path)
        return [path]


def cases(*names: str) -> list[Case]:
    return [Case(name, (Path(f"{name}.nii.gz"),)) for name in names]


def test_segmented_images_tell_the_millilitres_of_each_label(tmp_path):
    (result,) = segment(StandInPredictor(), cases("a"), tmp_path)
    assert (result.case, result.sizes, result.unit) == ("a", (3.0, 2.0), "ml")
    assert result.seconds > 0
    check_all([result])


def test_segmented_2d_images_tell_pixels(tmp_path):
    (result,) = segment(StandInPredictor(rank=2), cases("a"), tmp_path)
    assert (result.sizes, result.unit) == ((3.0, 2.0), "pixels")


def test_one_bad_image_does_not_stop_the_others(tmp_path):
    results = list(segment(StandInPredictor(), cases("bad", "a"), tmp_path))
    assert [bool(result.error) for result in results] == [True, False]
    with pytest.raises(InputError, match=r"bad\.nii\.gz: cannot be read \(1 of 2 images failed\)"):
        check_all(results)


def test_single_bad_image_has_its_message_alone():
    with pytest.raises(InputError, match=r"^broken$"):
        check_all([Segmentation("a", 1.0, error="broken")])


def test_finished_training_is_not_done_again(data, tmp_path, monkeypatch):
    from segjax.train import fit

    result = fit.FitResult(tmp_path, 3, 2, 0.9, 1.0)

    def finished(*_: object) -> None:
        raise fit.RunFinishedError(result)

    monkeypatch.setattr(fit, "fit", finished)
    assert workflow.train(plan(data), tmp_path) == result
