"""Where MS lesions lie: by the ventricles, by the cortex, under the tentorium or between them.

A map of zones is made once for a patient, from masks of ventricles, cortex and brainstem with
cerebellum; each lesion then takes its zone from the map. What criteria make of the zones are
:func:`dissemination_in_space` and :func:`radiologically_isolated`.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int, Integer

from segjax.data.io.formats import read_label
from segjax.data.prepare.spatial import resample
from segjax.errors import InputError
from segjax.files import read_csv
from segjax.grid import Grid, grid, same_grid
from segjax.text import plural
from segjax.volume import Volume

__all__ = [
    "DEEP_WHITE_MATTER",
    "FREESURFER",
    "INFRATENTORIAL",
    "JUXTACORTICAL",
    "OPTIC_NERVE",
    "PERIVENTRICULAR",
    "SPINAL_CORD",
    "STRUCTURES",
    "Dissemination",
    "RadiologicallyIsolated",
    "Zones",
    "dissemination_in_space",
    "radiologically_isolated",
    "read_structures",
    "read_zones",
    "structures_of",
    "zone_of",
    "zones_of",
]

PathLike = str | os.PathLike[str]

DEEP_WHITE_MATTER = "deep white matter"
PERIVENTRICULAR = "periventricular"
JUXTACORTICAL = "juxtacortical"
INFRATENTORIAL = "infratentorial"
"""Zones of the brain. Lesions of the cortex itself count as juxtacortical."""
SPINAL_CORD = "spinal cord"
OPTIC_NERVE = "optic nerve"
"""Areas that no image of the brain shows: what others saw there is told by these names."""

STRUCTURES = ("ventricles", "cortex", "infratentorial")
"""What zones are made from; the values 1, 2 and 3 of a map of structures.

The lateral ventricles; the cortex of the cerebrum; the brainstem, the cerebellum and the fourth
ventricle between them.
"""
FREESURFER: Mapping[str, Collection[int]] = {
    "ventricles": (4, 5, 31, 43, 44, 63),
    "cortex": (
        *(3, 42),
        *(side + n for side in (1000, 2000) for n in range(1, 36) if n != 4),
        *range(11101, 11176),
        *range(12101, 12176),
    ),
    "infratentorial": (
        7,
        8,
        15,
        16,
        46,
        47,
        *range(170, 176),
        177,
        178,
        179,
        *range(601, 629),
        *range(630, 633),
    ),
}
"""Values of each structure in label maps of FreeSurfer, SynthSeg, SAMSEG and FastSurfer.

Lateral ventricles with their temporal horns and choroid plexus, left and right; the cortex as a
whole, or its parcels of Desikan, Killiany and Tourville (1001 and 2001 on; without the corpus
callosum of old versions, 1004 and 2004) or of Destrieux (11101 and 12101 on); brainstem (or its
parts), fourth ventricle, white matter and cortex of the cerebellum (or its lobules).
"""

_NAMES = {0: DEEP_WHITE_MATTER, 1: PERIVENTRICULAR, 2: JUXTACORTICAL, 3: INFRATENTORIAL}
_AREAS = {
    2017: (PERIVENTRICULAR, JUXTACORTICAL, INFRATENTORIAL, SPINAL_CORD),
    2024: (PERIVENTRICULAR, JUXTACORTICAL, INFRATENTORIAL, SPINAL_CORD, OPTIC_NERVE),
}
_MANY, _PERIVENTRICULAR_LESIONS = 9, 3  # of Barkhof's criteria
_CRITERIA_2009, _FEATURES_2023 = 3, 2  # how many must hold
_REACH = 2.0
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Zones:
    """Hold the zone of every voxel of an image.

    Attributes:
        map: Values that ``names`` explains, ``(*spatial)``, of rank 3.
        names: The zone of each value. 0 is what no other zone claims: deep white matter, with the
            deep grey matter, and all that is no brain.

    Raises:
        InputError: The map is no volume of integers, or holds a value without a name.

    Example:
        >>> map = Volume(np.array([[[0, 0, 1]]], np.uint8), np.eye(4))
        >>> zone_of(np.array([[[False, True, True]]]), Zones(map))
        'periventricular'
    """

    map: Volume
    names: Mapping[int, str] = field(default_factory=lambda: dict(_NAMES))

    def __post_init__(self) -> None:
        data = self.map.data
        if data.ndim != 3 or not np.issubdtype(data.dtype, np.integer):
            raise InputError(
                f"a map of zones is a volume of integers, not {data.dtype} of shape {data.shape}"
            )
        if odd := sorted(set(np.unique(data).tolist()) - set(self.names)):
            raise InputError(f"the map of zones holds {odd}: values without a name")
        if odd := sorted(set(self.names.values()) - set(_NAMES.values())):
            raise InputError(f"zones {odd}: give {', '.join(_NAMES.values())}")


def zone_of(
    lesion: Bool[np.ndarray, "*spatial"] | Integer[np.ndarray, "voxel 3"], zones: Zones
) -> str:
    """Return the zone of a lesion.

    The first of these that holds: infratentorial, with half of its voxels or more in that zone;
    periventricular, with any voxel in that zone; juxtacortical, with any; deep white matter.

    Args:
        lesion: Its mask on the grid of the zones, or the indices of its voxels.
        zones: The zones.

    Raises:
        InputError: The lesion is empty, or is neither a mask of that shape nor indices.

    Example:
        >>> zones = Zones(Volume(np.array([[[0, 2, 1, 3]]], np.uint8), np.eye(4)))
        >>> zone_of(np.array([[[True, True, False, False]]]), zones)
        'juxtacortical'
        >>> zone_of(np.array([[[True, True, True, False]]]), zones)
        'periventricular'

    Source: In contact with the lateral ventricles or the cortex "without white matter in between":
        M. Filippi et al., Assessment of lesions on magnetic resonance imaging in multiple
        sclerosis: practical guidelines, Brain 142, 2019. That the ventricles go before the cortex,
        as in LST-AI (T. Wiltgen et al., NeuroImage: Clinical 42, 2024), is a convention: criteria
        count a lesion once.
    """
    is_mask = lesion.dtype == bool
    fits = lesion.shape == zones.map.data.shape if is_mask else lesion.shape[1:] == (3,)
    if not fits:
        raise InputError(
            f"a lesion of {lesion.dtype} and shape {lesion.shape} does not lie on zones of "
            f"{zones.map.data.shape}: give a bool for each voxel, or indices (voxel, 3)"
        )
    held = zones.map.data[lesion if is_mask else tuple(lesion.T)]
    if not held.size:
        raise InputError("a lesion without voxels lies in no zone")
    share = {name: float(np.mean(held == value)) for value, name in zones.names.items()}
    if share.get(INFRATENTORIAL, 0) >= 0.5:
        return INFRATENTORIAL
    touched = (name for name in (PERIVENTRICULAR, JUXTACORTICAL) if share.get(name, 0) > 0)
    return next(touched, DEEP_WHITE_MATTER)


def zones_of(
    structures: Volume, *, ventricle_reach: float = _REACH, cortex_reach: float = _REACH
) -> Zones:
    """Return the zones about ventricles, cortex and what lies under the tentorium.

    Periventricular is a voxel of the lateral ventricles, one that shares a face with such a voxel,
    and one whose centre lies at most ``ventricle_reach`` from that of such a voxel; juxtacortical
    the same of the cortex. Where both hold it is periventricular. Infratentorial are brainstem and
    cerebellum themselves, and before both.

    Args:
        structures: Map of :data:`STRUCTURES`, 0, 1, 2 or 3, ``(*spatial)``, on the image's grid,
            which may have any affine, sheared ones included.
        ventricle_reach: In mm. The literature takes lesions that abut the ventricles, or those
            within 1 to 3 mm; 2 mm at voxels of 1 mm is contact at a corner, or one voxel between.
        cortex_reach: In mm.

    Raises:
        InputError: The map is no volume of these values, or a reach is negative.

    Example:
        >>> structures = Volume(np.array([[[1, 0, 0, 0, 0, 2, 3]]], np.uint8), np.eye(4))
        >>> zones_of(structures, ventricle_reach=2, cortex_reach=1).map.data.tolist()
        [[[1, 1, 1, 0, 2, 2, 3]]]
    """
    if not (ventricle_reach >= 0 and cortex_reach >= 0):
        raise InputError(f"reach {ventricle_reach}, {cortex_reach}: give mm, at least 0")
    data = structures.data
    if data.ndim != 3 or not np.isin(data, range(len(STRUCTURES) + 1)).all():
        raise InputError("a map of structures is a volume of 0, 1, 2 and 3: see STRUCTURES")
    found = np.zeros(data.shape, np.uint8)
    found[_near(data == 2, structures.affine, cortex_reach)] = 2
    found[_near(data == 1, structures.affine, ventricle_reach)] = 1
    found[data == 3] = 3
    return Zones(structures.with_data(found))


def structures_of(labels: Volume, table: Mapping[str, Collection[int]] = FREESURFER) -> Volume:
    """Return the map of structures of a label map.

    Args:
        labels: Label map ``(*spatial)`` of integers.
        table: Its values of each of :data:`STRUCTURES`.

    Returns:
        The map, uint8: 0, or 1 more than the place in :data:`STRUCTURES`.

    Raises:
        InputError: The table lacks a structure, or the label map has none of its values.

    Example:
        >>> labels = Volume(np.array([[[2, 4, 1012, 16]]], np.int32), np.eye(4))
        >>> structures_of(labels).data.tolist()
        [[[0, 1, 2, 3]]]
    """
    if set(table) != set(STRUCTURES):
        raise InputError(
            f"a table of {', '.join(table) or 'nothing'}: give the values of "
            f"{', '.join(STRUCTURES[:-1])} and {STRUCTURES[-1]}"
        )
    found = np.zeros(labels.data.shape, np.uint8)
    for value, name in enumerate(STRUCTURES, 1):
        inside = np.isin(labels.data, list(table[name]))
        if not inside.any():
            raise InputError(
                f"the label map has no {name}: none of {_values(table[name])}; is it one of "
                "FreeSurfer, SynthSeg or FastSurfer with the cortex, or does it need a table?"
            )
        found[inside] = value
    return labels.with_data(found)


def read_structures(
    source: PathLike | Mapping[str, PathLike], *, table: PathLike | None = None
) -> Volume:
    """Read a map of structures.

    Args:
        source: A label map of FreeSurfer, SynthSeg or FastSurfer, such as ``aparc+aseg.mgz``; any
            format of :func:`segjax.read` and ``.mgz``. Or a mask for each of :data:`STRUCTURES`,
            all on one grid, in which all but 0 is the structure; the later one wins where two meet.
        table: CSV with the columns ``value`` and ``structure`` that names, with the words of
            :data:`STRUCTURES`, the values of a label map of others.

    Raises:
        InputError: A file cannot be read or holds no volume of integers, a structure has no mask
            or no value, or masks lie on different grids.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "aseg.npy"
        >>> np.save(path, np.array([[[2, 4], [3, 16]]]))
        >>> read_structures(path).data.tolist()
        [[[0, 1], [2, 3]]]
    """
    if not isinstance(source, Mapping):
        labels = _read_labels(source)
        try:
            return structures_of(labels, _read_table(table) if table else FREESURFER)
        except InputError as error:
            raise InputError(f"{table or source}: {error}") from None
    if set(source) != set(STRUCTURES) or table:
        raise InputError(
            f"masks of {', '.join(source)}: give one each of {', '.join(STRUCTURES)}, and no table"
        )
    masks = {name: _read_labels(source[name]) for name in STRUCTURES}
    first = masks[STRUCTURES[0]]
    found = np.zeros(first.data.shape, np.uint8)
    for value, (name, mask) in enumerate(masks.items(), 1):
        if not same_grid(grid(mask), grid(first)):
            raise InputError(f"{source[name]}: lies on another grid than the other masks")
        if not mask.data.any():
            raise InputError(f"{source[name]}: is empty, but zones need the {name}")
        found[mask.data != 0] = value
    return first.with_data(found)


def read_zones(
    source: PathLike | Mapping[str, PathLike],
    like: Grid,
    *,
    table: PathLike | None = None,
    ventricle_reach: float = _REACH,
    cortex_reach: float = _REACH,
) -> Zones:
    """Read structures, bring them to an image's grid and return the zones about them.

    Args:
        source: See :func:`read_structures`.
        like: Grid of the image; voxels take the structure that is nearest to them.
        table: See :func:`read_structures`.
        ventricle_reach: See :func:`zones_of`.
        cortex_reach: See :func:`zones_of`.

    Raises:
        InputError: See :func:`read_structures`; or no ventricle and no cortex lies within the
            grid, as where a label map belongs to another image.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "aseg.npy"
        >>> np.save(path, np.array([[[4, 2, 2, 2, 2, 3, 16]]]))
        >>> read_zones(path, Grid((1, 1, 7), np.eye(4))).map.data.tolist()
        [[[1, 1, 1, 2, 2, 2, 3]]]
    """
    structures = read_structures(source, table=table)
    if len(like.shape) != 3:
        raise InputError("zones are of volumes: a picture has no place in the brain")
    placed = resample(structures, like, interpolation="nearest")
    if not (placed.data == 1).any() and not (placed.data == 2).any():
        told = ", ".join(map(str, source.values())) if isinstance(source, Mapping) else source
        raise InputError(
            f"{told}: no ventricle and no cortex lies within the image; take a label map of the "
            "same patient and in the same space"
        )
    return zones_of(placed, ventricle_reach=ventricle_reach, cortex_reach=cortex_reach)


@dataclass(frozen=True)
class Dissemination:
    """Which areas hold lesions, and whether that is dissemination in space.

    Attributes:
        counts: Lesions of each area of the criteria, and of the deep white matter, which is none.
        areas: Areas of the criteria with at least one lesion.
        fulfilled: Whether there are two of them or more.
    """

    counts: Mapping[str, int]
    areas: tuple[str, ...]
    fulfilled: bool


def dissemination_in_space(
    zones: Iterable[str], *, revision: Literal[2017, 2024] = 2017
) -> Dissemination:
    """Count lesions by area as the McDonald criteria do.

    Dissemination in space is at least one T2 lesion in at least two areas; 2017: periventricular,
    cortical or juxtacortical, infratentorial, spinal cord; 2024: or the optic nerve. It is a part
    of the criteria, no diagnosis: they ask for typical lesions of at least 3 mm and for no better
    explanation, and further for dissemination in time or what stands for it.

    Args:
        zones: Zone of each lesion; leave out those under 3 mm. Lesions that were seen elsewhere
            may be added as ``"spinal cord"`` and ``"optic nerve"``: an image of the brain alone
            shows three of the areas, so that what it does not fulfil may be fulfilled all the same.
        revision: Of the McDonald criteria.

    Raises:
        InputError: A zone or the revision is unknown.

    Example:
        >>> found = dissemination_in_space(["periventricular", "deep white matter"])
        >>> found.areas, found.fulfilled
        (('periventricular',), False)
        >>> dissemination_in_space(["periventricular", "spinal cord"]).fulfilled
        True

    Source: A. J. Thompson et al., Diagnosis of multiple sclerosis: 2017 revisions of the McDonald
        criteria, Lancet Neurology 17, 2018. X. Montalban et al., Diagnosis of multiple sclerosis:
        2024 revisions of the McDonald criteria, Lancet Neurology 24, 2025, by which the optic
        nerve is the fifth area, and lesions in four or five need no dissemination in time.
    """
    if revision not in _AREAS:
        raise InputError(f"revision {revision} of the McDonald criteria: give 2017 or 2024")
    counts = _counts(zones)
    areas = tuple(area for area in _AREAS[revision] if counts[area])
    named = (*_AREAS[revision], DEEP_WHITE_MATTER)
    return Dissemination({name: counts[name] for name in named}, areas, len(areas) >= 2)


@dataclass(frozen=True)
class RadiologicallyIsolated:
    """What criteria of the radiologically isolated syndrome ask of images and spinal fluid.

    Attributes:
        criteria: Of 2009: whether each of the four of Barkhof holds, by name.
        fulfilled_2009: Whether three of them or more hold.
        features: Of 2023: whether each of the three features holds, by name.
        fulfilled_2023: Whether the criteria of 2009 are fulfilled, or a lesion lies in an area of
            McDonald 2017 and two features hold.
    """

    criteria: Mapping[str, bool]
    fulfilled_2009: bool
    features: Mapping[str, bool]
    fulfilled_2023: bool


def radiologically_isolated(
    zones: Iterable[str],
    *,
    enhancing: bool = False,
    oligoclonal_bands: bool = False,
    new_lesions: bool = False,
) -> RadiologicallyIsolated:
    """Count lesions as the criteria of the radiologically isolated syndrome do.

    2009: at least three of nine T2 lesions or one that enhances, three periventricular lesions,
    one juxtacortical, one infratentorial or of the spinal cord. 2023: those, or at least one
    lesion in an area of McDonald 2017 with two of a lesion of the spinal cord, oligoclonal bands
    in the cerebrospinal fluid, and a new or enhancing lesion later on. Either holds only of people
    without symptoms of MS, whose lesions are typical, over 3 mm and have no other explanation:
    that is for the physician to say.

    Args:
        zones: Zone of each lesion, as for :func:`dissemination_in_space`.
        enhancing: Whether a lesion takes up gadolinium.
        oligoclonal_bands: Whether the cerebrospinal fluid has bands that the serum has not.
        new_lesions: Whether a later image shows a new T2 lesion or one that enhances.

    Raises:
        InputError: A zone is unknown.

    Example:
        >>> zones = ["periventricular"] * 8 + ["juxtacortical"]
        >>> radiologically_isolated(zones).fulfilled_2009
        True
        >>> radiologically_isolated(["juxtacortical"], oligoclonal_bands=True).fulfilled_2023
        False

    Source: D. T. Okuda et al., Incidental MRI anomalies suggestive of multiple sclerosis,
        Neurology 72, 2009; F. Barkhof et al., Brain 120, 1997, as in C. H. Polman et al., Ann.
        Neurol. 58, 2005, by which lesions of the cord count as infratentorial ones and among the
        nine. C. Lebrun-Frénay et al., The radiologically isolated syndrome: revised diagnostic
        criteria, Brain 146, 2023.
    """
    counts = _counts(zones)
    lesions = sum(counts.values()) - counts[OPTIC_NERVE]
    criteria = {
        "nine lesions, or one that enhances": lesions >= _MANY or enhancing,
        "three periventricular lesions": counts[PERIVENTRICULAR] >= _PERIVENTRICULAR_LESIONS,
        "a juxtacortical lesion": counts[JUXTACORTICAL] > 0,
        "an infratentorial or spinal lesion": counts[INFRATENTORIAL] + counts[SPINAL_CORD] > 0,
    }
    features = {
        "a spinal lesion": counts[SPINAL_CORD] > 0,
        "oligoclonal bands": oligoclonal_bands,
        "new or enhancing lesions later": new_lesions,
    }
    old = sum(criteria.values()) >= _CRITERIA_2009
    typical = any(counts[area] for area in _AREAS[2017])
    new = old or (typical and sum(features.values()) >= _FEATURES_2023)
    return RadiologicallyIsolated(criteria, old, features, new)


def _counts(zones: Iterable[str]) -> dict[str, int]:
    counts = dict.fromkeys((*_AREAS[2024], DEEP_WHITE_MATTER), 0)
    for zone in zones:
        if zone not in counts:
            raise InputError(f"zone {zone!r}: give one of {', '.join(counts)}")
        counts[zone] += 1
    return counts


def _near(
    region: Bool[np.ndarray, "*spatial"], affine: Float64[np.ndarray, "4 4"], reach: float
) -> Bool[np.ndarray, "*spatial"]:
    """Return a region and the voxels near it: those with a face of it, and those within reach."""
    steps = _steps(affine[:3, :3], reach)
    width = np.abs(steps).max(axis=0)
    padded = np.pad(region, [(int(n), int(n)) for n in width])
    near = np.zeros_like(region)
    for step in width + steps:
        near |= padded[tuple(slice(a, a + n) for a, n in zip(step, region.shape, strict=True))]
    return near


def _steps(linear: Float64[np.ndarray, "3 3"], reach: float) -> Int[np.ndarray, "step 3"]:
    """Return the steps of voxels to those within reach in mm, and to those beyond a face."""
    most = np.floor(np.linalg.norm(np.linalg.inv(linear), axis=1) * reach + _ROUNDING).astype(int)
    box = np.array(list(product(*(range(-n, n + 1) for n in np.maximum(most, 1)))))
    within = np.linalg.norm(box @ linear.T, axis=1) <= reach + _ROUNDING
    return box[within | (np.abs(box).sum(axis=1) <= 1)]


def _read_labels(path: PathLike) -> Volume:
    """Read a label map; also of FreeSurfer's own format."""
    labels = _read_mgz(path) if Path(path).suffix in (".mgz", ".mgh") else read_label(path)
    if labels.data.ndim != 3:
        raise InputError(f"{path}: is no volume, but has the shape {labels.data.shape}")
    return labels


def _read_mgz(path: PathLike) -> Volume:
    import nibabel

    try:
        image: Any = nibabel.load(path)
        data = np.asarray(image.dataobj)
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not np.issubdtype(data.dtype, np.integer):
        raise InputError(f"{path}: holds {data.dtype.name}; labels are integers")
    return Volume(data, image.affine)


def _read_table(path: PathLike) -> dict[str, list[int]]:
    table: dict[str, list[int]] = {}
    for number, row in enumerate(read_csv(path), 2):
        value, structure = row.get("value") or "", row.get("structure")
        if structure not in STRUCTURES or not value.strip().isdecimal():
            raise InputError(
                f"row {number} is {dict(row)}: give a value, and as structure one of "
                f"{', '.join(STRUCTURES)}"
            )
        table.setdefault(structure, []).append(int(value))
    return table


def _values(values: Collection[int]) -> str:
    shown = ", ".join(map(str, sorted(values)[:6]))
    return shown if len(values) <= 6 else f"{shown} and {plural(len(values) - 6, 'other')}"
