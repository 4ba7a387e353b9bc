"""Visits read from files: images, masks that are given or predicted, brains."""

import datetime

import numpy as np
import pytest

from segjax.data.io.formats import write_volume
from segjax.data.labels import asked_coding
from segjax.data.visits import VisitFiles, find_subject
from segjax.errors import InputError
from segjax.evaluate.followup import follow_up
from segjax.files import write_json
from segjax.visits import read_visits, segment_image
from segjax.volume import Volume
from tests.tiny_network import write_network

SHAPE = (16, 18, 14)
BOX = np.s_[4:8, 4:8, 4:8]


def save(path, data, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(np.asarray(data), np.eye(4) if affine is None else affine), path)
    return path


def mask(value=1, dtype=np.uint8):
    data = np.zeros(SHAPE, dtype)
    data[BOX] = value
    return data


def image(seed=0):
    noise = np.random.default_rng(seed).uniform(0, 0.2, SHAPE)
    return (noise + 0.7 * mask()).astype(np.float32)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """Return a network that marks what is over 0.5."""
    from segjax_onnx.predict.predictor import Predictor

    return Predictor(write_network(tmp_path_factory.mktemp("network") / "n.onnx"), threads=1)


def test_a_network_segments_each_image_with_both_classes_probabilities(tmp_path, predictor):
    files = [
        VisitFiles(
            str(n),
            (save(tmp_path / f"{n}.nii.gz", image(n)),),
            None,
            None,
            datetime.date(2024, n, 1),
        )
        for n in (1, 2)
    ]
    visits, labels = read_visits(files, predictor=predictor)
    assert labels == ("background", "lesion")
    assert [visit.name for visit in visits] == ["1", "2"]
    assert visits[0].date == datetime.date(2024, 1, 1)
    assert (visits[1].mask.data == mask()).all()
    assert visits[1].image.data.shape == (*SHAPE, 1)
    values = image(2)
    expected = 1 / (1 + np.exp(-(values - 0.5)))
    np.testing.assert_allclose(visits[1].probabilities.data[..., 1], expected, atol=1e-5)
    np.testing.assert_allclose(visits[1].probabilities.data.sum(axis=-1), 1, atol=1e-6)


def test_an_image_in_memory_is_segmented_too(predictor):
    found, probabilities = segment_image(predictor, Volume(image(), np.eye(4)))
    assert (found.data == mask()).all()
    assert probabilities.channels == 2


def test_a_network_takes_no_masks_and_wants_images(tmp_path, predictor):
    own = save(tmp_path / "m.nii.gz", mask())
    with pytest.raises(InputError, match="masks and a network: give one of both"):
        read_visits([VisitFiles("a", (), own)], predictor=predictor)
    with pytest.raises(InputError, match="a: has no image for the network"):
        read_visits([VisitFiles("a")], predictor=predictor)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int16])
def test_images_of_a_few_whole_numbers_are_masks(tmp_path, dtype):
    given = [save(tmp_path / f"{n}.nii.gz", mask(dtype=dtype)) for n in "ab"]
    visits, labels = read_visits(find_subject(given).visits)
    assert labels == ("background", "lesion")
    assert [visit.image for visit in visits] == [None, None]
    assert (visits[0].mask.data == mask()).all()


@pytest.mark.parametrize(
    "data",
    [
        image(),
        -1.0 * mask(),
        mask(999, np.int16),
        np.arange(np.prod(SHAPE)).reshape(SHAPE) % 100,
    ],
)
def test_other_images_are_none(tmp_path, data):
    given = [save(tmp_path / f"{n}.nii.gz", np.asarray(data, np.float32)) for n in "ab"]
    visits, labels = read_visits(find_subject(given).visits)
    assert labels == ()
    assert all(visit.mask is None and visit.image is not None for visit in visits)


def test_a_mask_beside_an_image_is_said(tmp_path):
    given = [save(tmp_path / "a.nii.gz", image()), save(tmp_path / "b.nii.gz", mask())]
    with pytest.raises(InputError, match=r"b\.nii\.gz: looks like a mask, and .*a\.nii\.gz like"):
        read_visits(find_subject(given).visits)


def test_segments_keep_their_names_and_need_no_look(tmp_path):
    given = []
    for name, held in (("a", {1: "Plaque"}), ("b", {1: "Core", 2: "plaque"})):
        path = tmp_path / f"{name}.seg.nrrd"
        write_volume(Volume(mask(len(held)), np.eye(4)), path, segments=held)
        given.append(path)
    visits, labels = read_visits(find_subject(given).visits)
    assert labels == ("background", "Plaque", "Core")
    assert [np.unique(visit.mask.data).tolist() for visit in visits] == [[0, 1], [0, 1]]


def test_names_come_from_options_from_dataset_json_or_from_the_values(tmp_path):
    given = find_subject([save(tmp_path / f"{n}.nii.gz", mask(255)) for n in "ab"]).visits
    _, labels = read_visits(given, coding=asked_coding(["255=plaque"]))
    assert labels == ("background", "plaque")
    visits, labels = read_visits(given)
    assert labels == ("background", "lesion")
    assert visits[0].mask.data.max() == 1
    write_json({"labels": {"background": 0, "core": 255}}, tmp_path / "dataset.json")
    visits, labels = read_visits(given)
    assert labels == ("background", "core")
    assert visits[0].mask.data.max() == 1


def test_values_of_several_labels_are_their_names(tmp_path):
    both = mask(2)
    both[10:12, 10:12, 10:12] = 4
    given = [save(tmp_path / "a.nii.gz", mask(2)), save(tmp_path / "b.nii.gz", both)]
    visits, labels = read_visits(find_subject(given).visits)
    assert labels == ("background", "2", "4")
    assert [visit.mask.data.max() for visit in visits] == [1, 2]


def test_masks_without_a_label_in_common_are_said(tmp_path):
    given = [save(tmp_path / "a.nii.gz", mask(1)), save(tmp_path / "b.nii.gz", mask(255))]
    with pytest.raises(InputError, match="b: its mask holds 255, but that of a 1; say what the"):
        read_visits(find_subject(given).visits)
    empty = save(tmp_path / "c.nii.gz", mask(0))
    visits, _ = read_visits(find_subject([given[1], empty]).visits)
    assert not visits[1].mask.data.any()


def test_masks_of_many_values_are_said(tmp_path):
    many = [save(tmp_path / f"{n}.nii.gz", np.arange(4032).reshape(SHAPE) % 100) for n in "ab"]
    with pytest.raises(InputError, match="the masks hold 99 values; name them with --labels"):
        read_visits(find_subject([], masks=many).visits)


def test_ignored_voxels_are_background(tmp_path):
    data = mask()
    data[12, 12, 12] = 9
    given = find_subject([], masks=[save(tmp_path / f"{n}.nii.gz", data) for n in "ab"])
    coding = asked_coding(["1=lesion", "9=ignore"])
    visits, _ = read_visits(given.visits, coding=coding)
    assert (visits[0].mask.data == mask()).all()


def test_several_volumes_in_a_file_are_said_and_channels_in_files_taken(tmp_path):
    four = save(tmp_path / "four.nii.gz", np.stack([image()] * 4, axis=-1))
    with pytest.raises(InputError, match=r"four\.nii\.gz: holds 4 volumes; give one alone"):
        read_visits([VisitFiles("a", (four,)), VisitFiles("b", (four,))])
    one = save(tmp_path / "one.nii.gz", image())
    visits, _ = read_visits([VisitFiles("a", (one, one)), VisitFiles("b", (one, one))])
    assert visits[0].image.channels == 2


def test_brains_are_read_or_found_as_wanted(tmp_path):
    own = save(tmp_path / "brain.nii.gz", mask())
    stripped = save(tmp_path / "a.nii.gz", image() * mask())
    files = [VisitFiles("a", (stripped,), None, own), VisitFiles("b", (stripped,))]
    given, found = read_visits(files, brain="zero-background")[0]
    assert (given.brain.data == mask()).all()
    assert (found.brain.data == mask()).all()
    assert read_visits(files)[0][1].brain is None
    with pytest.raises(InputError, match="method 'magic'"):
        read_visits(files, brain="magic")


def test_a_mask_on_another_grid_than_its_image_is_said(tmp_path):
    files = []
    for name in "ab":
        scan = save(tmp_path / f"{name}.nii.gz", image())
        own = save(tmp_path / f"{name}_m.nii.gz", mask()[:8])
        files.append(VisitFiles(name, (scan,), own))
    visits, labels = read_visits(files)
    with pytest.raises(InputError, match=r"a: the mask: has shape \(8, 18, 14\), but its image"):
        follow_up(visits, labels=labels)
