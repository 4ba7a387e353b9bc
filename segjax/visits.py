"""Read the visits of a patient: images, masks that are given or predicted, brains."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segjax.data.io.dicom.series import Series
from segjax.data.io.formats import read_image, read_label, read_volume, segment_names
from segjax.data.labels import IGNORED, LabelCoding, coding_of_segments
from segjax.data.prepare.brain import extract_brain
from segjax.data.visits import VisitFiles
from segjax.errors import InputError
from segjax.evaluate.followup import Visit
from segjax.evaluate.pairs import coding_of
from segjax.grid import grid
from segjax.text import plural
from segjax.volume import Volume

if TYPE_CHECKING:
    from segjax_onnx.predict.predictor import Predictor

__all__ = ["read_visits", "segment_image"]

_CLASSICAL = "classical"
_MOST = 16  # values of a mask that nobody calls one


def read_visits(
    files: Sequence[VisitFiles],
    *,
    predictor: "Predictor | None" = None,
    coding: LabelCoding | None = None,
    brain: str | Path = _CLASSICAL,
) -> tuple[list[Visit], tuple[str, ...]]:
    """Read the visits of a patient, and name their labels.

    Images are segmented where there is a network. Without one, and without masks and brains, images
    that hold at most 16 different values, all whole numbers from 0 to 255, are masks.

    Args:
        files: Of each visit.
        predictor: The network.
        coding: What the values of masks stand for; by default what the ``dataset.json`` beside
            them or their segments say. Where nothing tells, the values that the masks hold are the
            labels: named by their numbers, or ``lesion`` where there is one.
        brain: How the brain is found in an image without a mask of it: as
            :func:`segjax.data.prepare.brain.extract_brain` takes it. "classical" is left to
            :func:`segjax.evaluate.followup.follow_up`.

    Returns:
        The visits; and the names of the labels, the background first, empty without masks.

    Raises:
        InputError: A file cannot be read, lies on another grid than its image, holds several
            volumes or values that stand for nothing; there are masks and a network, or masks of
            some visits alone, or the masks have no label in common.

    Example:
        >>> visits, labels = read_visits([VisitFiles("2023", (Path("flair.nii.gz"),))])
        >>> visits[0].image.channels, labels
        (1, ())
    """
    if predictor is not None:
        if any(visit.mask for visit in files):
            raise InputError("masks and a network: give one of both")
        return [_segmented(visit, predictor, brain) for visit in files], predictor.metadata.labels
    files = _masks_alone(files)
    coding = _coding(files) if coding is None else coding
    visits = [_given(visit, coding, brain) for visit in files]
    if coding.names or not any(visit.mask for visit in visits):
        return visits, coding.names
    return _named(visits)


def segment_image(
    predictor: "Predictor", image: Volume, source: Sequence[Path | Series] = ()
) -> tuple[Volume, Volume]:
    """Return the labels of an image, and the probability of each class, the background first.

    Args:
        predictor: The network.
        image: What it sees.
        source: The files of the image, by which messages call it.

    Raises:
        InputError: The network takes other images.

    Example:
        >>> from segjax import Predictor, read
        >>> mask, probabilities = segment_image(Predictor("model.onnx"), read("flair.nii.gz"))
        >>> mask.data.shape, probabilities.channels
        ((24, 28, 24), 2)
    """
    from segjax_onnx.predict.postprocess import postprocess

    found = predictor.probabilities(list(source) or image)
    mask = postprocess(found.data, predictor.postprocessing, found.affine)
    data = found.channels_last
    if data.shape[-1] == 1:  # of a network that tells of the foreground alone
        data = np.concatenate([1 - data, data], axis=-1)
    return found.with_data(mask), found.with_data(data)


def _segmented(visit: VisitFiles, predictor: "Predictor", brain: str | Path) -> Visit:
    if not visit.images:
        raise InputError(f"{visit.name}: has no image for the network")
    image = read_image(visit.images)
    mask, probabilities = segment_image(predictor, image, visit.images)
    inside = _brain(visit, image, brain)
    return Visit(visit.name, image, mask, probabilities, inside, visit.date)


def _given(visit: VisitFiles, coding: LabelCoding, brain: str | Path) -> Visit:
    """Read a visit whose mask is given, if there is any."""
    image = read_image(visit.images) if visit.images else None
    if image is not None and len(visit.images) == 1 and image.channels > 1:
        raise InputError(
            f"{visit.images[0]}: holds {plural(image.channels, 'volume')}; give one alone, such as "
            "the FLAIR"
        )
    mask = None
    if visit.mask is not None:
        mask = read_label(visit.mask, coding=coding, like=None if image is None else grid(image))
        if coding.ignored is not None:
            mask = mask.with_data(np.where(mask.data == IGNORED, 0, mask.data))
    return Visit(visit.name, image, mask, None, _brain(visit, image, brain), visit.date)


def _brain(visit: VisitFiles, image: Volume | None, method: str | Path) -> Volume | None:
    """Return the brain that is given, or found in another way than the common one."""
    if visit.brain is not None:
        brain = read_image(visit.brain)
        return brain.with_data(brain.channels_last[..., 0])
    if image is None or method == _CLASSICAL:
        return None
    return extract_brain(image, method)


def _masks_alone(visits: Sequence[VisitFiles]) -> Sequence[VisitFiles]:
    """Take images for masks where they hold a few whole numbers."""
    if any(visit.mask or visit.brain or len(visit.images) != 1 for visit in visits):
        return visits
    files = [visit.images[0] for visit in visits]
    are = [isinstance(file, Path) and _is_mask(file) for file in files]
    if any(are) and not all(are):
        raise InputError(
            f"{files[are.index(True)]}: looks like a mask, and {files[are.index(False)]} like an "
            "image; give the images, and all masks after --masks"
        )
    if not all(are):
        return visits
    return [replace(visit, images=(), mask=Path(str(visit.images[0]))) for visit in visits]


def _is_mask(file: Path) -> bool:
    if file.name.lower().endswith(".seg.nrrd"):
        return True
    volume = read_volume(file)
    data = volume.data
    if volume.channels > 1 or not np.isfinite(data).all() or data.min() < 0 or data.max() > IGNORED:
        return False
    if (data != np.round(data)).any():
        return False
    return int(np.count_nonzero(np.bincount(data.astype(np.uint8).ravel()))) <= _MOST


def _coding(visits: Sequence[VisitFiles]) -> LabelCoding:
    """Return what the values of masks stand for; without names where nothing tells."""
    masks = [visit.mask for visit in visits if visit.mask is not None]
    if not masks:
        return LabelCoding()
    coding = coding_of(masks[0])
    if coding.names:
        return coding
    return coding_of_segments({str(mask): segment_names(mask) for mask in masks})


def _named(visits: Sequence[Visit]) -> tuple[list[Visit], tuple[str, ...]]:
    """Name the labels of masks by the values that they hold, and count these from 1."""
    held = {v.name: set(np.unique(v.mask.data).tolist()) - {0} for v in visits if v.mask}
    full = {name: own for name, own in held.items() if own}
    values = sorted(set().union(*full.values()))
    first = next(iter(full), "")
    for name, own in full.items():
        if own.isdisjoint(full[first]):
            raise InputError(
                f"{name}: its mask holds {_listed(own)}, but that of {first} "
                f"{_listed(full[first])}; say what the values stand for with --labels, such as "
                "1,255=lesion"
            )
    if len(values) > _MOST:
        raise InputError(f"the masks hold {len(values)} values; name them with --labels")
    names = ("lesion",) if len(values) < 2 else tuple(map(str, values))
    table = np.zeros(max(values, default=0) + 1, np.uint8)
    table[values] = np.arange(1, len(values) + 1)
    counted = [replace(v, mask=v.mask and v.mask.with_data(table[v.mask.data])) for v in visits]
    return counted, ("background", *names)


def _listed(values: set[int]) -> str:
    return ", ".join(map(str, sorted(values)[:_MOST]))
