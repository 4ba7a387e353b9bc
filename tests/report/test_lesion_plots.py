"""Pictures of lesions: which slices they show, and what is coloured how."""

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.evaluate.lesions import LesionRule
from segjax.report import lesion_plots
from segjax.report.lesion_plots import lesion_overlay
from segjax.volume import Volume

pytest.importorskip("matplotlib")


@pytest.fixture
def head():
    """A volume with lesions that are found (slice 2), missed (slice 7) and invented (slice 12)."""
    data = np.full((20, 16, 15), 50.0, np.float32)
    data[:2] = 0
    truth, prediction = np.zeros((2, *data.shape), np.uint8)
    truth[5:8, 5:8, 2] = prediction[6:9, 5:8, 2] = 1
    truth[10:12, 10:12, 7] = 1
    prediction[4:7, 10:12, 12] = 1
    image = Volume(data, np.eye(4))
    return image, image.with_data(truth), image.with_data(prediction)


@pytest.fixture
def panels(monkeypatch):
    """Name and layers of every panel that is drawn."""
    drawn = []

    def keep(axes, view, name, layers):
        drawn.append((name, {layer.name: int(layer.mask.sum()) for layer in layers}))

    monkeypatch.setattr(lesion_plots, "draw_panel", keep)
    return drawn


def draw(image, truth, prediction, **options):
    return lesion_overlay(image, truth=truth, prediction=prediction, **options)


def test_each_kind_of_lesion_is_shown_on_the_slice_where_it_is(head, panels, tmp_path):
    match = draw(*head, path=tmp_path / "a.png")
    assert panels == [
        ("axial slice 3 of 15", {"found: prediction": 9, "found: true outline": 9}),
        ("axial slice 8 of 15", {"missed": 4}),
        ("axial slice 13 of 15", {"false positive": 6}),
    ]
    assert (match.found, match.missed, match.false_positives) == (1, 1, 1)


def test_flipped_volumes_show_the_same_lesions(head, panels, tmp_path):
    flipped = np.diag([1.0, 1.0, -1.0, 1.0])
    turned = [Volume(volume.data[..., ::-1], flipped) for volume in head]
    draw(*turned, path=tmp_path / "a.png")
    assert [name for name, _ in panels] == [f"axial slice {n} of 15" for n in (13, 8, 3)]


def test_the_smallest_lesion_of_a_sheared_grid_is_not_the_product_of_edges(head, panels, tmp_path):
    sheared = np.eye(4)
    sheared[:3, 2] = (0, 1.5, 3)  # 4 voxels have 12 mm³, by their edges 13.4
    tilted = [Volume(volume.data, sheared) for volume in head]
    match = draw(*tilted, path=tmp_path / "a.png", rule=LesionRule(min_volume=13))
    assert match.missed == 0
    assert not any("missed" in layers for _, layers in panels)


def test_thick_slices_are_shown_in_their_own_plane(head, panels, tmp_path):
    thick = [Volume(volume.data, np.diag([1.0, 5.0, 1.0, 1.0])) for volume in head]
    draw(*thick, path=tmp_path / "a.png")
    assert all(name.startswith("coronal") for name, _ in panels)


def test_at_most_six_slices_are_shown_and_the_fullest_of_each_lesion(panels, tmp_path):
    image = Volume(np.ones((30, 30, 40), np.float32), np.eye(4))
    truth = np.zeros(image.spatial_shape, np.uint8)
    for i, top in enumerate(range(1, 37, 4)):  # nine lesions, largest in their middle slice
        truth[3 * i : 3 * i + 1, 5, top : top + 3] = 1
        truth[3 * i : 3 * i + 2, 5:7, top + 1] = 1
    mask = image.with_data(truth)
    draw(image, mask, image.with_data(0 * truth), path=tmp_path / "a.png")
    assert len(panels) == 6
    assert all(layers == {"missed": 4} for _, layers in panels)


def test_lesions_too_small_to_count_are_told_apart(head, panels, tmp_path):
    image, truth, prediction = head
    truth.data[15, 12, 2] = 1
    match = draw(image, truth, prediction, path=tmp_path / "a.png", rule=LesionRule(min_volume=5))
    assert (match.true_lesions, match.missed) == (1, 0)
    assert [name for name, _ in panels] == ["axial slice 3 of 15", "axial slice 13 of 15"]
    assert panels[0][1]["too small to count"] == 1


def test_masks_without_lesions_show_the_middle(head, panels, tmp_path):
    empty = head[0].with_data(np.zeros(head[0].spatial_shape, np.uint8))
    draw(head[0], empty, empty, path=tmp_path / "a.png")
    assert panels == [("axial slice 8 of 15", {})]


def test_images_of_rank_two_are_shown_whole(panels, tmp_path):
    image = Volume(np.ones((8, 9), np.float32), np.eye(3))
    truth = np.zeros((8, 9), np.uint8)
    truth[2, 2] = 1
    mask = image.with_data(truth)
    draw(image, mask, mask, path=tmp_path / "a.png")
    assert panels == [("", {"found: prediction": 1, "found: true outline": 1})]


def test_the_picture_is_written_and_kept(head, tmp_path):
    path = tmp_path / "a.png"
    draw(*head, path=path, title="case $a$")
    assert path.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(InputError, match=r"a\.png"):
        draw(*head, path=path)
    draw(*head, path=path, overwrite=True)


def test_masks_of_another_grid_are_refused(head, tmp_path):
    _, truth, prediction = head
    small = Volume(np.ones((3, 3, 3), np.float32), np.eye(4))
    with pytest.raises(InputError, match="grid"):
        draw(small, truth, prediction, path=tmp_path / "a.png")
