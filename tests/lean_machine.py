"""A program that trains and predicts where packages are missing.

A machine with a GPU that is lent for an hour may lack those of files, tables and screens, and has
segjax as a folder of source alone, which pip does not know. Where only onnxruntime was installed
beside segjax, those that prepare, train and draw are missing.
"""

import importlib
import importlib.metadata
import pkgutil
import sys
from pathlib import Path

import numpy as np

MISSING = (
    "SimpleITK", "dcm2niix", "grain", "highdicom", "jax2onnx", "matplotlib", "monai", "nibabel",
    "onnx", "pandas", "psutil", "pydicom", "rich", "tensorboardX", "torchio", "tyro",
)  # fmt: skip
HEAVY = (
    "PIL", "SimpleITK", "dcm2niix", "flax", "grain", "highdicom", "jax", "jax2onnx", "jaxlib",
    "matplotlib", "monai", "onnx", "optax", "orbax", "pandas", "psutil", "pydicom", "scipy",
    "tensorboardX", "torchio",
)  # fmt: skip


def command(*arguments: str) -> None:
    """Run the command line with onnxruntime and the packages of the base alone."""
    sys.modules.update(dict.fromkeys(HEAVY))  # type: ignore[arg-type]
    from segjax.cli import main

    raise SystemExit(main(arguments))


def hide() -> None:
    """Let what is missing not be found, nor what pip knows about segjax."""
    if predict.__name__ not in sys.argv:
        importlib.import_module("flax.linen")  # needs rich itself
    for name in list(sys.modules):
        if name.partition(".")[0] in MISSING:
            del sys.modules[name]
    sys.modules.update(dict.fromkeys(MISSING))  # type: ignore[arg-type]
    finder = importlib.metadata.MetadataPathFinder
    found = finder.find_distributions
    finder.find_distributions = lambda *args: (d for d in found(*args) if d.name != "segjax")


def import_all() -> None:
    """Import every module but those of the command line."""
    import segjax
    import segjax_onnx

    for package in (segjax, segjax_onnx):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith(("segjax.cli", "segjax.__main__")):
                importlib.import_module(module.name)
        assert all(getattr(package, name) is not None for name in package.__all__)


def train(pictures: str, cache: str, out: str) -> None:
    """Train on pictures and on a cache, go on, and sweep."""
    sys.path.insert(0, str(Path(__file__).parent / "train"))
    sys.path.insert(0, str(Path(__file__).parent / "train" / "sweeps"))
    import sweep_tiny
    import train_tiny

    import segjax
    from segjax.data import find_cases
    from segjax.train import Execution, Loading, SweepConfig, fit, load_variables

    slices, folder = find_cases(pictures), Path(out)
    split = sweep_tiny.split_of(slices)
    with train_tiny.registered(), sweep_tiny.registered():
        settings = {"model": "tiny", "patch_size": [16, 16, 16], "epochs": 1}
        plan = segjax.plan(cache, settings, validation=0.25)
        fit(
            plan.config,
            plan.dataset,
            plan.split,
            folder / "on-device",
            loading=Loading(on_device=True),
        )
        for epochs in (1, 2):
            config = sweep_tiny.config(epochs=epochs)
            fit(config, slices, split, folder / "by-thread", loading=Loading(workers=0))
        grid = SweepConfig(sweep_tiny.config(epochs=1), (3,), (0.3, 0.7), (0,))
        segjax.sweep(grid, slices, split, folder / "sweep", execution=Execution("unrolled"))
    assert load_variables(folder / "by-thread")["params"]


def predict(model: str, image: str, mask: str) -> None:
    """Segment an array."""
    import segjax

    np.save(mask, segjax.Predictor(model).predict(np.load(image)).data)


if __name__ == "__main__":
    if sys.argv[1] == command.__name__:
        command(*sys.argv[2:])
    hide()
    {"import_all": import_all, "train": train, "predict": predict}[sys.argv[1]](*sys.argv[2:])
