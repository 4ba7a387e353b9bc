"""Cross-validation as a user runs it, on a data set of seconds."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from segjax import workflow
from segjax.cli import main
from segjax.data.cache.cache import preprocess
from segjax.data.cases import find_cases
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import HistogramStandardization, ZScore
from segjax.train import devices
from segjax.train.config import TrainConfig, write_config

METRICS = "run,epoch,split,case,label,metric,value\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "heads"
    write_dataset(folder, count=6, shape=(40, 32))
    return folder


@pytest.fixture
def trained(monkeypatch):
    """Stand in for training and export; return what would have been trained."""
    runs = {}

    def train(plan, run, **_):
        runs[run.name] = plan
        run.mkdir(parents=True, exist_ok=True)
        rows = [f"run,1,validation,{c},lesion,dice,0.{len(runs)}" for c in plan.split.validation]
        (run / "metrics.csv").write_text(METRICS + "\n".join(rows) + "\n")
        return SimpleNamespace(best_dice=0.5, best_epoch=1)

    monkeypatch.setattr(workflow, "train", train)
    monkeypatch.setattr(workflow, "finish", lambda *_: {})
    return runs


def cross_validate(data, out, *options):
    command = ["train", "--data", str(data), "--out", str(out), "--model", "unet2d-k3"]
    return main([*command, *options])


def test_all_folds_are_trained_and_summed_up(data, tmp_path, trained, capsys):
    assert cross_validate(data, tmp_path, "--folds", "3", "--neighbours", "2") == 0
    assert list(trained) == ["fold0", "fold1", "fold2"]
    validated = [name for plan in trained.values() for name in plan.split.validation]
    assert sorted(validated) == [f"ms_{n:03d}" for n in range(6)]
    text = capsys.readouterr().out
    assert "0.2000 ± 0.1000" in text
    with (tmp_path / "folds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["fold"] for row in rows] == ["0", "0", "1", "1", "2", "2"]


def test_single_folds_add_up_to_the_same(data, tmp_path, trained, capsys):
    for fold in ("2", "0"):
        assert cross_validate(data, tmp_path, "--folds", "3", "--fold", fold) == 0
    assert list(trained) == ["fold2", "fold0"]
    assert "fold 0" in capsys.readouterr().out.rpartition("Dice")[2]
    assert len((tmp_path / "folds.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fold", "1"], "--fold needs the number of --folds, or the --split of every fold"),
        (["--group-by", "a"], "'a' finds nothing"),
        (["--neighbours", "2", "--groups", "p.csv"], "by one only"),
        (["--groups", "absent.csv"], "absent.csv: there is no such file"),
        (["--folds", "2", "--fold", "2"], "fold 2: give one from 0 to 1, or all"),
        (["--folds", "9"], "9 folds of 6 cases"),
        (["--folds", "2", "--group-by", "x"], "'x' finds nothing"),
        (["--folds", "2", "--split", "split.json"], "leave out --split"),
        (["--folds", "2", "--test", "0.2"], "leave out --split, --validation and --test"),
        (["--folds", "2", "--validation", "0.3"], "--validation and --test"),
    ],
)
def test_folds_that_cannot_be_are_refused(data, tmp_path, trained, options, message, capsys):
    assert cross_validate(data, tmp_path, *options) == 1
    assert message in capsys.readouterr().err
    assert not trained


@pytest.mark.parametrize("option", [["--neighbours", "2"], ["--test", "0.2"]])
def test_a_split_leaves_nothing_to_deal(data, tmp_path, trained, option, capsys):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["ms_000"], "validation": ["ms_001"]}))
    assert cross_validate(data, tmp_path / "run", "--split", str(path), *option) == 1
    assert f"{path}: says which cases are for what: leave out" in capsys.readouterr().err
    assert not trained


def test_patients_of_a_table_are_never_parted(data, tmp_path, trained):
    table = tmp_path / "patients.csv"
    table.write_text("case,patient\n" + "".join(f"ms_00{n},p{n % 3}\n" for n in range(6)))
    options = ["--groups", str(table), "--test", "0.3", "--validation", "0.3"]
    assert cross_validate(data, tmp_path / "run", *options) == 0
    split = trained["run"].split
    for part in (split.train, split.validation, split.test):
        first, second = (int(name[-1]) for name in part)
        assert abs(first - second) == 3


def test_folds_of_nnunet_are_trained_into_folders_of_their_own(data, tmp_path, trained, capsys):
    raw = tmp_path / "nnUNet_raw" / "Dataset004_Heads"
    for part in ("images", "labels"):
        shutil.copytree(data / part, raw / f"{part}Tr")
    names, path = [f"ms_00{n}" for n in range(6)], tmp_path / "splits_final.json"
    folds = [{"train": names[2:], "val": names[:2]}, {"train": names[:4], "val": names[4:]}]
    path.write_text(json.dumps(folds))
    assert cross_validate(raw.parent, tmp_path / "cv", "--split", str(path)) == 0
    assert [(name, *plan.split.validation) for name, plan in trained.items()] == [
        ("fold0", "ms_000", "ms_001"),
        ("fold1", "ms_004", "ms_005"),
    ]
    assert (tmp_path / "cv" / "folds.csv").is_file()
    trained.clear()
    assert cross_validate(raw, tmp_path / "one", "--split", str(path), "--fold", "1") == 0
    assert list(trained) == ["fold1"]
    assert cross_validate(raw, tmp_path / "one", "--split", str(path), "--fold", "2") == 1
    assert "fold 2: give one from 0 to 1" in capsys.readouterr().err


def test_folders_of_subjects_are_trained_on(data, tmp_path, trained):
    for image in (data / "images").iterdir():
        home = tmp_path / "patients" / image.name.split(".")[0]
        home.mkdir(parents=True)
        (home / f"flair_{image.name}").symlink_to(image)
        (home / f"lesions_{image.name}").symlink_to(data / "labels" / image.name)
    options = ["--images", "flair_*", "--label", "lesions_*"]
    assert cross_validate(tmp_path / "patients", tmp_path / "run", *options) == 0
    assert sorted(case.name for case in trained["run"].dataset.cases) == [
        f"ms_00{n}" for n in range(6)
    ]


def test_wrong_setting_names_its_file(data, tmp_path, trained, capsys):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"batch_size": 0}))
    assert cross_validate(data, tmp_path / "run", "--config", str(path)) == 1
    assert f"{path}: batch_size must be a whole number from 1 up" in capsys.readouterr().err


TERMS = [
    {"name": "cross-entropy", "weight": 0.3},
    {"name": "tversky", "weight": 2.0, "alpha": 0.4, "beta": 0.5, "per": "image", "smooth": 0.1},
]


def loss_of(data, folder, trained, *options):
    assert cross_validate(data, folder / "run", *options) == 0
    return trained["run"].config.loss.to_json()


def test_alpha_changes_the_tversky_term_of_the_settings_and_nothing_else(data, tmp_path, trained):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"loss": TERMS, "epochs": 3}))
    changed = {**TERMS[1], "alpha": 0.7, "beta": None, "background": False}
    options = ["--config", str(path), "--alpha", "0.7"]
    assert loss_of(data, tmp_path, trained, *options) == [TERMS[0], changed]
    assert trained["run"].config.epochs == 3
    preset = ["--preset", "meningioma-2d", "--patch-size", "32", "32", *options]
    assert loss_of(data, tmp_path, trained, *preset) == [TERMS[0], changed]


def test_alpha_changes_the_loss_of_a_preset(data, tmp_path, trained):
    options = ["--preset", "meningioma-2d", "--patch-size", "32", "32", "--alpha", "0.7"]
    (term,) = loss_of(data, tmp_path, trained, *options)
    assert (term["name"], term["alpha"], term["beta"]) == ("tversky", 0.7, None)


def test_loss_on_the_line_replaces_that_of_the_settings(data, tmp_path, trained):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"loss": TERMS}))
    options = ["--config", str(path), "--loss", "dice+tversky", "--alpha", "0.7"]
    first, second = loss_of(data, tmp_path, trained, *options)
    assert (first["name"], second["name"], second["alpha"]) == ("dice", "tversky", 0.7)
    assert (second["weight"], second["per"]) == (1.0, "batch")


@pytest.mark.parametrize("loss", [None, [{"name": "dice"}], [{"weight": 2.0}]])
def test_alpha_without_a_tversky_term_says_what_to_add(data, tmp_path, trained, loss, capsys):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({} if loss is None else {"loss": loss}))
    options = ["--config", str(path), "--alpha", "0.7"]
    assert cross_validate(data, tmp_path / "run", *options) == 1
    assert "add --loss tversky" in capsys.readouterr().err


def test_pipeline_of_a_configuration_learns_anew_unless_it_is_kept(data, tmp_path, trained, capsys):
    marks = [float(n) for n in range(13)]
    steps = [{"step": "histogram-standardization", "landmarks": [marks]}, {"step": "z-score"}]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"pipeline": steps}))
    for options, kept in ((["--keep-fitted"], True), ([], False)):
        for folds in ([], ["--folds", "2"]):
            trained.clear()
            given = ["--config", str(path), *options, *folds]
            assert cross_validate(data, tmp_path / "run", *given) == 0
            for plan in trained.values():
                assert (plan.config.pipeline.steps[0].landmarks == (tuple(marks),)) == kept
    assert cross_validate(data, tmp_path / "run", "--keep-fitted") == 1
    assert "give one with it" in capsys.readouterr().err


def test_folder_that_holds_a_training_is_pointed_out_at_once(data, tmp_path, trained, capsys):
    (tmp_path / "run" / "checkpoints" / "12").mkdir(parents=True)
    assert cross_validate(data, tmp_path / "run") == 0
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'run'}: holds a training; checking")


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A run of unet2d-k5 that was fitted to histograms, without weights."""
    monkeypatch.setattr("segjax.train.plans.plan.recorded", lambda config: config)
    learned = HistogramStandardization((tuple(map(float, range(13))),))
    (tmp_path / "old").mkdir()
    write_config(
        TrainConfig("unet2d-k5", (96, 96), pipeline=Pipeline((learned,))), tmp_path / "old"
    )
    return str(tmp_path / "old")


def test_source_of_the_weights_reaches_the_configuration(data, tmp_path, trained, old):
    options = ["--init", old, "--new-head", "--freeze", "^down0/", "bias"]
    assert cross_validate(data, tmp_path / "run", *options) == 0
    config = trained["run"].config
    assert (config.init.source, config.init.new_head) == (old, True)
    assert config.freeze == ("^down0/", "bias")


def test_network_patch_and_preprocessing_come_with_the_weights(data, tmp_path, trained, old):
    assert main(["train", "--data", str(data), "-o", str(tmp_path / "run"), "--init", old]) == 0
    config = trained["run"].config
    assert (config.model, config.patch_size) == ("unet2d-k5", (96, 96))
    assert config.pipeline.steps[0].landmarks == (tuple(map(float, range(13))),)


def test_preprocessing_that_learns_nothing_from_images_comes_with_the_weights(
    data, tmp_path, trained, old
):
    pipeline = Pipeline((ZScore("above-mean"),))
    write_config(TrainConfig("unet2d-k5", (96, 96), pipeline=pipeline), Path(old), overwrite=True)
    assert main(["train", "--data", str(data), "-o", str(tmp_path / "run"), "--init", old]) == 0
    assert trained["run"].config.pipeline == pipeline


@pytest.mark.parametrize("where", ["all", "nonzero"])
def test_a_cache_prepared_otherwise_than_for_the_weights_is_told_of(
    data, tmp_path, trained, old, capsys, where
):
    pipeline = Pipeline((ZScore("all"),))
    write_config(TrainConfig("unet2d-k5", (96, 96), pipeline=pipeline), Path(old), overwrite=True)
    preprocess(find_cases(data), Pipeline((ZScore(where),)), tmp_path / "cache", workers=1)
    command = ["train", "--data", str(tmp_path / "cache"), "--init", old]
    assert main([*command, "-o", str(tmp_path / "run")]) == 0
    assert trained["run"].config.pipeline.steps == (ZScore(where),)
    told = "was not preprocessed as the weights" in capsys.readouterr().err
    assert told == (where != "all")


def test_a_training_that_goes_on_needs_the_source_of_its_weights_no_more(
    data, tmp_path, trained, old
):
    command = ["train", "--data", str(data), "-o", str(tmp_path / "run"), "--init", old]
    assert main(command) == 0
    first = trained["run"].config
    write_config(first, tmp_path / "run")
    shutil.rmtree(old)
    assert main(command) == 0
    assert trained["run"].config == first


def test_a_training_that_learned_nothing_decides_nothing(data, tmp_path, trained, old):
    command = ["train", "--data", str(data), "-o", str(tmp_path / "run"), "--init", old]
    assert main([*command, "--patch-size", "32", "32"]) == 0
    write_config(trained["run"].config, tmp_path / "run", overwrite=True)
    assert main(command) == 0
    assert trained["run"].config.patch_size == (96, 96)


def test_weights_do_not_come_from_the_folder_that_the_run_is_to_be(data, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert main(["train", "--data", str(data), "-o", run, "--init", run]) == 1
    assert "run: the weights come from there: give --out another" in capsys.readouterr().err


def test_weights_that_a_config_names_bring_the_same(data, tmp_path, trained, old):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"init": {"source": old}}))
    command = ["train", "--data", str(data), "-o", str(tmp_path / "run"), "--config", str(path)]
    assert main(command) == 0
    config = trained["run"].config
    assert (config.model, config.patch_size) == ("unet2d-k5", (96, 96))
    assert config.pipeline.steps[0].landmarks == (tuple(map(float, range(13))),)


@pytest.mark.parametrize("folds", [(), ("--folds", "2", "--fold", "1")])
def test_what_the_memory_of_another_machine_decided_stays(
    data, tmp_path, trained, monkeypatch, folds
):
    run = tmp_path / "run"
    command = ["train", "--data", str(data), "-o", str(run), *folds]
    assert main(command) == 0
    usual = trained["fold1" if folds else "run"].config
    begun = run / "fold0" if folds else run
    (begun / "checkpoints" / "1").mkdir(parents=True)
    write_config(usual, begun, overwrite=True)
    monkeypatch.setattr("segjax.train.plans.advice._device_memory", lambda: (0.05, ""))
    assert main(command) == 0
    assert trained["fold1" if folds else "run"].config == usual


def test_the_licence_of_weights_that_come_with_segjax_is_said(tmp_path, trained, capsys):
    write_dataset(tmp_path / "heads", count=2, shape=(16, 16, 16))
    command = ["train", "--data", str(tmp_path / "heads"), "-o", str(tmp_path / "run")]
    assert main([*command, "--init", "hippocampus", "--new-head"]) == 0
    assert "hippocampus: CC-BY-SA-4.0; not for diagnosis" in "".join(capsys.readouterr())


def test_what_is_said_otherwise_stands_above_what_comes_with_the_weights(
    data, tmp_path, trained, old
):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"pipeline": [{"step": "z-score"}]}))
    command = ["train", "--data", str(data), "-o", str(tmp_path / "run"), "--init", old]
    assert main([*command, "--config", str(path), "--patch-size", "32", "32"]) == 0
    config = trained["run"].config
    assert config.patch_size == (32, 32)
    assert config.pipeline == Pipeline((ZScore(),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--new-head"], "add --init"),
        (["--freeze", "a"], "give init too"),
        (["--init", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_weights_that_cannot_be_taken_are_refused(data, tmp_path, options, message, capsys):
    assert cross_validate(data, tmp_path / "run", *options) == 1
    assert message in capsys.readouterr().err


def test_missing_writer_of_tensorboard_logs_is_named(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("segjax.train.tensorboard.find_spec", lambda name: None)
    assert cross_validate(data, tmp_path / "run", "--tensorboard") == 1
    assert '".[tensorboard]"' in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host-index", "1"], "need the number of --hosts"),
        (["--hosts", "2", "--host-index", "1"], "give address, number of hosts and index"),
    ],
)
def test_half_of_what_hosts_need_is_refused(options, message, data, tmp_path, capsys):
    assert cross_validate(data, tmp_path / "run", *options) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--hosts", "auto"], ((), {})),
        (
            ["--hosts", "2", "--host-index", "1", "--host-address", "node7:8476"],
            (("node7:8476",), {"hosts": 2, "index": 1}),
        ),
    ],
)
def test_other_hosts_than_the_first_train_and_say_nothing(
    options, expected, data, tmp_path, trained, monkeypatch, capsys
):
    met = []
    monkeypatch.setattr(devices, "connect_hosts", lambda *a, **k: met.append((a, k)))
    monkeypatch.setattr(devices, "is_first_host", lambda: False)
    assert cross_validate(data, tmp_path, "--folds", "3", *options) == 0
    assert met == [expected]
    assert len(trained) == 3
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "folds.csv").exists()
