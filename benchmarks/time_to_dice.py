"""Dice after some minutes of training: segjax, MONAI's tutorial and nnU-Net, on the same cores.

    python benchmarks/time_to_dice.py --data DATA --out FOLDER [--minutes 10 30] [--rows TEXT ...]
        [--nnunet PYTHON] [--json results.json]

DATA holds `hippocampus/`. Fold 0 of segjax's 5 folds, seed 0: 168 cases to train on and 42 to
measure, which choose nothing: no epoch, no setting; the last state is measured, on the cases' own
grid, by `segjax evaluate`. Each row is done once in FOLDER; the same call again does what is
missing. `--nnunet` names the Python of an environment that has nnunetv2; MONAI is in this one.
`--list` names all rows; `--quick` trains each for an epoch, or 20 s, as a rehearsal.

Minutes are wall time from the start of the first process to the last weights on disk: imports,
compilation, reading, preprocessing, caching. For segjax they are those of the whole command, with
its validation of the 42 cases, export and report; the others segment the cases after their time.
segjax and nnU-Net have schedules, so that each time is a training of its own: one and four epochs
are timed first, which is not counted, and one that ends too late or much too early is done again
with other epochs. MONAI's learning rate is constant: its states are those of one training.

segjax: the defaults of `segjax train`, validated at the end alone. MONAI: the network, loss,
optimizer and transforms of the tutorial spleen_segmentation_3d, but for what CT of spleens asks:
1 mm for 1.5 × 1.5 × 2 mm; percentiles 0.5 to 99.5 for the window of Hounsfield units; three
labels; patches of 32×48×32 (padded where a case is smaller) for 96³, and windows of the same size
for 160³, since around larger ones than the cases there is a black margin that no patch has (Dice
0.67 with 48×64×48 after 30 minutes); no processes for loading, since the data are in memory; no
validation on the way. nnU-Net: its own plan of `3d_fullres` with its trainer, mirroring in
training and at the end as it does by itself. Its epochs of 250 steps take longer than 10 minutes
on two cores, and the rate falls from epoch to epoch: they get 5 steps, and 1 of validation.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from studies import SEGJAX, link, machine, read, summary

from segjax.data.splits import Folding, Split, write_split

TIMED = (1, 4)  # epochs that are timed first
MARGIN = 0.96  # of the time is planned to be used
TIME_OF_REHEARSAL = 20  # seconds, of MONAI
PATCH = (32, 48, 32)
DATASET = "Dataset004_Hippocampus"
TRAINER = '''
import os
import sys

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class nnUNetTrainerShortEpochs(nnUNetTrainer):
    """nnU-Net's trainer with so many epochs, of 5 steps and 1 of validation."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = int(os.environ["EPOCHS"])
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 5, 1
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    def perform_actual_validation(self, save_probabilities=False):
        """Segment the validation cases where that is asked for alone."""
        if "--val" in sys.argv:
            super().perform_actual_validation(save_probabilities)
'''
RUN_OF_NNUNET = f"results/{DATASET}/nnUNetTrainerShortEpochs__nnUNetPlans__3d_fullres/fold_0"


@dataclass(frozen=True)
class Setting:
    """What all rows share."""

    data: Path
    out: Path
    minutes: tuple[int, ...]
    threads: int
    nnunet: Path | None
    quick: bool
    split: Split


def main():
    options = arguments()
    if options.child:
        {"train": monai_training, "predict": monai_masks}[options.child](*options.words)
        return
    rows = {
        f"{library}, {minutes} min": (library, minutes)
        for library in LIBRARIES
        for minutes in sorted(options.minutes)
    }
    wanted = {name: row for name, row in rows.items() if is_chosen(name, options.rows)}
    if options.list:
        print(*wanted, sep="\n")
        return
    if options.nnunet is None and any(library == "nnU-Net" for library, _ in wanted.values()):
        raise SystemExit("name the Python of an environment that has nnunetv2: --nnunet")
    setting = prepared(options)
    results = {"machine": machine(), "threads": options.threads, "rows": {}}
    if options.json and options.json.is_file():
        results["rows"] = json.loads(options.json.read_text(encoding="utf-8"))["rows"]
    for name, (library, minutes) in wanted.items():
        result = results["rows"][name] = once(name, library, minutes, setting)
        print_row(name, result)
        if options.json:
            options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SEGJAX_DATA"))
    parser.add_argument("--out", type=Path, help="folder of the trainings, kept")
    parser.add_argument("--minutes", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--rows", nargs="+", default=(), help="parts of names of rows")
    parser.add_argument("--list", action="store_true", help="name the rows, and train nothing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--nnunet", type=Path, help="a Python that has nnunetv2")
    parser.add_argument("--quick", action="store_true", help="an epoch of each, as a rehearsal")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=("train", "predict"), help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list or options.child:
        return options
    if options.out is None:
        parser.error("name a folder for the trainings: --out")
    if options.data is None:
        parser.error("name the folder of the data: --data, or SEGJAX_DATA")
    return options


def print_row(name, result):
    print(f"{name:15} Dice {result['mean_dice']:.4f}  {result['dice']}  {result['minutes']} min")


def is_chosen(name, parts):
    return not parts or any(text in name for text in parts)


def prepared(options):
    """Lay out the cases of the fold, and keep this process and its children to some cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    data, out = (options.data / "hippocampus").resolve(), options.out.resolve()
    names = [path.name.removesuffix(".nii.gz") for path in sorted((data / "labels").iterdir())]
    split = Folding(5).splits(names, seed=0)[0]
    out.mkdir(parents=True, exist_ok=True)
    write_split(split, out / "split.json", overwrite=True)
    for name in split.validation:
        for kind in ("images", "labels"):
            link(out / kind / f"{name}.nii.gz", data / kind / f"{name}.nii.gz")
    minutes, threads = tuple(sorted(options.minutes)), options.threads
    return Setting(data, out, minutes, threads, options.nnunet, options.quick, split)


def once(name, library, minutes, setting):
    """Return the row of a training; that of one which is done already, as it was measured then."""
    folder = setting.out / name.replace(" ", "-").replace(",", "")
    row = folder / "row.json"
    asked = {"threads": setting.threads, "quick": setting.quick}
    if row.is_file():
        done = json.loads(row.read_text(encoding="utf-8"))
        if done["asked"] == asked:
            return done["result"]
        raise SystemExit(f"{folder}: holds this row, measured otherwise: remove it")
    shutil.rmtree(folder, ignore_errors=True)
    result = LIBRARIES[library](setting, minutes, folder / "masks")
    segjax("evaluate", folder / "masks", setting.out / "labels", "-o", folder / "cases.csv")
    result |= summary([each | {"fold": 0} for each in read(folder / "cases.csv")])
    row.write_text(json.dumps({"asked": asked, "result": result}, indent=2) + "\n", "utf-8")
    return result


def in_time(train, folder, setting, minutes):
    """Train for as many epochs as the time allows, and return their folder and what they took.

    Where they took longer, or a tenth more of them would have been possible, once more.
    """
    if setting.quick:
        return folder / "1-epochs", {"epochs": 1, "minutes": in_minutes(timed(train, folder, 1))}
    times = {epochs: timed(train, folder, epochs) for epochs in TIMED} | times_in(folder)
    while True:
        epochs = fitting(times, 60 * minutes)
        times[epochs] = timed(train, folder, epochs)
        late = times[epochs] > 60 * minutes
        if not late and fitting(times, 60 * minutes) < 1.1 * epochs:
            taken = {"epochs": epochs, "minutes": in_minutes(times[epochs])}
            return folder / f"{epochs}-epochs", taken
        if late and epochs == 1:
            raise SystemExit(f"{folder}: one epoch takes longer than {minutes} minutes")


def fitting(times, budget):
    """Return the epochs that a time allows, by the shortest and the longest training so far.

    They are fewer than those of any training that took longer than that.
    """
    few, many = min(times), max(times)
    each = (times[many] - times[few]) / (many - few)
    possible = int(few + (MARGIN * budget - times[few]) / each)
    too_many = [epochs for epochs, seconds in times.items() if seconds > budget]
    return max(1, min([possible, *(epochs - 1 for epochs in too_many)]))


def timed(train, folder, epochs):
    """Return the seconds of a training, which is begun anew where it was stopped."""
    run = folder / f"{epochs}-epochs"
    if not (run / "seconds").is_file():
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
        (run / "seconds").write_text(str(train(run, epochs)), "utf-8")
    return float((run / "seconds").read_text("utf-8"))


def times_in(folder):
    """Return the seconds of each number of epochs that was trained before."""
    files = folder.glob("*-epochs/seconds")
    return {int(x.parent.name.removesuffix("-epochs")): float(x.read_text("utf-8")) for x in files}


def in_minutes(seconds):
    return round(seconds / 60, 2)


def run(*words, **environment):
    """Run a command, and return when it began, in seconds since 1970."""
    began = time.time()
    subprocess.run(
        [*map(str, words)], check=True, stdout=sys.stderr, env={**os.environ, **environment}
    )
    return began


def segjax(*words):
    return run(*SEGJAX, *words)


def of_segjax(setting, minutes, masks):
    def train(folder, epochs):
        settings = folder / "settings.json"
        settings.write_text(json.dumps({"epochs": epochs, "validate_every": epochs}), "utf-8")
        split = setting.out / "split.json"
        options = ("--out", folder / "run", "--split", split, "--config", settings)
        return time_since(segjax("train", "--data", setting.data, *options))

    chosen, taken = in_time(train, setting.out / "segjax", setting, minutes)
    segjax("predict", chosen / "run/model.onnx", setting.out / "images", "-o", masks)
    return taken | {"versions": versions("segjax", "jax")}


def time_since(began):
    return time.time() - began


def of_monai(setting, minutes, masks):
    folder = setting.out / "monai"
    limit = TIME_OF_REHEARSAL if setting.quick else 60 * minutes
    limits = [limit] if setting.quick else [60 * each for each in setting.minutes]
    if not (folder / f"{limit}.json").is_file():
        folder.mkdir(exist_ok=True)
        left = [each for each in limits if not (folder / f"{each}.json").is_file()]
        split = setting.out / "split.json"
        child("train", setting.data, split, folder, time.time(), *left)
    child("predict", folder / f"{limit}.pt", setting.out / "images", masks)
    taken = json.loads((folder / f"{limit}.json").read_text("utf-8"))
    return taken | {"versions": versions("monai", "torch")}


def child(*words):
    run(sys.executable, __file__, "--child", *words)


def versions(*names):
    return {name: version(name) for name in names}


def versions_of(python, *names):
    code = "import json, sys; from importlib.metadata import version; "
    code += "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    return json.loads(subprocess.check_output([python, "-c", code, *names]))


def monai_network():
    from monai.networks.layers import Norm
    from monai.networks.nets import UNet

    return UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
        norm=Norm.BATCH,
    )


def monai_preparation(keys):
    """Return the tutorial's deterministic transforms."""
    from monai import transforms as of_monai

    scale = {"lower": 0.5, "upper": 99.5, "b_min": 0.0, "b_max": 1.0, "clip": True}
    modes = {"image": "bilinear", "label": "nearest"}
    return [
        of_monai.LoadImaged(keys),
        of_monai.EnsureChannelFirstd(keys),
        of_monai.ScaleIntensityRangePercentilesd("image", **scale),
        of_monai.CropForegroundd(keys, source_key="image", allow_smaller=True),
        of_monai.Orientationd(keys, axcodes="RAS", labels=None),
        of_monai.Spacingd(keys, pixdim=(1.0, 1.0, 1.0), mode=[modes[key] for key in keys]),
    ]


def monai_training(data, split, folder, began, *limits):
    """Train, and keep the state of the last step that ends within each limit, in seconds."""
    import torch
    from monai.data import CacheDataset, DataLoader
    from monai.losses import DiceLoss
    from monai.transforms import Compose, RandCropByPosNegLabeld, SpatialPadd
    from monai.utils import set_determinism

    set_determinism(seed=0)
    keys = ("image", "label")
    crop = RandCropByPosNegLabeld(
        keys, "label", PATCH, pos=1, neg=1, num_samples=4, image_key="image", image_threshold=0
    )
    transform = Compose([*monai_preparation(keys), SpatialPadd(keys, PATCH), crop])
    names = json.loads(Path(split).read_text(encoding="utf-8"))["train"]
    files = [{key: f"{data}/{key}s/{name}.nii.gz" for key in keys} for name in names]
    cases = CacheDataset(files, transform, cache_rate=1.0, num_workers=torch.get_num_threads())
    batches = DataLoader(cases, batch_size=2, shuffle=True)
    network, loss = monai_network(), DiceLoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    left, steps, ended = sorted(map(int, limits)), 0, time.time()
    lasted = deque(maxlen=10)
    while left:
        for batch in batches:
            optimizer.zero_grad()
            loss(network(batch["image"]), batch["label"]).backward()
            optimizer.step()
            lasted.append(time.time() - ended)
            steps, ended = steps + 1, time.time()
            if time_since(float(began)) + max(lasted) > left[0]:
                limit = left.pop(0)
                torch.save(network.state_dict(), f"{folder}/{limit}.pt")
                taken = {"epochs": round(steps / len(batches), 1), "steps": steps}
                taken["minutes"] = in_minutes(time_since(float(began)))
                Path(folder, f"{limit}.json").write_text(json.dumps(taken), "utf-8")
                if not left:
                    break


def monai_masks(state, images, masks):
    """Segment cases by the tutorial's sliding window, back on their own grid."""
    import torch
    from monai.data import DataLoader, Dataset, decollate_batch
    from monai.inferers import sliding_window_inference
    from monai.transforms import AsDiscreted, Compose, Invertd, SaveImaged

    network = monai_network()
    network.load_state_dict(torch.load(state, weights_only=True))
    network.eval()
    transform = Compose(monai_preparation(("image",)))
    files = [{"image": str(path)} for path in sorted(Path(images).iterdir())]
    named = {"output_postfix": "", "separate_folder": False, "output_dtype": "uint8"}
    back = Compose(
        [
            Invertd("pred", transform, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
            SaveImaged("pred", output_dir=masks, resample=False, **named),
        ]
    )
    for batch in DataLoader(Dataset(files, transform), batch_size=1):
        with torch.inference_mode():
            batch["pred"] = sliding_window_inference(batch["image"], PATCH, 4, network)
        for case in decollate_batch(batch):
            back(case)


def of_nnunet(setting, minutes, masks):
    folder = setting.out / "nnunet"
    environment = {
        "nnUNet_raw": str(folder / "raw"),
        "nnUNet_preprocessed": str(folder / "preprocessed"),
        "nnUNet_extTrainer": str(folder / "trainer"),
        "nnUNet_n_proc_DA": str(setting.threads),
        "nnUNet_def_n_proc": str(setting.threads),
    }
    preparation = nnunet_preparation(setting, folder, environment)
    (folder / "trainer").mkdir(exist_ok=True)
    (folder / "trainer/short.py").write_text(TRAINER, "utf-8")

    def nnunet(run_folder, epochs, *options):
        command = nnunet_command(setting, "train")
        what = (DATASET, "3d_fullres", 0, "-tr", "nnUNetTrainerShortEpochs", "-device", "cpu")
        own = environment | {"nnUNet_results": str(run_folder / "results"), "EPOCHS": str(epochs)}
        return time_since(run(command, *what, *options, **own))

    def train(run_folder, epochs):
        return preparation + nnunet(run_folder, epochs)

    chosen, taken = in_time(train, folder, setting, minutes)
    nnunet(chosen, taken["epochs"], "--val")
    for name in setting.split.validation:
        file = f"{name}.nii.gz"
        link(masks / file, chosen / RUN_OF_NNUNET / "validation" / file)
    plans = json.loads((folder / "preprocessed" / DATASET / "nnUNetPlans.json").read_text("utf-8"))
    plan = plans["configurations"]["3d_fullres"]
    taken |= {"steps": 5 * taken["epochs"], "preparation_minutes": in_minutes(preparation)}
    taken |= {name: plan[name] for name in ("patch_size", "batch_size")}
    return taken | {"versions": versions_of(setting.nnunet, "nnunetv2", "torch")}


def nnunet_command(setting, name):
    return setting.nnunet.absolute().with_name(f"nnUNetv2_{name}")


def nnunet_preparation(setting, folder, environment):
    """Let nnU-Net plan and preprocess all cases, once, and return the seconds it took."""
    done, raw = folder / "preparation", folder / "raw" / DATASET
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        for path in sorted((setting.data / "images").iterdir()):
            name = path.name.removesuffix(".nii.gz")
            link(raw / "imagesTr" / f"{name}_0000.nii.gz", path)
            link(raw / "labelsTr" / path.name, setting.data / "labels" / path.name)
        labels = {"background": 0, "anterior": 1, "posterior": 2}
        facts = {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz"}
        facts["numTraining"] = len(list((raw / "labelsTr").iterdir()))
        (raw / "dataset.json").write_text(json.dumps(facts), "utf-8")
        each = ("-np", setting.threads, "-npfp", setting.threads)
        own = environment | {"nnUNet_results": str(folder / "results")}
        command = nnunet_command(setting, "plan_and_preprocess")
        seconds = time_since(run(command, "-d", 4, "-c", "3d_fullres", *each, **own))
        fold = {"train": list(setting.split.train), "val": list(setting.split.validation)}
        splits = folder / "preprocessed" / DATASET / "splits_final.json"
        splits.write_text(json.dumps([fold]), "utf-8")
        done.write_text(str(seconds), "utf-8")
    return float(done.read_text("utf-8"))


LIBRARIES = {"segjax": of_segjax, "MONAI": of_monai, "nnU-Net": of_nnunet}


if __name__ == "__main__":
    main()
