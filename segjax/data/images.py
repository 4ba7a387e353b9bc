"""Find the images to segment, whatever the user names."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from segjax.data.cases import Case, in_order
from segjax.data.io.dicom.series import Series, choose_series, is_dicom
from segjax.data.io.formats import COLOURS, image_suffixes, read_grid, stem
from segjax.data.listing import (
    Named,
    channel_of,
    check_unique,
    is_image,
    join_parts,
    list_images,
    name_apart,
    warn_of_rest,
)
from segjax.errors import InputError
from segjax.text import plural

__all__ = ["are_colours", "find_images"]

_Channels = Mapping[int, Path | Series]  # the images of a case by number


def find_images(
    paths: Iterable[str | Path],
    *,
    channels: int | None = None,
    series: Sequence[str] = (),
) -> list[Case]:
    """Turn files and folders into cases to predict.

    Files are grouped by channel where every name ends in ``_0000``, ``_0001``, … and every case
    has the same complete set of channels. Where none does, and there are as many files or DICOM
    folders as channels are wanted, each an image of one channel, these are one case, its channels
    in the order given, under the name of the first. Otherwise each file is a case. Each DICOM
    series of a folder is a case: a single one with the name of the folder, several with that of
    the folder in it that they lie in (joined by ``_`` where it lies deeper), and ``_seriesNAME``
    where they share one. Files of one name are called as their folders:
    ``patients/*/flair.nii.gz``.

    Args:
        paths: Image files, and folders of image files or, with the folders in them, of DICOM
            files; a DICOM file stands for its series.
        channels: Channels of a case; where given, files are grouped only into cases of so many.
        series: DICOM series to take, where not all are wanted, as
            :meth:`segjax.data.io.dicom.series.Series.is_called` takes them.

    Returns:
        Cases without labels, in the order given (folders: sorted by name).

    Raises:
        InputError: Where a path does not exist or is no image, a folder holds no image, two
            cases have one name, there is no such series, or so many files of one channel are
            given that it is unclear which belong together.

    Warns:
        UserWarning: Files of a folder are left out.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a_0000.png", "a_0001.png", "b_0000.png", "b_0001.png"):
        ...     (folder / name).touch()
        >>> [(case.name, len(case.images)) for case in find_images([folder])]
        [('a', 2), ('b', 2)]
    """
    given = list(map(Path, paths))
    found = _named(given, series)
    groups, others = _group_channels(found)
    one_by_one = all(isinstance(image, Series) or image in given for _, image in found)
    if one_by_one and len(found) == len(given) and not groups and _are_channels(found, channels):
        return [Case(found[0][0], tuple(image for _, image in found))]
    return _cases(groups, others, channels or 0) or _apart(found)


def _named(paths: Iterable[Path], series: Sequence[str]) -> list[Named]:
    """Name the images that paths stand for, each by a name of its own."""
    found = [named for path in paths for named in _expand(path, series)]
    if not found:
        raise InputError("no image given: name at least one image file or folder")
    found = name_apart(join_parts(found))
    warn_of_rest(found)
    check_unique(found)
    return found


def _cases(groups: Mapping[str, _Channels], others: Sequence[Named], channels: int) -> list[Case]:
    """Return groups of channels as cases, and others beside them; none where groups are none.

    They are where all have all channels and nothing lies beside them; and where some have all of
    several channels that are wanted.
    """
    lacking = _lacking(groups, channels)
    apart = bool(others or lacking)
    if len(lacking) == len(groups) or (apart and channels < 2):
        if channels and not others:
            _check_wanted_channels(groups, channels)
        return []
    for name in lacking:
        warnings.warn(_missing_channel(groups[name], name, channels), stacklevel=3)
    return [*(Case(name, in_order(group)) for name, group in groups.items()), *_apart(others)]


def _apart(named: Iterable[Named]) -> list[Case]:
    """Return every image as a case."""
    return [Case(name, (image,)) for name, image in named]


def _lacking(groups: Mapping[str, _Channels], channels: int) -> list[str]:
    """Name the groups that have not so many channels; where 0 are wanted, as many as the first."""
    expected = list(range(channels or len(next(iter(groups.values()), ()))))
    return [name for name, group in groups.items() if sorted(group) != expected]


def _expand(path: Path, series: Sequence[str]) -> list[Named]:
    """Turn a path that the user gave into names and images."""
    if path.is_dir():
        if series:
            return _chosen(path, series)
        return list_images(path)
    if not path.exists() and not path.is_symlink():
        raise InputError(f"{path}: no such file or folder")
    if is_image(path):
        return [(stem(path), path)]
    if is_dicom(path) or path.name.lower().endswith(".dcm"):
        return [(stem(path), choose_series(path, name)) for name in series or (None,)]
    accepted = ", ".join(image_suffixes())
    raise InputError(f"{path}: not an image: accepted are {accepted} and DICOM")


def _chosen(folder: Path, wanted: Sequence[str]) -> list[Named]:
    """Return the series of a folder that are called in certain ways."""
    known = [(name, one) for name, one in list_images(folder) if isinstance(one, Series)]
    for name in wanted:
        if not any(one.is_called(name) for _, one in known):
            listed = ", ".join(one.name for _, one in known) or "none"
            raise InputError(f"{folder}: holds no series {name}; there are: {listed}")
    return [(name, one) for name, one in known if any(map(one.is_called, wanted))]


def _group_channels(named: Iterable[Named]) -> tuple[Mapping[str, _Channels], list[Named]]:
    """Group files by name and channel suffix; return those without a suffix apart."""
    groups: dict[str, dict[int, Path | Series]] = {}
    others = []
    for name, file in named:
        if numbered := channel_of(name):
            groups.setdefault(numbered[0], {})[numbered[1]] = file
        else:
            others.append((name, file))
    return groups, others


def _are_channels(found: Sequence[Named], channels: int | None) -> bool:
    """Say whether images are the channels of one case, in order.

    Raises:
        InputError: They are channels, but of more cases than one, or too few.
    """
    if channels is None or channels < 2 or not all(_is_one_channel(i, channels) for _, i in found):
        return False
    if len(found) != channels:
        raise InputError(
            f"{found[0][1]}: is one channel, but the network takes {channels} of every patient: "
            f"give the {channels} files of one patient, in order; or name the files of each "
            "patient …_0000, …_0001; or give folders of patients, and the files in them by --images"
        )
    return True


def _is_one_channel(image: Path | Series, wanted: int) -> bool:
    """Say whether an image has one channel and does not stand for all that are wanted."""
    if wanted == COLOURS and str(image).lower().endswith(".png"):
        return False
    with suppress(InputError):  # reading the case says what is wrong
        return read_grid(image)[1] == 1
    return False


def _check_wanted_channels(groups: Mapping[str, _Channels], channels: int) -> None:
    """Refuse what are channels by their names, but not those that are wanted."""
    wanted = set(range(channels))
    if channels > 1 and all(set(group) <= wanted for group in groups.values()):
        for name, group in groups.items():
            if wanted - set(group):
                raise InputError(_missing_channel(group, name, channels))
    name, group = next(iter(groups.items()))
    if len(groups) > 1 and len(group) > 1 and not _lacking(groups, 0):
        raise InputError(
            f"{_beside(group, name)}: has files of "
            f"{plural(len(group), 'channel')}, but the network takes {channels}"
        )


def _missing_channel(group: _Channels, name: str, channels: int) -> str:
    missing = next((n for n in range(channels) if n not in group), channels)
    return (
        f"{_beside(group, name)}: channel _{missing:04d} is missing; the network takes "
        f"{plural(channels, 'channel')} of every case"
    )


def _beside(group: _Channels, name: str) -> Path:
    first = next(iter(group.values()))
    return (first.folder if isinstance(first, Series) else first.parent) / name


def are_colours(cases: Sequence[Case]) -> bool:
    """Say whether cases are pictures of which some are in colour and others grey.

    Example:
        >>> are_colours([])
        False
    """
    pictures = [
        image
        for case in cases
        for image in case.images
        if isinstance(image, Path) and image.name.lower().endswith(".png") and image.is_file()
    ]
    if not cases or len(pictures) < len(cases):
        return False
    found = set()
    for picture in pictures:
        with suppress(InputError):  # reading the case says what is wrong
            found.add(read_grid(picture)[1])
    return found == {1, COLOURS}
