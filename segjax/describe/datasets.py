"""Say in words what folders of labelled images hold, as they are or preprocessed."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from segjax.describe.images import label_sizes, size_unit
from segjax.describe.words import Facts, span, steps_in_words
from segjax.grid import Grid, grid, orientation
from segjax.text import plural
from segjax.volume import Volume

if TYPE_CHECKING:
    from segjax.data.cache.cache import Cache

__all__ = ["describe_bids", "describe_cache", "describe_dataset"]


def describe_dataset(folder: Path) -> Facts:
    """Describe a folder of labelled images: how many, how large, which labels."""
    from segjax.data.cases import find_cases
    from segjax.data.io.formats import read_grid
    from segjax.progress import track

    dataset = find_cases(folder)
    counts: Counter[int] = Counter()
    sizes: defaultdict[int, list[float]] = defaultdict(list)
    channels, volumes = [], []
    for case in track(dataset.cases, "Reading labels"):
        volume = case.read_label()
        for value, size in label_sizes(volume, case.coding).items():
            counts[value] += 1
            sizes[value].append(size)
        channels.append([sum(read_grid(image)[1] for image in case.images)])
        volumes.append(volume.with_data(np.broadcast_to(np.uint8(0), volume.spatial_shape)))
    names = dataset.labels or {}
    facts = {
        "kind": "labelled data set",
        "cases": str(len(dataset.cases)),
        "channels": ", ".join(dataset.channels or ()) or span(channels),
        **_places(volumes),
    }
    unit = size_unit(volumes[0])
    for value in sorted(counts):
        facts[f"label {value}"] = (
            f"{names.get(value, '')} in {plural(counts[value], 'case')}, "
            f"mean {fmean(sizes[value]):.4g} {unit}"
        ).strip()
    return facts


def describe_bids(folder: Path) -> Facts:
    """Describe a BIDS data set: subjects, sessions and what there is of them, by names alone."""
    from segjax.data.bids import kinds_in, list_bids

    files = list_bids(folder)
    raw, derived = ([file for file in files if file.derived is where] for where in (False, True))
    return {
        "kind": "BIDS data set",
        "subjects": str(len({file.name.entities["sub"] for file in raw})),
        "sessions": str(len({file.name.case for file in raw})),
        "images": kinds_in(raw) or "none",
        "in derivatives": kinds_in(derived) or "none",
    }


def describe_cache(folder: Path) -> Facts:
    """Describe preprocessed cases: how many, how large, by which steps; no array is read."""
    from segjax.data.cache.cache import open_cache

    cache = open_cache(folder)
    grids = [case.grids[-1] for case in cache.cases]
    size = sum(file.stat().st_size for file in (folder / "cases").glob("*/*.npy"))
    facts = {"kind": "cache made by segjax preprocess", "cases": str(len(cache.cases))}
    if cache.cases:
        channels = ", ".join(cache.channels or ()) or str(cache.cases[0].image.shape[-1])
        facts |= {
            "channels": channels,
            **_extent(grids),
            "labels": _cached_labels(cache),
        }
    learned = f" (learned from {plural(len(cache.learned_from), 'case')})"
    steps = steps_in_words(cache.pipeline.to_json()) + (learned if cache.learned_from else "")
    return facts | {"preprocessing": steps, "size": f"{size / 1e6:.4g} MB"}


def _places(volumes: Sequence[Volume]) -> Facts:
    """Describe the grids of label maps; pictures have no place."""
    extent = _extent([grid(volume) for volume in volumes])
    if volumes[0].spatial_dims == 2:
        return extent
    return extent | {
        "orientation": ", ".join(sorted({orientation(volume.affine) for volume in volumes}))
    }


def _extent(grids: Sequence[Grid]) -> Facts:
    """Describe shapes and spacings; pictures have no size but in pixels."""
    shape = span([grid.shape for grid in grids])
    if len(grids[0].shape) == 2:
        return {"shape": f"{shape} pixels"}
    spacing = span([grid.spacing for grid in grids])
    return {"shape": f"{shape} voxels", "spacing": f"{spacing} mm"}


def _cached_labels(cache: "Cache") -> str:
    """Name the labels, or list their values where they have no names."""
    values = sorted({value for case in cache.cases for value in case.values})
    names = cache.labels or {}
    return ", ".join(names.get(value, str(value)) for value in values) or "none"
