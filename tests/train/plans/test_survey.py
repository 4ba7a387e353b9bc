import numpy as np
import pytest

from segjax.data.cases import Case, Dataset
from segjax.data.io.formats import write_volume
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import CropOrPad, CropToForeground, HistogramStandardization
from segjax.errors import InputError
from segjax.train.plans.survey import survey
from segjax.volume import Volume


def case(folder, name, values, *, shape=(4, 5, 6), channels=1):
    label = np.zeros(shape, np.uint8)
    label.flat[: len(values)] = values
    affine = np.eye(len(shape) + 1)
    images = tuple(folder / f"{name}_{number:04}.npy" for number in range(channels))
    for image in images:
        write_volume(Volume(label, affine), image)
    write_volume(Volume(label, affine), folder / f"{name}.npy")
    return Case(name, images, folder / f"{name}.npy")


def test_shapes_channels_and_labels_are_found(tmp_path):
    cases = (
        case(tmp_path, "a", [1], channels=2),
        case(tmp_path, "b", [2], shape=(7, 8, 9), channels=2),
    )
    found = survey(Dataset(cases), Pipeline())
    assert found.shapes == ((4, 5, 6), (7, 8, 9))
    assert found.spatial_dims == 3
    assert found.channels == 2
    assert found.labels == ("background", "label 1", "label 2")


def test_shapes_are_those_after_the_spatial_steps(tmp_path):
    found = survey(Dataset((case(tmp_path, "a", [1]),)), Pipeline((CropOrPad((8, 2, 6)),)))
    assert found.shapes == ((8, 2, 6),)


def test_shapes_that_depend_on_the_images_are_found_on_them(tmp_path):
    steps = (HistogramStandardization(), CropToForeground(1.0))  # the first one is not fitted
    found = survey(Dataset((case(tmp_path, "a", [1, 1, 1]),)), Pipeline(steps))
    assert found.shapes == ((2, 2, 4),)


@pytest.mark.parametrize("values", [[], [1]])
def test_a_single_label_or_none_is_a_lesion(tmp_path, values):
    dataset = Dataset((case(tmp_path, "a", values),))
    assert survey(dataset, Pipeline()).labels == ("background", "lesion")


def test_names_of_the_dataset_win(tmp_path):
    names = {0: "background", 1: "oedema", 2: "core", 3: "enhancing"}
    dataset = Dataset((case(tmp_path, "a", [3]),), labels=names)
    assert survey(dataset, Pipeline()).labels == ("background", "oedema", "core", "enhancing")


def test_gaps_between_values_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"values 0, 255, but never 1, 2, .*, 8, …: number them"):
        survey(Dataset((case(tmp_path, "a", [255]),)), Pipeline())
    with pytest.raises(InputError, match=r"--labels, such as 1=NAME 2=NAME 4=NAME$"):
        survey(Dataset((case(tmp_path, "b", [1, 2, 4]),)), Pipeline())


def test_images_among_volumes_are_refused(tmp_path):
    cases = (case(tmp_path, "a", [1]), case(tmp_path, "b", [1], shape=(4, 5)))
    with pytest.raises(InputError, match="'b' has 2 spatial axes, case 'a' has 3"):
        survey(Dataset(cases), Pipeline())


def test_no_cases_and_no_labels_are_refused(tmp_path):
    with pytest.raises(InputError, match="no cases"):
        survey(Dataset(()), Pipeline())
    with pytest.raises(InputError, match="'a' has no label"):
        survey(Dataset((Case("a", (tmp_path / "a.npy",)),)), Pipeline())


def test_values_that_dataset_json_does_not_name_are_refused_with_their_file(tmp_path):
    cases = tuple(case(tmp_path, name, [value]) for name, value in (("a", 1), ("b", 2)))
    dataset = Dataset(cases, labels={0: "background", 1: "lesion"})
    said = r"b\.npy: the labels hold the values 2, which have no name: .*2=NAME, or 2=background"
    with pytest.raises(InputError, match=said):
        survey(dataset, Pipeline())


def test_other_channels_than_dataset_json_names_are_told(tmp_path):
    dataset = Dataset((case(tmp_path, "a", [1]),), channels=("FLAIR", "T1"))
    with pytest.warns(UserWarning, match=r"names 2 channels \(FLAIR, T1\), but the images have 1"):
        survey(dataset, Pipeline())
