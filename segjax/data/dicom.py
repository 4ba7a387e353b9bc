"""Read DICOM series: slices in files of any name become volumes; nothing of the patient leaves."""

import json
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segjax.data import _dicom_geometry as geometry
from segjax.data._dcm2niix import read_with_dcm2niix
from segjax.data._dicom_facts import acquisition_facts, identifying_facts
from segjax.data._dicom_header import (
    Frame,
    UnfitImageError,
    is_dicom,
    quiet,
    read_dataset,
    read_frames,
)
from segjax.data._dicom_pixels import read_slices
from segjax.data.nifti import write_nifti
from segjax.data.spatial import Grid
from segjax.errors import InputError
from segjax.files import atomic_path
from segjax.volume import Volume

__all__ = [
    "Reader",
    "Series",
    "convert",
    "find_series",
    "holds_dicom",
    "is_dicom",
    "read_dicom",
    "series_files",
    "sidecar",
    "write_sidecar",
]

PathLike = str | os.PathLike[str]
Reader = Literal["simpleitk", "dcm2niix"]


@dataclass(frozen=True)
class Series:
    """One volume of a scanner: its slices in order.

    Attributes:
        name: Series number; with a dash and a count where several volumes have one number.
        uid: Series instance UID.
        description: What the scanner calls it; may identify the patient.
        modality: Such as ``"MR"``.
        frames: Its slices, in order along their normal.
    """

    name: str
    uid: str
    description: str
    modality: str
    frames: tuple[Frame, ...] = field(repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold its slices, in order."""
        return tuple(dict.fromkeys(frame.file for frame in self.frames))

    @property
    def grid(self) -> Grid:
        """Shape (column, row, slice) and affine (RAS+).

        Raises:
            InputError: A slice is missing, is there twice, or has no position.
        """
        return geometry.place(self.frames, str(self.frames[0].file.parent))


def find_series(folder: PathLike) -> list[Series]:
    """Find the volumes in a folder of DICOM files and the folders in it.

    Files count by DICOM's mark, not by name. Images of one series that cannot be one volume
    (another size, orientation, echo, temporal position, …) become volumes of their own. Only
    headers are read: one to three milliseconds per file.

    Args:
        folder: The folder.

    Returns:
        The volumes, by series number and in the order of their files.

    Raises:
        InputError: There is no such folder, no image in it, or a file is corrupt.

    Warns:
        UserWarning: Localisers, images in colour, or images without a position in the patient
            were left out.

    Example:
        >>> [series.name for series in find_series("dicom/flair")]  # doctest: +SKIP
        ['4']
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    files = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    found = _volumes(_images(sorted(files), folder), folder)
    if not found:
        raise InputError(f"{folder}: holds no DICOM images of a volume")
    return found


def read_dicom(
    source: PathLike | Series, *, reader: Reader = "simpleitk", series: str | int | None = None
) -> Volume:
    """Read a DICOM series as a volume.

    Slices are ordered by their place along the normal of the first, never by name. Voxels are
    ``stored * slope + intercept`` as float32 where the file scales them, else they keep their
    type. The axes of the data are those of DICOM: columns, rows, slices. A single slice is as thick
    as it says, else 1 mm.

    Args:
        source: A folder that holds one series; one file, which stands for its series in its
            folder; or a series of :func:`find_series`.
        reader: ``"simpleitk"``: uncompressed pixels are taken as they are and SimpleITK decodes
            compressed ones. ``"dcm2niix"``: the program of that name, of the extra ``dicom``.
            Both give the same voxels; affines agree to the float32 of dcm2niix's NIfTI header.
        series: Name, number or UID of the series, where a folder holds several.

    Returns:
        Volume of shape ``(column, row, slice)``, its affine in RAS+ as ever.

    Raises:
        InputError: There is no image, or there are several series and none is chosen; a slice is
            missing or there twice (said where); a file is corrupt, truncated, of colours, or over
            16 GiB; its coding is none that SimpleITK decodes; dcm2niix is wanted and is not there.

    Warns:
        UserWarning: Localisers, images in colour, or images without a position in the patient
            were left out.

    Example:
        >>> read_dicom("dicom/flair").spacing  # doctest: +SKIP
        (0.4297, 0.4297, 6.5)

    Source: https://dicom.nema.org/medical/dicom/current/output/html/part03.html, C.7.6.2
    """
    if reader not in ("simpleitk", "dcm2niix"):
        raise InputError(f"reader {reader!r}: give 'simpleitk' or 'dcm2niix'")
    chosen = source if isinstance(source, Series) else _choose(Path(source), series)
    name = str(chosen.files[0].parent)
    mosaic = "MOSAIC" in chosen.frames[0].image_type
    if mosaic and reader == "simpleitk":
        raise InputError(f"{name}: its files are mosaics of slices; use reader='dcm2niix'")
    grid = chosen.grid
    if reader == "simpleitk":
        return Volume(read_slices(chosen.frames).transpose(2, 1, 0), grid.affine)
    volume = read_with_dcm2niix(chosen.files, grid.affine, name)
    if not mosaic and volume.data.shape != grid.shape:
        raise InputError(
            f"{name}: dcm2niix makes a volume of {volume.data.shape} of these files, not of "
            f"{grid.shape}; use reader='simpleitk'"
        )
    return volume


def holds_dicom(folder: PathLike) -> bool:
    """Say whether a folder, or one in it, holds a file with DICOM's mark.

    Args:
        folder: The folder.

    Returns:
        Whether there is one; false where there is no such folder.

    Example:
        >>> import tempfile
        >>> holds_dicom(tempfile.mkdtemp())
        False
    """
    return any(is_dicom(Path(root) / name) for root, _, names in os.walk(folder) for name in names)


def series_files(path: PathLike) -> tuple[Path, ...]:
    """Return the files whose slices :func:`read_dicom` would read.

    Args:
        path: A folder that holds one series, or one file, which stands for its series.

    Returns:
        The files in the order of their slices.

    Raises:
        InputError: As :func:`read_dicom`, but pixels and gaps are not looked at.

    Example:
        >>> len(series_files("dicom/flair/000005.dcm"))  # doctest: +SKIP
        22
    """
    return _choose(Path(path), None).files


def sidecar(series: Series, *, identifiers: bool = False) -> dict[str, Any]:
    """Return how a series was acquired, under the names and in the units of BIDS.

    Names are on a list of those that say nothing of the patient: scanner, sequence, times in
    seconds, thickness in mm, angles in degrees. Nothing else is taken over.

    Args:
        series: The series; its first file is read.
        identifiers: Take over names, identifiers, dates, descriptions and the like too.

    Returns:
        Facts that JSON can hold.

    Raises:
        InputError: The file cannot be read.

    Example:
        >>> sidecar(find_series("dicom/flair")[0])["EchoTime"]  # doctest: +SKIP
        0.127764

    Source: https://bids-specification.readthedocs.io (MRI), DICOM PS3.15 table E.1-1
    """
    dataset = read_dataset(series.files[0])
    try:
        with quiet():
            facts = acquisition_facts(dataset)
            return facts | identifying_facts(dataset) if identifiers else facts
    except Exception as error:  # pydicom names no closed set of errors
        raise InputError(f"{series.files[0]}: its DICOM header is corrupt: {error}") from error


def write_sidecar(
    series: Series, path: PathLike, *, identifiers: bool = False, overwrite: bool = False
) -> None:
    """Write how a series was acquired as JSON.

    Args:
        series: The series.
        path: File to write.
        identifiers: Write names, identifiers, dates, descriptions and the like too.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: The series cannot be read, or the file cannot be written.

    Example:
        >>> write_sidecar(find_series("dicom/flair")[0], "flair.json")  # doctest: +SKIP
    """
    facts = sidecar(series, identifiers=identifiers)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def convert(
    folder: PathLike,
    out: PathLike,
    *,
    reader: Reader = "simpleitk",
    identifiers: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Write every series of a folder as NIfTI, with a JSON side-car.

    Files are called ``seriesNAME.nii.gz`` and ``seriesNAME.json`` by the series' numbers, since
    descriptions may name the patient.

    Args:
        folder: Folder of DICOM files.
        out: Folder to write to, made if needed.
        reader: As for :func:`read_dicom`.
        identifiers: Write names, identifiers, dates and the like into the side-cars.
        overwrite: Replace files that are there already.

    Returns:
        The NIfTI files.

    Raises:
        InputError: As :func:`find_series` and :func:`read_dicom`; or a file is there already.

    Example:
        >>> convert("dicom/flair", "nifti")  # doctest: +SKIP
        [PosixPath('nifti/series4.nii.gz')]
    """
    found = find_series(folder)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be made a folder: {error.strerror}") from error
    written = []
    for series in found:
        path = Path(out) / f"series{series.name}.nii.gz"
        write_nifti(read_dicom(series, reader=reader), path, overwrite=overwrite)
        facts = Path(out) / f"series{series.name}.json"
        write_sidecar(series, facts, identifiers=identifiers, overwrite=overwrite)
        written.append(path)
    return written


def _choose(path: Path, wanted: str | int | None) -> Series:
    """Return the series that a folder or file stands for."""
    found = find_series(path) if path.is_dir() else _series_of(path)
    if wanted is not None:
        found = [one for one in found if str(wanted) in (one.name, one.uid, _number(one))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"{path}: holds no series {wanted}")
    listed = "; ".join(
        f"{one.name} ({one.description or 'no description'}, {len(one.frames)} slices of "
        f"{one.frames[0].pixels.shape[1]}×{one.frames[0].pixels.shape[0]})"
        for one in found
    )
    raise InputError(
        f"{path}: holds {len(found)} series: {listed}; choose with series='{found[0].name}', or "
        "give a file of the one you mean"
    )


def _series_of(path: Path) -> list[Series]:
    """Return the volumes that hold the frames of a file, from all files of its folder."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    own = read_frames(path)
    if not own:
        raise InputError(f"{path}: holds no image")
    uid = own[0].series[0]
    others, _ = _frames_of(file for file in sorted(path.parent.iterdir()) if file != path)
    rest = [frame for frame in others if frame.series[0] == uid]
    named = _named(geometry.split([*own, *(rest if uid else ())]))
    return [series for series in named if path in series.files]


def _images(files: Iterable[Path], folder: Path) -> list[Frame]:
    """Read the frames of all files that are images; warn of those that are no slices."""
    frames, unfit = _frames_of(files)
    if unfit:
        _warn(f"{folder}: left out {len(unfit)} images in colour or of bits, such as {unfit[0]}")
    placed = [frame for frame in frames if frame.position is not None]
    if lost := len(frames) - len(placed):
        _warn(f"{folder}: left out {lost} images without a position, orientation or spacing")
    return placed


def _frames_of(files: Iterable[Path]) -> tuple[list[Frame], list[Path]]:
    """Return the frames of the DICOM files, and the files that hold no slices but other images."""
    frames: list[Frame] = []
    unfit = []
    for file in files:
        try:
            frames += read_frames(file) if is_dicom(file) else ()
        except UnfitImageError:
            unfit.append(file)
    return frames, unfit


def _volumes(frames: Sequence[Frame], folder: Path) -> list[Series]:
    """Group frames into volumes; warn of localisers."""
    by_uid: dict[str, list[Frame]] = {}
    for frame in frames:
        by_uid.setdefault(frame.series[0], []).append(frame)
    localisers = [uid for uid, group in by_uid.items() if geometry.is_localiser(group)]
    if localisers:
        numbers = ", ".join(str(by_uid[uid][0].series[1]) for uid in localisers)
        _warn(f"{folder}: left out the localiser of series {numbers}; read it by one of its files")
    kept = [by_uid[uid] for uid in by_uid if uid not in localisers]
    return _named([part for group in kept for part in geometry.split(group)])


def _named(volumes: Sequence[tuple[Frame, ...]]) -> list[Series]:
    """Name volumes by their series' numbers, and count those of one number."""
    by_number: dict[int, list[tuple[Frame, ...]]] = {}
    for frames in volumes:
        by_number.setdefault(frames[0].series[1], []).append(frames)
    return [
        Series(
            name=str(number) if len(group) == 1 else f"{number}-{count}",
            uid=frames[0].series[0],
            description=frames[0].series[2],
            modality=frames[0].modality,
            frames=frames,
        )
        for number, group in sorted(by_number.items())
        for count, frames in enumerate(group, start=1)
    ]


def _number(series: Series) -> str:
    return str(series.frames[0].series[1])


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)
