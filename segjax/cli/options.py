"""What several commands say of the same options, and what these come to."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax.data.folds import Grouping

MODELS = ("mpunet++", "unet3d", "unet2d-k3", "unet2d-k5", "unet2d-k7", "unet2d-k9")
PRESETS = "{ms-7t,ms-7t-released,meningioma-2d}"
LABELS = "VALUE[,VALUE]=NAME..."
LABELS_OF_DATA = "(default: of dataset.json, or 0, 1, 2, ...)"


def label_values(labels: Sequence[str], names: Sequence[str]) -> dict[str, Any] | None:
    """Return the options --labels and --names as a field of a configuration."""
    from segjax.data.labels import asked_coding

    coding = asked_coding(labels, names=names)
    return None if coding is None else coding.as_labels()


def grouping(pattern: str | None, neighbours: int | None, table: Path | None) -> "Grouping | None":
    """Return what --group-by, --neighbours and --groups ask for; ``None`` where none is given."""
    from segjax.data.folds import Grouping

    asked = (pattern, neighbours, table)
    return None if asked == (None, None, None) else Grouping(*asked)
