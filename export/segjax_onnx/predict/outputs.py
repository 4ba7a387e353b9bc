"""Where masks and probabilities are written, and what they must not replace."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segjax.data.bids import derived_path
from segjax.data.cases import Case
from segjax.data.io.dicom.series import Series
from segjax.data.io.formats import (
    Source,
    mask_suffixes,
    normal_name,
    read_volume,
    suffix,
    write_volume,
)
from segjax.data.sources import files_in
from segjax.errors import InputError
from segjax.files import atomic_path, check_new
from segjax.volume import Volume

__all__ = [
    "Outputs",
    "check_outputs",
    "make_folder",
    "output_files",
    "removed_on_error",
    "write_map",
]

_MAPS = ("_probabilities", "_uncertainty")
_DERIVED = ("dseg", "probseg", "uncertainty")  # the last one is none of BIDS
_OTHER_MASKS = {".nrrd": ".seg.nrrd", ".nhdr": ".seg.nrrd", ".mha": ".nrrd", ".mhd": ".nrrd"}
_MAP_SUFFIXES = {".png": ".npy", ".seg.nrrd": ".nrrd"}  # which hold fractions and channels


class Outputs(NamedTuple):
    """The files of a case: its mask, and the maps that are written where they are wanted."""

    mask: Path
    probabilities: Path
    uncertainty: Path


def output_files(
    case: Case, out: str | Path, format: str | None = None, *, desc: str | None = None
) -> Outputs:
    """Return where the mask of a case is written, and its maps.

    Args:
        case: What is segmented.
        out: Folder of the masks.
        format: Suffix of the mask, one of :func:`segjax.data.io.formats.mask_suffixes`; by default
            that of the case's images, or one that holds masks.
        desc: Where the folder is to be a derivative of BIDS, the entity that tells its masks
            apart: see :func:`segjax.data.bids.derived_path`.

    Raises:
        InputError: Masks are not written in this format, or the image is not called as in BIDS.

    Example:
        >>> files = output_files(Case("a", (Path("scans/a.png"),)), "out")
        >>> [file.name for file in files]
        ['a.png', 'a_probabilities.npy', 'a_uncertainty.npy']
        >>> [file.name for file in output_files(Case("a", (Path("sub-1_T1w.nii"),)), "", desc="x")]
        ['sub-1_desc-x_dseg.nii', 'sub-1_desc-x_probseg.nii', 'sub-1_desc-x_uncertainty.nii']
    """
    kind = _suffix(case) if format is None else format
    if kind.lower() not in mask_suffixes():
        raise InputError(f"format {kind}: masks are written as {', '.join(mask_suffixes())}")
    if desc is not None:
        if kind.lower() not in (".nii", ".nii.gz"):
            raise InputError(f"format {kind}: BIDS has NIfTI alone; give --format .nii.gz")
        place = Path(out) / derived_path(case.images[0], desc)
        return Outputs(*(place.with_name(f"{place.name}_{n}{kind.lower()}") for n in _DERIVED))
    map_kind = _MAP_SUFFIXES.get(kind.lower(), kind)
    maps = (Path(out) / f"{case.name}{name}{map_kind}" for name in _MAPS)
    return Outputs(Path(out) / f"{case.name}{kind}", *maps)


def check_outputs(
    cases: Sequence[Case],
    out: str | Path,
    *,
    format: str | None = None,
    probabilities: bool = False,
    uncertainty: bool = False,
    overwrite: bool = False,
    desc: str | None = None,
) -> None:
    """Refuse, before any work, to write a file twice, over an image, or over something else.

    Names that differ only in capitals or in the form of their accents count as one, as they are
    one file where the file system is that of macOS or Windows.

    Args:
        cases: What is segmented.
        out: Folder of the masks.
        format: As for :func:`output_files`.
        probabilities: Whether maps of these are written too.
        uncertainty: Whether maps of it are written too.
        overwrite: Whether masks and maps may be replaced, each by one of its kind.
        desc: As for :func:`output_files`.

    Raises:
        InputError: Two files would be one, a file is an image that is segmented or exists
            already, a mask would replace a map, or a map a mask; or the folder is that of a DICOM
            series, where masks would be taken for more images the next time.

    Example:
        >>> scans = [Case(name, (Path(f"{name}.png"),)) for name in ("a", "A")]
        >>> check_outputs(scans, "masks")
        Traceback (most recent call last):
            ...
        segjax.errors.InputError: masks/A.png: would be written for 'a' and 'A'; rename one
    """
    images = {
        _key(file.resolve()): file
        for case in cases
        for image in case.images
        for file in files_in(image)
    }
    _check_folder(cases, Path(out))
    owners: dict[str, Case] = {}
    files = [(case, output_files(case, out, format, desc=desc)) for case in cases]
    for output in _outputs(files, (True, probabilities, uncertainty)):
        other = owners.setdefault(_key(output.path), output.case)
        if other is not output.case:
            names = f"'{other.name}' and '{output.case.name}'"
            raise InputError(f"{output.path}: would be written for {names}; rename one")
        if _key(output.path.resolve()) in images:
            raise InputError(f"{output.path}: is an image to segment; write to another folder")
        if not overwrite:
            check_new(output.path)
        _check_kind(output)


def _check_folder(cases: Sequence[Case], out: Path) -> None:
    """Refuse to write among the files of a DICOM series."""
    series = (image for case in cases for image in case.images if isinstance(image, Series))
    if out.resolve() in {file.parent.resolve() for one in series for file in one.files}:
        raise InputError(f"{out}: holds a DICOM series to segment; write to another folder")


@dataclass(frozen=True)
class _Output:
    """A file to write: a mask, or a map of fractions."""

    case: Case
    path: Path
    is_map: bool


def _outputs(files: Sequence[tuple[Case, Outputs]], wanted: Sequence[bool]) -> Iterator[_Output]:
    for case, own in files:
        for path in itertools.compress(own, wanted):
            yield _Output(case, path, is_map=path != own.mask)


def _key(path: Path) -> str:
    """Return what is the same of two paths that some file system takes for one."""
    return normal_name(str(path)).casefold()


def _check_kind(output: _Output) -> None:
    """Refuse a file whose name fits both a mask and a map, and that is there as the other one."""
    path = output.path
    names = [name.strip("_") for name in _MAPS if name in path.name.lower()]
    if not path.is_file() or not names:
        return
    kind = _number_kind(path)
    is_map = kind == "f"
    if kind and is_map != output.is_map:
        kinds = ("a mask", names[0])
        raise InputError(
            f"{path}: holds {kinds[is_map]} and would be replaced by {kinds[output.is_map]} of "
            f"'{output.case.name}'; write to another folder"
        )


def _number_kind(path: Path) -> str:
    """Return NumPy's letter for the numbers of a volume: "f" of a map; nothing of other files."""
    try:
        if path.name.lower().endswith((".nii", ".nii.gz")):  # large maps: the header is enough
            import nibabel

            return str(nibabel.Nifti1Image.from_filename(path).get_data_dtype().kind)
        return read_volume(path).data.dtype.kind
    except Exception:  # nibabel has many, and what cannot be read is neither mask nor map
        return ""


def make_folder(path: str | Path) -> Path:
    """Make a folder for masks where there is none.

    Raises:
        InputError: It cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder ({error.strerror})") from error
    return folder


@contextmanager
def removed_on_error() -> Iterator[list[Path]]:
    """Yield a list of files that are removed again where the block raises."""
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def write_map(map_: Volume, path: Path, *, like: Source | None, overwrite: bool) -> Path:
    """Write probabilities or their spread; NPY files of images of rank 2 hold labels last too.

    Args:
        map_: Data ``(*spatial, label)`` or ``(*spatial)``.
        path: The file, as :func:`output_files` names it.
        like: Image whose header is taken over.
        overwrite: Whether to replace the file.

    Returns:
        The file.

    Raises:
        InputError: It exists already, or cannot be written.
    """
    if map_.spatial_dims == 3 or path.suffix.lower() != ".npy":
        write_volume(map_, path, like=like, overwrite=overwrite)
        return path
    with atomic_path(path, overwrite=overwrite) as temporary:
        np.save(temporary, map_.data)
    return path


def _suffix(case: Case) -> str:
    """Return the suffix of the case's images, that of their masks where it is another one."""
    image = case.images[0]
    found = ".nii.gz" if isinstance(image, Series) else suffix(image)
    masks = _OTHER_MASKS.get(found.lower(), found)
    return masks if masks.lower() in mask_suffixes() else ".nii.gz"
