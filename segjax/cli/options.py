"""What several commands say of the same options, and what these come to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax import studies
from segjax.errors import InputError

if TYPE_CHECKING:
    from segjax.data.cases import Case, Dataset
    from segjax.data.grouping import Grouping

MODELS = (
    *("mpunet++", "unet3d", "unet2d-small"),
    *("unet2d-k3", "unet2d-k5", "unet2d-k7", "unet2d-k9"),
)
PRESETS = f"{{{','.join(studies.names())}}}"
LABELS = "VALUE[,VALUE]=NAME..."
LABELS_OF_DATA = "(default: of dataset.json, or 0, 1, 2, ...)"


def label_values(labels: Sequence[str], names: Sequence[str]) -> dict[str, Any] | None:
    """Return the options --labels and --names as a field of a configuration."""
    from segjax.data.labels import asked_coding

    coding = asked_coding(labels, names=names)
    return None if coding is None else coding.as_labels()


def labelled_data(
    folder: Path,
    images: Sequence[str],
    label: str | None,
    values: Mapping[str, Any] | None,
) -> "Path | Dataset[Case]":
    """Return a folder to train on; where --images and --label name files, the subjects in it."""
    from segjax.data.bids import check_named
    from segjax.data.labels import coding_of_labels
    from segjax.data.layouts import find_data

    if images and not label:
        raise InputError(f"{folder}: name the label map of a subject too, as the images")
    if not images and not label:
        check_named(folder)
        return folder
    coding = None if values is None else coding_of_labels(values)
    return find_data(folder, images=images, label=label, coding=coding)


def kept_on_device(yes: bool, no: bool) -> bool | None:
    """Return what --data-on-device and --no-data-on-device ask for; ``None`` where nothing is."""
    if yes and no:
        raise InputError("--data-on-device and --no-data-on-device: give one of both")
    return yes if yes or no else None


def grouping(pattern: str | None, neighbours: int | None, table: Path | None) -> "Grouping | None":
    """Return what --group-by, --neighbours and --groups ask for; ``None`` where none is given."""
    from segjax.data.grouping import Grouping

    asked = (pattern, neighbours, table)
    return None if asked == (None, None, None) else Grouping(*asked)
