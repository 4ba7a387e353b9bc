"""How to install the packages that a part of segjax needs and the environment lacks."""

import json
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

__all__ = ["how_to_install"]

_ANYWHERE = "the folder of segjax's source"


def how_to_install(extra: str) -> str:
    """Say which command installs an extra of segjax, and in which folder.

    segjax is on no index of packages: pip finds its extras in a copy of its source alone.

    Args:
        extra: Name of the extra, such as ``"train"``.

    Returns:
        The command and its folder: that which segjax was installed from, where it is still there.

    Example:
        >>> how_to_install("train").partition(" in ")[0].endswith('".[train]"')
        True
    """
    folder, editable = _source()
    return f'pip install {"-e " if editable else ""}".[{extra}]" in {folder or _ANYWHERE}'


def _source() -> tuple[Path | None, bool]:
    """Return the folder that segjax was installed from, and whether it is still used there.

    Source: https://packaging.python.org/en/latest/specifications/direct-url/
    """
    try:
        origin = json.loads(metadata.distribution("segjax").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return None, False
    url = urlsplit(origin.get("url", ""))
    folder = Path(url2pathname(url.path))
    if url.scheme != "file" or not (folder / "pyproject.toml").is_file():
        return None, False
    return folder, bool(origin.get("dir_info", {}).get("editable"))
