"""Whether an image is like those that a network was trained on."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

from segjax.data.prepare.steps import Resample
from segjax.data.seen import Seen, Sight
from segjax.errors import InputError
from segjax.grid import orientation
from segjax_onnx.predict.network import Network

__all__ = ["Doubts"]


@dataclass(frozen=True)
class Doubts:
    """Says in what images are far from those that networks were trained on.

    Attributes:
        strict: Refuse such images instead of warning.
    """

    strict: bool
    _named: set[str | Path] = field(default_factory=set)

    def say(self, name: str, network: Network, sight: Sight) -> None:
        """Say in what an image is far from those that a network was trained on."""
        seen = network.metadata.seen or _assumed(network, sight)
        if seen is None:
            self._say_of_file(network, sight)
        elif doubts := "; ".join(seen.doubts(sight, axes=network.metadata.spatial_dims)):
            if self.strict:
                raise InputError(f"{name}: {doubts}: refused, as --strict asks")
            warnings.warn(f"{name}: {doubts}: the mask may be wrong", stacklevel=6)

    def _say_of_file(self, network: Network, sight: Sight) -> None:
        """Name, once, a file that does not tell at what spacing its network was trained."""
        if len(sight.given.shape) == 2:
            return
        doubt = (
            f"{network.path}: holds no spacing, as files of earlier versions: see to it yourself "
            "that voxels have the size of those that it was trained on"
        )
        if self.strict:
            raise InputError(f"{doubt}: refused, as --strict asks")
        if network.path not in self._named:
            self._named.add(network.path)
            warnings.warn(doubt, stacklevel=7)


def _assumed(network: Network, sight: Sight) -> Seen | None:
    """Return what a file of an earlier version saw at least: the spacing that it resamples to."""
    steps = [step for step in network.pipeline.steps if isinstance(step, Resample)]
    if not steps or len(sight.processed.shape) == 2:
        return None
    spacing = steps[-1].spacing
    return Seen(spacing, spacing, spacing, orientation(sight.processed.affine), (), ())
