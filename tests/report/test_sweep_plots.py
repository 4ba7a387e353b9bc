"""Figures of a sweep: which files are made, and that what they show is in them."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from segjax.errors import InputError
from segjax.report.sweep_plots import (
    dice_by_image,
    draw_sweep,
    heat_maps,
    kernel_curves,
    read_sweep,
)
from segjax.runs.metrics import read_metrics

ORANGE = (230, 159, 0)


def colours(path):
    return np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).astype(int)


def share(path, colour):
    return (np.abs(colours(path) - colour).max(-1) < 30).mean()


def write_sweep(folder, kernels=(3, 5), alphas=(0.3, 0.7), seeds=(0, 1)):
    """Write the tables of a sweep whose Dice is 0.8 + 0.01 kernel - 0.1 alpha + 0.02 seed."""
    results = ["kernel,alpha,seed,run,validation_dice"]
    images = ["kernel,alpha,seed,case,label,dice"]
    for k, a, s in np.stack(np.meshgrid(kernels, alphas, seeds, indexing="ij"), -1).reshape(-1, 3):
        run, dice = f"k{k:g}-a{a:g}-s{s:g}", 0.8 + 0.01 * k - 0.1 * a + 0.02 * s
        results.append(f"{k:g},{a:g},{s:g},{run},{dice}")
        images += [f"{k:g},{a:g},{s:g},case-{n},{w},{dice}" for n in range(3) for w in "xy"]
        rows = ["run,epoch,split,case,label,metric,value"]
        for epoch in (1, 2):
            rows.append(f"{run},{epoch},train,,,loss,{1 - dice / epoch}")
            rows.append(f"{run},{epoch},validation,a,x,dice,{dice / epoch}")
        (folder / "runs" / run).mkdir(parents=True)
        (folder / "runs" / run / "metrics.csv").write_text("\n".join(rows) + "\n")
    (folder / "results.csv").write_text("\n".join(results) + "\n")
    (folder / "images.csv").write_text("\n".join(images) + "\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_sweep(tmp_path_factory.mktemp("sweep"))
    (folder / "examples").mkdir()
    truth = np.zeros((32, 32), np.uint8)
    truth[8:20, 8:20] = 1
    arrays = {"image": np.ones((32, 32, 1), np.float32), "affine": np.eye(3), "truth": truth}
    arrays["image"][::2] = 0
    for run in ("k5-a0.3-s1", "k3-a0.3-s0"):  # the best one, and one that was best before
        np.savez(folder / "examples" / f"{run}-case-1.npz", mask=np.roll(truth, 4), **arrays)
    values = {"base": {"labels": ["background", "tumour"]}}
    (folder / "sweep.json").write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def drawn(folder):
    return draw_sweep(folder)


def test_all_figures_are_written(folder, drawn):
    names = ["learning-curves-k3", "learning-curves-k5", "boxes", "heat-maps", "images"]
    assert list(drawn) == [*names, "k5-a0.3-s1-case-1"]
    assert sorted(drawn.values()) == sorted((folder / "figures").iterdir())
    for path in drawn.values():
        assert len(np.unique(colours(path) @ (1, 256, 65536))) > 20


def test_figures_may_be_drawn_again(folder, drawn):
    before = {name: path.read_bytes() for name, path in drawn.items()}
    assert {name: path.read_bytes() for name, path in draw_sweep(folder).items()} == before


def test_best_member_is_marked_among_the_images(folder, tmp_path):
    images = read_sweep(folder)[1]
    dice_by_image(images, tmp_path / "without.png")
    dice_by_image(images, tmp_path / "with.png", best=(5, 0.3, 1))
    assert share(tmp_path / "without.png", ORANGE) == 0
    assert share(tmp_path / "with.png", ORANGE) > 0


def test_overlay_shows_what_the_best_member_missed(drawn):
    path, missed, invented = drawn["k5-a0.3-s1-case-1"], (213, 94, 0), (240, 228, 66)
    assert min(share(path, missed), share(path, invented)) > 0.001


def test_heat_map_leaves_absent_combinations_white(folder, tmp_path):
    images = read_sweep(folder)[1]
    heat_maps(images, tmp_path / "all.png")
    heat_maps(images[(images.kernel == 3) | (images.alpha == 0.3)], tmp_path / "three.png")
    white = [share(tmp_path / name, (255, 255, 255)) for name in ("all.png", "three.png")]
    assert white[1] > white[0] + 0.1


def test_dice_of_an_image_is_the_mean_of_its_labels(folder, tmp_path):
    results, images = read_sweep(folder)
    assert len(results) == 8
    assert len(images) == 24
    text = (folder / "images.csv").read_text().replace("case-0,x,0.8", "case-0,x,0.6")
    for name in ("results.csv", "images.csv"):
        (tmp_path / name).write_text((folder / name).read_text())
    (tmp_path / "images.csv").write_text(text)
    changed = read_sweep(tmp_path)[1]
    first = (images.case == "case-0") & (images.kernel == 3) & (images.alpha == 0.3)
    drop = images[first].dice.to_numpy() - changed[first].dice.to_numpy()
    assert drop == pytest.approx([0.1, 0.1])


def test_sweep_without_any_validation_has_figures_but_no_best(tmp_path):
    folder = write_sweep(tmp_path, kernels=(3,), alphas=(0.5,), seeds=(0,))
    table = (folder / "results.csv").read_text().splitlines()
    (folder / "results.csv").write_text(table[0] + "\n3,0.5,0,k3-a0.5-s0,\n")
    assert "boxes" in draw_sweep(folder)


def test_folders_that_are_no_sweep_are_named(tmp_path):
    with pytest.raises(InputError, match=r"is no folder of a sweep \(it has no results.csv\)"):
        draw_sweep(tmp_path)
    (tmp_path / "results.csv").write_text("\n")
    with pytest.raises(InputError, match="no member of the sweep is finished yet"):
        draw_sweep(tmp_path)
    (tmp_path / "results.csv").write_text("kernel,alpha\n3,0.5\n")
    with pytest.raises(InputError, match="has no column seed"):
        draw_sweep(tmp_path)


def test_damaged_description_is_named(tmp_path):
    folder = write_sweep(tmp_path, kernels=(3,), alphas=(0.5,), seeds=(0,))
    (folder / "sweep.json").write_text("[]")
    with pytest.raises(InputError, match=r"sweep\.json: cannot be read as a sweep"):
        draw_sweep(folder)


def test_images_without_the_label_are_in_no_mean(tmp_path):
    write_sweep(tmp_path, kernels=(3,), alphas=(0.5,), seeds=(0,))
    rows = (tmp_path / "images.csv").read_text().replace("dice", "dice,false_positive_pixels", 1)
    healthy = "3,0.5,0,healthy,x,,40\n3,0.5,0,case-1,z,,7\n"
    (tmp_path / "images.csv").write_text(rows + healthy)
    _, images = read_sweep(tmp_path)
    assert images.case.tolist() == ["case-0", "case-1", "case-2"]
    assert images.dice.tolist() == pytest.approx([0.78] * 3)


def test_epochs_are_whole_numbers_where_few_were_validated(tmp_path, monkeypatch):
    figures = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **o: (figures.append(self), savefig(self, *a, **o))[1]
    )
    folder = write_sweep(tmp_path, kernels=(3,), alphas=(0.5,), seeds=(0,))
    runs = read_metrics(folder / "runs" / "k3-a0.5-s0" / "metrics.csv").assign(alpha=0.5)
    late = runs[(runs.split == "train") | (runs.epoch == 2)]
    kernel_curves(late, tmp_path / "late.png")
    kernel_curves(runs[runs.epoch == 1], tmp_path / "one.png")
    for figure in figures:
        for axes in figure.axes:
            ticks = [tick for tick in axes.get_xticks() if axes.viewLim.intervalx[0] <= tick]
            assert ticks
            assert all(tick == round(tick) for tick in ticks)
    assert len(figures) == 2
    assert figures[0].axes[0].get_xlim() == figures[0].axes[1].get_xlim()
