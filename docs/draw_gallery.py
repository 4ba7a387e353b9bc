"""Draw the pictures of the gallery page: transforms, preprocessing, reports.

All images are synthetic and all seeds fixed. ``python docs/draw_gallery.py`` draws every picture,
in about ten minutes on two cores, most of them for two trainings; ``python docs/draw_gallery.py
gamma steps`` draws some. With ``--work DIR`` the trainings are kept, and not made again.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from segjax.cli import main as segjax
from segjax.data import augment as a
from segjax.data.augment import Transform, apply_all, draw_all
from segjax.data.io.formats import write_volume
from segjax.data.phantom.dataset import phantom, write_dataset
from segjax.data.prepare.intensity import min_max
from segjax.data.prepare.steps import CropToForeground
from segjax.demo import run_demo
from segjax.errors import InputError
from segjax.report.style import INK, LABELS, draw_outline, new_figure
from segjax.report.views import grey_window
from segjax.studies import study
from segjax.volume import Volume

HERE = Path(__file__).parent
SHAPE, SPACING, SEED = (120, 146, 120), 1.3, 4
QUALITY: Mapping[str, Any] = {"quality": 82, "method": 6}
WIDEST = 1100  # pixels of a picture of a report

STRENGTHS: Mapping[str, Mapping[str, Transform]] = {
    "affine": {
        "10° about z": a.Affine((1, 1), (0, 0, 0, 0, 10, 10)),
        "20° about z": a.Affine((1, 1), (0, 0, 0, 0, 20, 20)),
        "scale 0.8": a.Affine((0.8, 0.8), (0, 0)),
        "scale 1.2": a.Affine((1.2, 1.2), (0, 0)),
    },
    "elastic": {
        f"D {most:g} mm": a.Elastic(max_displacement=(most,)) for most in (5.0, 7.5, 15.0, 25.0)
    },
    "flip": {
        "axis 0": a.Flip((0,)),
        "axis 1": a.Flip((1,)),
        "axes 0 and 1": a.Flip((0, 1)),
    },
    "anisotropy": {
        "axis 1, m 2": a.Anisotropy((1,), (2, 2)),
        "axis 1, m 3": a.Anisotropy((1,), (3, 3)),
        "axis 1, m 5": a.Anisotropy((1,), (5, 5)),
        "axis 0, m 5": a.Anisotropy((0,), (5, 5)),
    },
    "gamma": {f"log γ {g:+g}": a.Gamma((g, g)) for g in (-0.6, -0.3, 0.3, 0.6)},
    "contrast": {
        f"{pieces} slopes, 1/{most:g} to {most:g}": a.Contrast(
            (-math.log(most), math.log(most)), (0, 1), pieces
        )
        for pieces, most in ((4, 2.0), (8, 2.0), (4, 3.0), (8, 3.0))
    },
    "scale-intensity": {
        "factor 0.7": a.ScaleIntensity((0.7, 0.7)),
        "factor 1.3": a.ScaleIntensity((1.3, 1.3)),
        "shift -0.2": a.ScaleIntensity((1, 1), (-0.2, -0.2)),
        "shift +0.2": a.ScaleIntensity((1, 1), (0.2, 0.2)),
    },
    "noise": {f"σ {std:g}": a.Noise((std, std)) for std in (0.03, 0.05, 0.1, 0.2)},
    "blur": {f"σ {std:g} mm": a.Blur((std, std)) for std in (0.5, 1.0, 2.0, 3.0)},
    "bias-field": {f"|c| ≤ {c:g}": a.BiasField((-c, c)) for c in (0.25, 0.5, 0.75, 1.0)},
    "motion": {
        f"≤ {most:g}° and mm": a.Motion((-most, most), (-most, most)) for most in (5, 10, 20, 40)
    },
    "ghosting": {
        f"n {count}, intensity {i:g}": a.Ghosting((count, count), (1,), (i, i))
        for count, i in ((4, 0.5), (4, 1.0), (10, 0.5), (10, 1.0))
    },
    "spike": {f"intensity {i:g}": a.Spike((1, 1), (i, i)) for i in (0.2, 0.5, 1.0, 2.0)},
}
"""Transform -> caption -> the transform at that strength, as drawn with certainty."""

REPORTS: Mapping[str, str] = {
    "preview": "preview.png",
    "case": "cache/figures/case.png",
    "learning-curves": "demo/run/figures/learning_curves.png",
    "dice-by-case": "demo/run/figures/dice_by_case.png",
    "overlay": "demo/run/figures/example_1.png",
    "lesions": "evaluation/figures/*.png",
    "sweep-curves": "sweep/figures/learning-curves-k5.png",
    "sweep-boxes": "sweep/figures/boxes.png",
    "sweep-heat-maps": "sweep/figures/heat-maps.png",
}
"""Name of a picture -> where the commands write it."""

COMMANDS = (
    "evaluate demo/masks demo/data/labels --lesions --images demo/data/images --overwrite"
    " --report evaluation --run demo/run",
    "preprocess scans cache --preset ms-7t --images flair.nii.gz --label lesions.nii.gz",
    "preview scans/1/flair.nii.gz scans/1/lesions.nii.gz -o preview.png --recipe ms-7t --overwrite",
    "sweep --data slices --out sweep --kernel 3 5 --alpha 0.3 0.5 0.7 --seed 0 --epochs 8"
    " --batch-size 4 --patch-size 64 64",
)


def draw_transform(name: str) -> Figure:
    """Draw a head, and what a transform makes of it at several strengths."""
    image, label = phantom(SEED, shape=SHAPE, spacing=SPACING)
    data = min_max(image.channels_last)
    axis = 1 if name == "motion" else 2  # k-space is read along z: an axial slice would not show it
    others = tuple({0, 1, 2} - {axis})
    index = int(np.argmax(np.count_nonzero(label.data, axis=others)))
    window = grey_window(data[..., 0], label.data > 0)
    panels = {"original": (data, label.data)}
    for caption, transform in STRENGTHS[name].items():
        chain = [type(transform)(**{**vars(transform), "probability": 1.0})]
        drawn = draw_all(np.random.default_rng(SEED), data.shape, chain, spacing=image.spacing)
        panels[caption] = apply_all(chain, drawn, data, label.data, np)
    figure = new_figure((2.05 * len(panels), 2.75))
    for axes, (caption, (changed, moved)) in zip(
        _row(figure, len(panels)), panels.items(), strict=True
    ):
        _show(axes, changed[..., 0].take(index, axis), window, caption)
        draw_outline(axes, _upright(moved.take(index, axis)) > 0, LABELS[3])
    return figure


def draw_steps() -> Figure:
    """Draw a head as scanned, and after each step of the ``ms-7t`` preset and a crop."""
    image = _scan(SEED)[0]
    steps = [*study("ms-7t").pipeline().steps[1:], CropToForeground()]
    shown = [("as scanned", image.with_data(image.channels_last))]
    for step in steps:
        shown.append((step.name, step.apply(shown[-1][1])))
    place = image.affine @ (*(np.array(image.spatial_shape) / 2), 1)
    figure = new_figure((2.05 * len(shown), 3.2))
    for axes, (name, volume) in zip(_row(figure, len(shown)), shown, strict=True):
        data, index = volume.data[..., 0], round((np.linalg.inv(volume.affine) @ place)[2])
        size = " × ".join(map(str, volume.spatial_shape))
        low, high = (
            f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in (data.min(), data.max())
        )
        window = (float(data.min()), float(np.percentile(data, 99.5)))
        _show(axes, data[:, :, index], window, f"{name}\n{size}\n{low} to {high}")
    return figure


def _scan(seed: int) -> tuple[Volume, Volume]:
    """Return a head under a strong bias field, and its lesions."""
    image, label = phantom(seed, shape=SHAPE, spacing=SPACING)
    field = a.BiasField((-0.35, 0.35))
    drawn = field.parameters(np.random.default_rng(seed), (*SHAPE, 1))
    return image.with_data(field.apply(image.channels_last, drawn, np)[..., 0]), label


def _row(figure: Figure, count: int) -> Sequence[Any]:
    return figure.subplots(1, count, squeeze=False)[0]


def _upright(data: np.ndarray) -> np.ndarray:
    """Return an axial or coronal slice of a RAS volume, its right on the left, row 0 at the top."""
    return data[::-1, ::-1].T


def _show(axes: Any, data: np.ndarray, window: tuple[float, float], caption: str) -> None:
    axes.imshow(
        _upright(data), cmap="gray", vmin=window[0], vmax=window[1], interpolation="nearest"
    )
    axes.set_title(caption, fontsize=9, color=INK)
    axes.set_axis_off()


def make_reports(work: Path) -> None:
    """Run the demo and the commands; what is there already stays."""
    work.mkdir(parents=True, exist_ok=True)
    with chdir(work):
        if not Path("demo").exists():
            run_demo("demo")
        if not Path("slices").exists():
            write_dataset("slices", count=60, shape=(64, 64), kind="meningioma")
            for seed in range(1, 4):
                Path(f"scans/{seed}").mkdir(parents=True)
                for volume, name in zip(_scan(seed), ("flair", "lesions"), strict=True):
                    write_volume(volume, f"scans/{seed}/{name}.nii.gz")
        for command in COMMANDS:
            if segjax(command.split()) != 0:
                raise InputError(f"segjax {command} failed")


def _write_report(name: str, work: Path, path: Path) -> None:
    from PIL import Image

    with Image.open(sorted(work.glob(REPORTS[name]))[-1]) as picture:
        picture.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
        picture.convert("RGB").save(path, **QUALITY)


def draw(names: Sequence[str], out: Path, work: Path) -> Iterator[Path]:
    """Draw pictures into a folder, and yield their paths."""
    out.mkdir(parents=True, exist_ok=True)
    if set(names) & set(REPORTS):
        make_reports(work)
    for name in names:
        path = out / f"{name}.webp"
        if name in REPORTS:
            _write_report(name, work, path)
        else:
            figure = draw_steps() if name == "steps" else draw_transform(name)
            figure.savefig(path, dpi=110, pil_kwargs=dict(QUALITY))
        yield path


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the pictures that the command line names, or all."""
    known = (*STRENGTHS, "steps", *REPORTS)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    parser.add_argument("--out", type=Path, default=HERE / "gallery", help="folder of the pictures")
    parser.add_argument("--work", type=Path, help="folder of the trainings, kept")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(known)):
        parser.error(f"{', '.join(unknown)}: there is no such picture; choose {', '.join(known)}")
    with tempfile.TemporaryDirectory() as folder:
        for path in draw(options.names or known, options.out, options.work or Path(folder)):
            print(f"{path} {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
