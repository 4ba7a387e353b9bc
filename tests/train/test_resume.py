import dataclasses

import pytest

from segjax.data.splits import Split
from segjax.errors import InputError
from segjax.runs.folder import RunFolder
from segjax.train.config import OptimizerConfig, TrainConfig, read_config
from segjax.train.resume import check_run, write_run

CONFIG = TrainConfig("mpunet++", (64, 64, 64))
SPLIT = Split(("a", "b"), ("c",))


def trained(folder, config=CONFIG):
    """Make a folder as a training leaves it."""
    folder.mkdir()
    write_run(folder, config, SPLIT)
    (folder / "checkpoints" / "12").mkdir(parents=True)
    return folder


def test_new_folder_and_own_folder_may_be_used(tmp_path):
    check_run(tmp_path / "new", CONFIG, SPLIT, resume=True)
    check_run(trained(tmp_path / "run"), CONFIG, SPLIT, resume=True)


def test_another_configuration_is_refused_with_the_fields_that_differ(tmp_path):
    folder = trained(tmp_path / "run")
    other = dataclasses.replace(CONFIG, epochs=3, seed=1)
    said = (
        r"epochs \(50 there, 3 now\); seed \(0 there, 1 now\); use that one "
        rf"to go on with it \(--config {folder}/config\.json\)"
    )
    with pytest.raises(InputError, match=said):
        check_run(folder, other, SPLIT, resume=True)


def test_a_training_of_handed_objects_asks_for_them_again(tmp_path):
    handed = dataclasses.replace(CONFIG, model="object:lab.Net")
    said = 'model .* there, "mpunet.*; hand the same objects to fit again'
    with pytest.raises(InputError, match=said):
        check_run(trained(tmp_path / "run", handed), CONFIG, SPLIT, resume=True)
    with pytest.raises(InputError, match="use that one to go on with it"):
        check_run(trained(tmp_path / "other"), handed, SPLIT, resume=True)


ENDLESS = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(schedule="constant"))


def test_training_of_a_constant_rate_may_become_longer(tmp_path):
    folder = trained(tmp_path / "run", ENDLESS)
    longer = dataclasses.replace(ENDLESS, epochs=60)
    check_run(folder, longer, SPLIT, resume=True)
    assert RunFolder(folder).planned_epochs == 50
    write_run(folder, longer, SPLIT)
    assert read_config(folder) == longer


def test_training_never_becomes_shorter(tmp_path):
    folder = trained(tmp_path / "run", ENDLESS)
    with pytest.raises(InputError, match=r"epochs \(50 there, 40 now\)"):
        check_run(folder, dataclasses.replace(ENDLESS, epochs=40), SPLIT, resume=True)


def test_longer_training_may_differ_in_nothing_else(tmp_path):
    folder = trained(tmp_path / "run", ENDLESS)
    with pytest.raises(InputError, match=r"epochs \(50 there, 60 now\); seed \(0 there, 1 now\)"):
        check_run(folder, dataclasses.replace(ENDLESS, epochs=60, seed=1), SPLIT, resume=True)


def test_schedule_laid_out_for_fewer_epochs_says_how_to_train_on(tmp_path):
    folder = trained(tmp_path / "run")
    said = "one-cycle was laid out for 50 epochs.*--init .*run --out OTHER"
    with pytest.raises(InputError, match=said):
        check_run(folder, dataclasses.replace(CONFIG, epochs=60), SPLIT, resume=True)


def test_another_split_is_refused_with_the_cases_that_differ(tmp_path):
    folder = trained(tmp_path / "run")
    names = tuple(f"case{n}" for n in range(9))
    said = rf"other train cases .* b, case0, case1, case2, …\); .*--split {folder}/split\.json"
    with pytest.raises(InputError, match=said):
        check_run(folder, CONFIG, Split(("a", *names), ("c",)), resume=True)
    with pytest.raises(InputError, match=r"other validation cases \(only one of both has d\)"):
        check_run(folder, CONFIG, Split(("a", "b"), ("c", "d")), resume=True)
    check_run(folder, CONFIG, Split(("b", "a"), ("c",)), resume=True)


def test_training_is_not_gone_on_with_unless_asked(tmp_path):
    with pytest.raises(InputError, match="holds a training already"):
        check_run(trained(tmp_path / "run"), CONFIG, SPLIT, resume=False)


def test_run_that_learned_nothing_may_be_replaced(tmp_path):
    write_run(tmp_path, CONFIG, SPLIT)
    other, split = dataclasses.replace(CONFIG, epochs=3), Split(("a",), ())
    check_run(tmp_path, other, split, resume=False)
    write_run(tmp_path, other, split)
    assert read_config(tmp_path) == other


def test_run_that_learned_keeps_its_files(tmp_path):
    folder = trained(tmp_path / "run")
    write_run(folder, dataclasses.replace(CONFIG, epochs=3), SPLIT)
    assert read_config(folder) == CONFIG


@pytest.mark.parametrize("name", ["metrics.csv", "split.json"])
def test_files_that_are_no_run_are_not_touched(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"holds {name} but no config.json"):
        check_run(tmp_path, CONFIG, SPLIT, resume=True)
    assert (tmp_path / name).read_text() == "mine"


def test_checkpoints_without_configuration_are_no_run(tmp_path):
    (tmp_path / "checkpoints" / "12").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds checkpoints but no config\.json"):
        check_run(tmp_path, CONFIG, SPLIT, resume=True)


def test_configuration_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "config.json").write_text('{"theme": "dark"}')
    with pytest.raises(InputError, match="not the configuration of a segjax run"):
        check_run(tmp_path, CONFIG, SPLIT, resume=True)


def test_other_files_in_the_folder_do_no_harm(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    check_run(tmp_path, CONFIG, SPLIT, resume=True)
