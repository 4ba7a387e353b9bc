"""Read DICOM series: slices in files of any name become volumes; nothing of the patient leaves."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NamedTuple

from segjax.data.io.dicom import geometry
from segjax.data.io.dicom.alike import agree, essence, same_series
from segjax.data.io.dicom.beside import gather
from segjax.data.io.dicom.dcm2niix import find_dcm2niix, read_with_dcm2niix
from segjax.data.io.dicom.facts import acquisition_facts, identifying_facts
from segjax.data.io.dicom.header import Frame, quiet, read_dataset, read_frames
from segjax.data.io.dicom.mark import is_dicom
from segjax.data.io.dicom.pixels import read_slices
from segjax.data.io.dicom.scan import Contents, Problem, Stray, concerns, is_part, read_files
from segjax.data.io.dicom.split import differences, distinctions, split, torn
from segjax.data.io.nifti import write_nifti
from segjax.errors import InputError
from segjax.files import walk, write_json
from segjax.grid import Grid
from segjax.grid import grid as grid_of
from segjax.volume import Volume

__all__ = [
    "Found",
    "Reader",
    "Series",
    "choose_series",
    "convert",
    "find_series",
    "holds_dicom",
    "is_dicom",
    "read_dicom",
    "scan",
    "series_files",
    "sidecar",
    "write_sidecar",
]

PathLike = str | os.PathLike[str]
Reader = Literal["simpleitk", "dcm2niix"]
_MOST_LISTED = 3  # messages in one warning


@dataclass(frozen=True)
class Series:
    """One volume of a scanner: its slices in order.

    Attributes:
        name: Series number; with a dash and a count where several volumes have one number.
        uid: Series instance UID; empty where the files do not say it.
        description: What the scanner calls it; may identify the patient.
        modality: Such as ``"MR"``.
        frames: Its slices, in order along their normal.
        problems: Files beside its slices that should be DICOM but cannot be read, and images of the
            series that cannot be placed, each in a line that says why. While there are any, a part
            of the series may be missing, and it is not read.

    Example:
        >>> series = find_series("scan")[0]
        >>> series.name, series.modality, len(series.files)
        ('3', 'MR', 24)
    """

    name: str
    uid: str
    description: str
    modality: str
    frames: tuple[Frame, ...] = field(repr=False)
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return what to call the series in messages: its file or folder, and its name."""
        files = self.files
        return f"{files[0] if len(files) == 1 else self.folder} (series {self.name})"

    def is_called(self, name: str) -> bool:
        """Say whether a name stands for the series.

        Args:
            name: Its name, number or UID; or, with stars for any letters, its description, in
                capitals or not: ``"*flair*"``.

        Example:
            >>> series = find_series("scan")[0]
            >>> series.is_called("3"), series.is_called("*t1*")
            (True, False)
        """
        described = "*" in name and fnmatchcase(self.description.lower(), name.lower())
        return described or name in (self.name, self.uid, _number(self))

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold its slices, in order."""
        return tuple(dict.fromkeys(frame.file for frame in self.frames))

    @property
    def folder(self) -> Path:
        """The innermost folder that holds all its files."""
        folders = {file.parent for file in self.files}
        if len(folders) == 1:
            return folders.pop()
        common = Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))
        ways = (up for up in self.files[0].parents if Path(os.path.abspath(up)) == common)
        return next(ways, common)

    @property
    def grid(self) -> Grid:
        """Shape (column, row, slice) and affine (RAS+).

        Raises:
            InputError: A slice is missing, is there twice, or has no position; or a file cannot
                be read, so that a part of the series may be missing.
        """
        self.check_files()
        if self.frames[0].is_mosaic:
            return grid_of(_read_mosaic(self))
        return geometry.place(self.frames, str(self))

    def check_files(self) -> None:
        """Refuse a series of which a part may be in files that cannot be read.

        Raises:
            InputError: There are such files.
        """
        if self.problems:
            others = len(self.problems) - 1
            more = f"; and {others} more such file{'s' * (others > 1)}" if others else ""
            raise InputError(f"{self.problems[0]}{more}: a part of {self} may be missing")

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold and :meth:`from_json` turns into the series again.

        Returns:
            Name and absolute paths of the files; the numbers of file and frame of each slice
            where files hold several; the problems, if any.

        Example:
            >>> find_series("scan")[0].to_json()["name"]
            '3'
        """
        content: dict[str, Any] = {
            "name": self.name,
            "files": [os.path.abspath(file) for file in self.files],
        }
        if any(frame.pixels.frames > 1 for frame in self.frames):
            numbers = {file: number for number, file in enumerate(self.files)}
            content["frames"] = [[numbers[frame.file], frame.index] for frame in self.frames]
        return content | ({"problems": list(self.problems)} if self.problems else {})

    @classmethod
    def from_json(cls, content: Any) -> "Series":
        """Read the headers of a series' files again.

        Args:
            content: What :meth:`to_json` returned.

        Returns:
            The series.

        Raises:
            InputError: A file is gone, cannot be read, or has changed so that the files are no
                longer this series; or the content is none of :meth:`to_json`.

        Example:
            >>> series = find_series("scan")[0]
            >>> Series.from_json(series.to_json()).name == series.name
            True
        """
        name, files, wanted, problems = _described(content)
        frames = [frame for file in files for frame in read_frames(file)]
        frames = [frame for frame in frames if (frame.file, frame.index) in wanted]
        found = _named(split(frames)) if len(frames) == len(wanted) else []
        if len(found) != 1:
            raise InputError(
                f"{files[0].parent if files else 'no file'}: its files are no longer the one "
                f"series {name} that they were; look for the series again"
            )
        return replace(found[0], name=name, problems=problems)


def _described(content: Any) -> tuple[str, list[Path], set[tuple[Path, int]], tuple[str, ...]]:
    """Return a stored series' name, files, slices by file and number of the frame, and problems."""
    try:
        files = [Path(file) for file in content["files"]]
        numbers = content.get("frames") or [(number, 0) for number in range(len(files))]
        wanted = {(files[number], index) for number, index in numbers}
        return str(content["name"]), files, wanted, tuple(map(str, content.get("problems", ())))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"this describes no DICOM series: {content!r:.200}") from error


class Found(NamedTuple):
    """What a folder of DICOM files holds.

    Attributes:
        series: Its volumes, by series number and in the order of their files.
        broken: Files that should be DICOM but cannot be read and belong to none of the volumes.
    """

    series: list[Series]
    broken: tuple[Problem, ...]


def scan(folder: PathLike) -> Found:
    """Look for the volumes in a folder of DICOM files and the folders in it.

    Files count by content, not by name, and make one series by what their headers say, wherever
    they lie: patient, study, series, frame of reference, size, orientation, sequence. Images of
    one series that cannot be one volume (another echo, temporal position, …) become volumes of
    their own. Only headers are read: one to three milliseconds per file.

    Args:
        folder: The folder; links in it are followed.

    Returns:
        The volumes, and the files that cannot be read and belong to none of them.

    Raises:
        InputError: There is no such folder, or it or one in it cannot be listed.

    Warns:
        UserWarning: Localisers, images in colour, or images without a position in the patient
            were left out; or volumes of one series UID would make one stack together.

    Example:
        >>> [series.name for series in scan("scan").series]
        ['3']
    """
    return _scan(Path(folder))


def find_series(folder: PathLike) -> list[Series]:
    """Find the volumes in a folder of DICOM files and the folders in it.

    As :func:`scan`, which also returns what cannot be read.

    Args:
        folder: The folder; links in it are followed.

    Returns:
        The volumes, by series number and in the order of their files.

    Raises:
        InputError: There is no such folder, it or one in it cannot be listed, or there is no
            volume in it.

    Warns:
        UserWarning: Localisers, images in colour, images without a position in the patient, or
            files that cannot be read were left out.

    Example:
        >>> [series.name for series in find_series("scan")]
        ['3']
    """
    return _find(Path(folder))


def choose_series(source: PathLike, series: str | int | None = None) -> Series:
    """Return the series that :func:`read_dicom` would read.

    Args:
        source: A folder that holds one series; or one file, which stands for its series in its
            folder and the folders beside, above and in it.
        series: Name, number, UID or description of the series, as :meth:`Series.is_called` takes
            them, where there are several.

    Returns:
        The series; only headers are read.

    Raises:
        InputError: There is no image, or there are several series and none is chosen.

    Warns:
        UserWarning: As :func:`find_series`.

    Example:
        >>> choose_series("scan/IM0005.dcm").name
        '3'
    """
    path = Path(source)
    found = _find(path) if path.is_dir() else _series_of(path)
    if series is not None:
        found = [one for one in found if one.is_called(str(series))]
    if not found:
        raise InputError(f"{path}: holds no series {series}")
    if len(found) > 1:
        raise InputError(f"{path}: holds {len(found)} series: {_offer(found, path)}")
    return found[0]


def read_dicom(
    source: PathLike | Series, *, reader: Reader = "simpleitk", series: str | int | None = None
) -> Volume:
    """Read a DICOM series as a volume.

    Slices are ordered by their place along the normal of the first, never by name. Voxels are
    ``stored * slope + intercept`` as float32 where the file scales them, else they keep their
    type. The axes of the data are those of DICOM: columns, rows, slices. A single slice is as thick
    as it says, else 1 mm. Directions that the header rounds are made perpendicular; slices of a
    tilted gantry stay sheared.

    Args:
        source: A folder that holds one series; one file, which stands for its series in its
            folder and the folders beside, above and in it; or a series of :func:`find_series`.
        reader: ``"simpleitk"``: uncompressed pixels are taken as they are and SimpleITK decodes
            compressed ones; dcm2niix reads mosaics. ``"dcm2niix"``: the program of that name, of
            the extra ``dicom``. Both give the same voxels; affines agree to the float32 of
            dcm2niix's NIfTI header.
        series: Name, number or UID of the series, where a folder holds several.

    Returns:
        Volume of shape ``(column, row, slice)``, its affine in RAS+ as ever.

    Raises:
        InputError: There is no image, or there are several series and none is chosen; a slice is
            missing or there twice (said where); a file is corrupt, truncated, of colours, or over
            16 GiB, or one beside the slices cannot be read; its coding is none that SimpleITK
            decodes; dcm2niix is needed and is not there.

    Warns:
        UserWarning: Localisers, images in colour, images without a position in the patient, or
            files that cannot be read were left out of a folder; or there are bytes after the
            pixels that are taken for padding.

    Example:
        >>> read_dicom("scan").spacing
        (1.0, 1.0, 1.0)

    Source: https://dicom.nema.org/medical/dicom/current/output/html/part03.html, C.7.6.2
    """
    if reader not in ("simpleitk", "dcm2niix"):
        raise InputError(f"reader {reader!r}: give 'simpleitk' or 'dcm2niix'")
    chosen = source if isinstance(source, Series) else choose_series(source, series)
    chosen.check_files()
    if chosen.frames[0].is_mosaic:
        return _read_mosaic(chosen)
    grid = chosen.grid
    if reader == "dcm2niix":
        return _read_by_dcm2niix(chosen, grid)
    return Volume(read_slices(chosen.frames).transpose(2, 1, 0), grid.affine)


def holds_dicom(folder: PathLike) -> bool:
    """Say whether a folder, or one in it, holds a DICOM file.

    Args:
        folder: The folder; links in it are followed.

    Returns:
        Whether there is one; false where there is no such folder.

    Raises:
        InputError: It or a folder in it cannot be listed.

    Example:
        >>> import tempfile
        >>> holds_dicom(tempfile.mkdtemp())
        False
    """
    return Path(folder).is_dir() and any(map(is_dicom, walk(folder)))


def series_files(path: PathLike) -> tuple[Path, ...]:
    """Return the files whose slices :func:`read_dicom` would read.

    Args:
        path: A folder that holds one series, or one file, which stands for its series.

    Returns:
        The files in the order of their slices.

    Raises:
        InputError: As :func:`read_dicom`, but pixels and gaps are not looked at.

    Example:
        >>> len(series_files("scan/IM0005.dcm"))
        24
    """
    chosen = choose_series(path)
    chosen.check_files()
    return chosen.files


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
        >>> sidecar(find_series("scan")[0])["SliceThickness"]
        1

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
        >>> write_sidecar(find_series("scan")[0], "flair.json")
    """
    write_json(sidecar(series, identifiers=identifiers), path, overwrite=overwrite)


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
        >>> convert("scan", "nifti")
        [PosixPath('nifti/series3.nii.gz')]
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


def _offer(found: Sequence[Series], path: Path) -> str:
    """Return what series there are, but for what may name the patient, and how to choose one."""
    listed = "; ".join(
        f"{one.name} ({one.modality or 'no modality'}, {len(one.frames)} slices of "
        f"{one.frames[0].pixels.shape[1]}×{one.frames[0].pixels.shape[0]})"
        for one in found
    )
    apart = ", or give a file of the one you mean" if path.is_dir() else ""
    return (
        f"{listed}; choose with --series {found[0].name} on the command line, "
        f"series='{found[0].name}' in Python{apart}"
    )


def _find(folder: Path) -> list[Series]:
    """Return the volumes in a folder; refuse to find none, warn of files that are none's."""
    found = _scan(folder)
    if not found.series:
        why = f": {_listed([problem.message for problem in found.broken])}" if found.broken else ""
        raise InputError(f"{folder}: holds no DICOM images of a volume{why}")
    if found.broken:
        _warn(f"{folder}: left out {_listed([problem.message for problem in found.broken])}")
    return found.series


def _listed(messages: Sequence[str]) -> str:
    """Return the first few messages in a line, and the number of the others."""
    others = len(messages) - _MOST_LISTED
    more = f"; and {others} more such file{'s' * (others > 1)}" if others > 0 else ""
    return "; ".join(messages[:_MOST_LISTED]) + more


def _scan(folder: Path) -> Found:
    contents = read_files(walk(folder))
    named = _named(split(_without_localisers(contents.frames, folder)))
    series = [_with_problems(one, contents) for one in named]
    known = {message for one in series for message in one.problems}
    _warn_of_strays([stray for stray in contents.strays if stray.message not in known], folder)
    _warn_of_differences(series)
    _warn_of_parts(series)
    return Found(series, tuple(one for one in contents.problems if one.message not in known))


def _warn_of_differences(found: Sequence[Series]) -> None:
    for series in found:
        if names := differences(series.frames):
            _warn(
                f"{series}: its slices state different {', '.join(names)}, but make one stack only "
                "together: they count as one volume"
            )


def _warn_of_parts(found: Sequence[Series]) -> None:
    """Warn of volumes that may be the parts of one."""
    for numbers in torn([series.frames for series in found]):
        parts = [found[number] for number in numbers]
        count = sum(len(series.frames) for series in parts)
        names = ", ".join(series.name for series in parts)
        differ = ", ".join(distinctions([series.frames for series in parts]))
        _warn(
            f"{parts[0].folder}: series {names} of one SeriesInstanceUID would make one stack of "
            f"{count} slices, but their {differ or 'folders'} differ: "
            f"read as {len(parts)} volumes"
        )


def _series_of(path: Path) -> list[Series]:
    """Return the volumes that hold the frames of a file, from all files that may belong to it."""
    own = _frames_of(path)
    if own[0].position is None:
        return _named([own])
    contents = gather(path, own)
    first = own[0].identity
    named = [frame for frame in contents.frames if same_series(first, frame.identity)]
    _warn_of_parts(_named(split(named)))
    frames = [frame for frame in contents.frames if agree(first, frame.identity)]
    mine = [series for series in _named(split(frames)) if path in series.files]
    found = [_with_problems(series, contents) for series in mine]
    _warn_of_doubts(found, contents)
    return found


def _frames_of(path: Path) -> tuple[Frame, ...]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if not (frames := read_frames(path)):
        raise InputError(f"{path}: holds no image")
    return frames


def _warn_of_doubts(found: Sequence[Series], contents: Contents) -> None:
    """Warn of files in folders beside that cannot be read, of whatever series they are."""
    folders = {frame.file.parent for frame in contents.frames}
    for series in found:
        near = [p for p in contents.problems if concerns(p, series.frames, folders, beside=True)]
        if doubts := [p.message for p in near if p.message not in series.problems]:
            _warn(f"{series}: may lack a part: {_listed(doubts)}")


def _with_problems(series: Series, contents: Contents) -> Series:
    """Return a series with the files that may hold parts of it but cannot be read or placed."""
    frames, folders = series.frames, {frame.file.parent for frame in contents.frames}
    broken = [p.message for p in contents.problems if concerns(p, frames, folders)]
    strays = [stray.message for stray in contents.strays if is_part(stray, frames)]
    return replace(series, problems=(*broken, *strays))


def _warn_of_strays(strays: Sequence[Stray], folder: Path) -> None:
    """Warn of images that are no slices."""
    unfit = [stray.file for stray in strays if stray.is_unfit]
    if unfit:
        _warn(f"{folder}: left out {len(unfit)} images in colour or of bits, such as {unfit[0]}")
    lost = [stray.file for stray in strays if not stray.is_unfit]
    if lost:
        _warn(
            f"{folder}: left out {len(lost)} images without a position, orientation or spacing, "
            f"such as {lost[0]}"
        )


def _without_localisers(frames: Sequence[Frame], folder: Path) -> list[Frame]:
    """Return the slices without those of localisers, of which it warns."""
    groups: dict[Any, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(_sequence(frame), []).append(frame)
    localisers = {key for key, group in groups.items() if geometry.is_localiser(group)}
    if localisers:
        left = [groups[key][0] for key in groups if key in localisers]
        numbers = ", ".join(dict.fromkeys(str(frame.series[1]) for frame in left))
        _warn(
            f"{folder}: left out the localiser of series {numbers}; read it by one of its files, "
            f"such as {left[0].file}"
        )
    return [frame for frame in frames if _sequence(frame) not in localisers]


def _sequence(frame: Frame) -> tuple[Any, ...]:
    """Return what images in planes that cross share only in a localiser."""
    home = frame.file.parent if not frame.identity[0] else None
    return home, essence(frame.identity), frame.kind[:2], frame.timing[:2]


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


def _read_by_dcm2niix(series: Series, grid: Grid) -> Volume:
    """Read a series with dcm2niix, which has to make one volume of the same shape."""
    instead = "; use reader='simpleitk'"
    volume = read_with_dcm2niix(series.files, grid.affine, str(series), instead=instead)
    if volume.data.shape != grid.shape:
        raise InputError(
            f"{series}: dcm2niix makes a volume of {volume.data.shape} of these files, not of "
            f"{grid.shape}{instead}"
        )
    return volume


def _read_mosaic(series: Series) -> Volume:
    """Read a mosaic of slices with dcm2niix."""
    try:
        find_dcm2niix()
    except InputError as error:
        raise InputError(
            f"{series}: is a mosaic of slices, which dcm2niix reads; {error}"
        ) from error
    directions = geometry.place(series.frames, str(series)).affine
    return read_with_dcm2niix(series.files, directions, str(series))


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=5)
