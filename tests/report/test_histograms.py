import numpy as np
import pytest
from PIL import Image

from segjax.data.cache.cache import open_cache, preprocess
from segjax.data.cases import Dataset
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import MinMax, Reorient, Resize
from segjax.errors import InputError
from segjax.report import histograms as figures
from segjax.report.histograms import before_and_after, draw_histograms


@pytest.fixture
def cache(tmp_path):
    heads = write_dataset(tmp_path / "heads", count=3, shape=(20, 18, 16))
    preprocess(heads, Pipeline((Reorient("LPS"), MinMax())), tmp_path / "cache", workers=1)
    return open_cache(tmp_path / "cache")


def lines_of(monkeypatch, cache, path):
    """Return what was drawn in each panel: x and y of every line."""
    panels = []
    monkeypatch.setattr(figures, "style_axes", lambda axes, **words: panels.append((axes, words)))
    draw_histograms(cache, path)
    return [
        (words["title"], [np.array(line.get_data()) for line in axes.get_lines()])
        for axes, words in panels
    ]


def test_every_image_has_a_line_of_area_1_before_and_after(cache, tmp_path, monkeypatch):
    panels = lines_of(monkeypatch, cache, tmp_path / "h.png")
    assert [title for title, _ in panels] == ["Before", "After"]
    for _, lines in panels:
        assert len(lines) == 3
        for x, y in lines:
            assert (x[1] - x[0]) * y.sum() == pytest.approx(1)
    for x, _ in panels[1][1]:  # the phantom's intensities go to 2000, after min-max to 1
        assert 0 < x.min() < x.max() < 1
    assert max(x.max() for x, _ in panels[0][1]) > 100


def test_picture_is_written_and_kept_unless_asked(cache, tmp_path):
    path = tmp_path / "h.png"
    draw_histograms(cache, path, title="heads")
    assert Image.open(path).size == (1800, 640)
    with pytest.raises(InputError, match="exists already"):
        draw_histograms(cache, path)
    draw_histograms(cache, path, overwrite=True)


def test_constant_images_have_no_line(tmp_path, monkeypatch):
    heads = write_dataset(tmp_path / "heads", count=1, shape=(20, 18, 16))
    monkeypatch.setattr(MinMax, "apply", lambda self, image: image.with_data(image.data * 0))
    preprocess(heads, Pipeline((MinMax(),)), tmp_path / "cache", workers=1)
    panels = lines_of(monkeypatch, open_cache(tmp_path / "cache"), tmp_path / "h.png")
    assert [len(lines) for _, lines in panels] == [1, 0]


def test_cache_without_cases_has_no_picture(tmp_path):
    preprocess(Dataset(()), Pipeline(), tmp_path / "cache", workers=1)
    with pytest.raises(InputError, match="holds no case"):
        draw_histograms(open_cache(tmp_path / "cache"), tmp_path / "h.png")


def test_case_is_shown_before_and_after(cache, tmp_path, monkeypatch):
    shown = []
    original = figures.draw_panel

    def draw(axes, view, name, layers):
        shown.append((view, name))
        original(axes, view, name, layers)

    monkeypatch.setattr(figures, "draw_panel", draw)
    before_and_after(cache.cases[0], tmp_path / "c.png")
    assert (tmp_path / "c.png").is_file()
    (before, first), (after, second) = shown
    assert first.startswith("Before · axial slice")
    assert second.startswith("After · axial slice")
    np.testing.assert_array_equal(before.truth, after.truth)  # both in radiological convention
    assert after.image.max() <= 1 < before.image.max()


def test_a_case_of_one_pixel_is_shown_too(tmp_path):
    slices = write_dataset(tmp_path / "slices", count=1, shape=(32, 32))
    preprocess(slices, Pipeline((Resize(1),)), tmp_path / "cache", workers=1)
    before_and_after(open_cache(tmp_path / "cache").cases[0], tmp_path / "c.png")
    assert (tmp_path / "c.png").is_file()


def test_case_without_label_is_shown_too(tmp_path):
    heads = write_dataset(tmp_path / "heads", count=1, shape=(32, 32))
    bare = Dataset(tuple(type(case)(case.name, case.images) for case in heads.cases))
    preprocess(bare, Pipeline((MinMax(),)), tmp_path / "cache", workers=1)
    before_and_after(open_cache(tmp_path / "cache").cases[0], tmp_path / "c.png")
    assert Image.open(tmp_path / "c.png").size[0] > 1000
