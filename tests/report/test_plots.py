"""Figures: what is drawn, in which colour, and that files are treated with care."""

import sys

import numpy as np
import pytest
from PIL import Image

from segjax.data.io.formats import read_image, read_label
from segjax.errors import InputError
from segjax.report import style
from segjax.report.plots import dice_by_case, learning_curves, overlay
from segjax.volume import Volume

MISSED, FALSE_ALARM, WRONG_LABEL = (213, 94, 0), (240, 228, 66), (204, 121, 167)
BLUE, GREEN = (86, 180, 233), (0, 158, 115)


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def share(path, colour):
    """Return the share of a picture's pixels that has nearly this colour."""
    return (np.abs(pixels(path) - colour).max(-1) < 40).mean()


def case(shape=(20, 24, 10)):
    rng = np.random.default_rng(0)
    image = Volume(rng.uniform(100, 101, shape).astype(np.float32), np.eye(len(shape) + 1))
    truth = np.zeros(shape, np.uint8)
    truth[4:12, 4:12] = 1
    return image, image.with_data(truth)


def metrics(path, epochs=3):
    rows = ["run,epoch,split,case,label,metric,value"]
    for epoch in range(1, epochs + 1):
        rows.append(f"a,{epoch},train,,,loss,{1 / epoch}")
        for number in range(4):
            for label in ("anterior", "posterior"):
                dice = 0.8 + 0.01 * number + 0.02 * epoch
                rows.append(f"a,{epoch},validation,case-{number},{label},dice,{dice}")
    path.write_text("\n".join(rows) + "\n")
    return path


def draw(image, truth=None, prediction=None, **options):
    overlay(image, truth=truth, prediction=prediction, **options)


def drawn_axes(monkeypatch, csv, path):
    """Return the axes of the learning curves."""
    figures, new = [], style.new_figure
    monkeypatch.setattr(style, "new_figure", lambda size: figures.append(new(size)) or figures[0])
    learning_curves(csv, path)
    return figures[0].axes


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_epochs_are_whole_numbers_on_every_axis(tmp_path, monkeypatch, epochs):
    for axes in drawn_axes(monkeypatch, metrics(tmp_path / "m.csv", epochs), tmp_path / "a.png"):
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(tick == round(tick) for tick in ticks)
        assert 0 <= low < 1
        assert epochs < high < epochs + 2


def test_a_single_validation_is_a_dot_on_the_axis_of_all_epochs(tmp_path, monkeypatch):
    rows = [f"a,{epoch},train,,,loss,{1 / epoch}" for epoch in range(1, 7)]
    rows = ["run,epoch,split,case,label,metric,value", *rows, "a,6,validation,b,lesion,dice,0.5"]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    loss, dice = drawn_axes(monkeypatch, tmp_path / "m.csv", tmp_path / "a.png")
    assert loss.get_xlim() == dice.get_xlim() == (0.5, 6.5)
    (dot,) = [line for line in dice.lines if len(line.get_xdata()) == 1]
    assert dot.get_marker() == "o"
    assert dot.get_markersize() >= 5
    assert all(tick == round(tick) for tick in dice.get_xticks())


@pytest.mark.parametrize("shape", [(20, 24, 10), (20, 24)])
def test_a_perfect_prediction_shows_no_error_colour(tmp_path, shape):
    image, truth = case(shape)
    draw(image, truth, truth, path=tmp_path / "a.png", labels=("background", "lesion"))
    for colour in (MISSED, FALSE_ALARM, WRONG_LABEL):
        assert share(tmp_path / "a.png", colour) < 0.0005


def test_misses_and_false_alarms_have_their_own_colours(tmp_path):
    image, truth = case()
    found = np.roll(truth.data, 4, axis=1)
    draw(image, truth, image.with_data(found), path=tmp_path / "a.png")
    assert share(tmp_path / "a.png", MISSED) > 0.005
    assert share(tmp_path / "a.png", FALSE_ALARM) > 0.005
    assert share(tmp_path / "a.png", WRONG_LABEL) < 0.0005


def test_wrong_labels_have_their_own_colour(tmp_path):
    image, truth = case()
    draw(image, truth, image.with_data(truth.data * 2), path=tmp_path / "a.png")
    assert share(tmp_path / "a.png", WRONG_LABEL) > 0.005
    assert share(tmp_path / "a.png", MISSED) < 0.0005


def test_labels_have_different_colours_and_no_more_panels_than_masks(tmp_path):
    image, truth = case()
    both = truth.data.copy()
    both[4:12, 14:20] = 2
    draw(image, prediction=image.with_data(both), path=tmp_path / "two.png")
    draw(image, truth, image.with_data(both), path=tmp_path / "three.png")
    for colour in (BLUE, GREEN):
        assert share(tmp_path / "two.png", colour) > 0.0005  # outlines and legend
    two, three = (pixels(tmp_path / f"{name}.png").shape[1] for name in ("two", "three"))
    assert three / two == pytest.approx(3 / 2, abs=0.01)


def test_panels_keep_the_proportions_of_the_patient(tmp_path):
    data = np.random.default_rng(0).uniform(1, 2, (40, 10)).astype(np.float32)
    tall = Volume(data, np.diag([0.5, 4.0, 1.0]))  # 20 mm high, 40 mm wide
    draw(tall, path=tmp_path / "a.png")
    grey = np.ptp(pixels(tmp_path / "a.png"), axis=-1) == 0
    dark = grey & (pixels(tmp_path / "a.png")[..., 0] < 250)
    panel = dark[80:]  # below the headings
    height, width = (np.ptp(np.flatnonzero(panel.any(axis))) + 1 for axis in (1, 0))
    assert width / height == pytest.approx(2, rel=0.03)


@pytest.mark.parametrize("shape", [(300, 2), (2, 300), (1, 1)])
def test_extreme_shapes_and_odd_names_are_drawn(tmp_path, shape):
    image = Volume(np.ones(shape, np.float32), np.eye(3))
    draw(image, image.with_data(np.ones(shape, bool)), path=tmp_path / "a.png", title="$x_$ %")
    assert share(tmp_path / "a.png", BLUE) > 0.0001


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_vector_formats_are_written(tmp_path, suffix):
    path = tmp_path / f"figure{suffix}"
    draw(*case((8, 8)), path=path, title="a < b")
    assert path.stat().st_size > 1000


def test_curves_and_boxes_are_drawn(tmp_path):
    csv = metrics(tmp_path / "metrics.csv")
    learning_curves(csv, tmp_path / "curves.png")
    dice_by_case(csv, tmp_path / "dice.png")
    for name in ("curves.png", "dice.png"):
        assert share(tmp_path / name, BLUE) > 0.0001
        assert share(tmp_path / name, GREEN) > 0.0001


def test_curves_of_two_runs_before_any_validation_are_drawn(tmp_path):
    csv = tmp_path / "metrics.csv"
    csv.write_text(
        "run,epoch,split,case,label,metric,value\na,1,train,,,loss,1\nb,1,train,,,loss,2\n"
    )
    learning_curves(csv, tmp_path / "curves.png")
    assert share(tmp_path / "curves.png", BLUE) > 0
    with pytest.raises(InputError, match="no Dice of a validation case"):
        dice_by_case(csv, tmp_path / "dice.png")


def test_files_are_replaced_only_when_asked(tmp_path):
    path = tmp_path / "mine.png"
    path.write_text("precious")
    with pytest.raises(InputError, match=r"mine\.png"):
        draw(*case((8, 8)), path=path)
    assert path.read_text() == "precious"
    draw(*case((8, 8)), path=path, overwrite=True)
    assert pixels(path).size


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"picture\.docx.*\.png"):
        draw(*case((8, 8)), path=tmp_path / "picture.docx")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r'pip install .*"\.\[report\]" in '):
        draw(*case((8, 8)), path=tmp_path / "a.png")


def test_no_global_state_of_matplotlib_is_touched(tmp_path):
    import matplotlib.pyplot as plt

    draw(*case((8, 8)), path=tmp_path / "a.png")
    assert plt.get_fignums() == []


def test_a_real_case_is_drawn(tmp_path, data_dir):
    image = read_image(data_dir / "ms_lesions" / "patient19" / "flair.nii.gz")
    truth = read_label(data_dir / "ms_lesions" / "patient19" / "lesions.nii.gz")
    shifted = image.with_data(np.roll(truth.data, 2, axis=0))
    draw(image, truth, shifted, path=tmp_path / "a.png", labels=("background", "lesion"))
    assert share(tmp_path / "a.png", MISSED) > 0.001
