"""Images in whatever way they are laid out: datasets, folders, subjects, single files."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from segjax.data.bids import check_named, find_bids, names_bids
from segjax.data.cache.layout import is_cache
from segjax.data.cases import Case, Dataset, find_cases, is_dataset
from segjax.data.images import find_images
from segjax.data.labels import PLAIN, LabelCoding
from segjax.data.subjects import find_subjects
from segjax.errors import InputError
from segjax.text import plural

__all__ = ["find_data", "find_inputs"]


def find_data(
    folder: str | Path,
    *,
    images: Sequence[str] = (),
    label: str | None = None,
    series: Sequence[str] = (),
    coding: LabelCoding | None = None,
) -> Dataset[Case]:
    """Find images, labelled or not, in whatever way they are laid out.

    Args:
        folder: A dataset (``images/`` and ``labels/``, or ``imagesTr/`` and ``labelsTr/``), an
            ``nnUNet_raw`` folder of one, a folder of images, one image file, or folders of
            subjects, a BIDS data set among them.
        images: Name of the file of each channel in every subject's folder; in a BIDS data set its
            suffix, with entities where need be: see :func:`segjax.data.bids.find_bids`.
        label: Name of the label map in every subject's folder, or the same.
        series: DICOM series to take of unlabelled images, where not all are wanted.
        coding: What the values of label maps stand for, whatever ``dataset.json`` says.

    Raises:
        InputError: Nothing is found, or something does not fit together.

    Example:
        >>> patients = find_data("patients", images=["flair.nii.gz"], label="lesions.nii.gz")
        >>> [case.name for case in patients.cases[:2]]
        ['01', '02']
    """
    folder = Path(folder)
    if images and is_cache(folder):
        raise InputError(f"{folder}: is a cache: leave out the names of images and label")
    if images:
        find = find_bids if names_bids(folder, images) else find_subjects
        return find(folder, images=images, label=label, coding=coding)
    if label:
        raise InputError(f"{label}: name the images of a subject too")
    if folder.is_dir() and is_dataset(folder):
        return find_cases(folder, coding=coding)
    check_named(folder)
    bare = [folder / name for name in ("images", "imagesTr") if (folder / name).is_dir()]
    cases = find_images(bare or [folder], series=series)
    return Dataset(tuple(sorted(cases, key=lambda case: case.name)))


def find_inputs(
    paths: Sequence[str | Path],
    *,
    channels: int | None = None,
    images: Sequence[str] = (),
    series: Sequence[str] = (),
) -> list[Case]:
    """Find images to segment.

    Args:
        paths: Image files and folders of them, as :func:`segjax.data.images.find_images` takes
            them; with ``images``, folders of subjects.
        channels: Channels that the network takes.
        images: As for :func:`find_data`.
        series: DICOM series to take, where not all are wanted.

    Raises:
        InputError: Nothing is found, two cases have one name, or the channels are others.
    """
    if not images:
        for path in paths:
            check_named(path)
        return find_images(paths, channels=channels, series=series)
    if not paths:
        raise InputError(f"{', '.join(images)}: name folders of subjects too, before --images")
    if series:
        raise InputError("the images of subjects are found by name: leave out the series")
    if channels is not None and len(images) not in (1, channels):
        raise InputError(
            f"{', '.join(images)}: name the file of each channel; the network takes "
            f"{plural(channels, 'channel')}"
        )
    cases: dict[str, Case] = {}
    found = (find_data(path, images=images, coding=PLAIN).cases for path in paths)
    for case in chain.from_iterable(found):
        if case.name in cases:
            first = cases[case.name].images[0]
            raise InputError(f"{first} and {case.images[0]}: are both of '{case.name}'; rename one")
        cases[case.name] = case
    return list(cases.values())
