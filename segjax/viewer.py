"""Look at images, masks and networks in the browser's page, which nobody else can reach."""

import hmac
import importlib
import importlib.util
import json
import os
import secrets
import shutil
import sys
import tempfile
import threading
import webbrowser
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader, BytesIO
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from segjax.data.io.dicom.series import Series, choose_series, is_dicom
from segjax.data.io.formats import check_same_grid, read_grid, read_label, read_volume, stem
from segjax.data.io.nifti import write_nifti
from segjax.errors import InputError
from segjax.extras import source_folder
from segjax.grid import Grid, grid
from segjax.volume import Volume

__all__ = ["Viewer", "view"]

PathLike = str | os.PathLike[str]
Image = PathLike | Volume | np.ndarray

_NIFTI = (".nii", ".nii.gz")
_SESSION = "session.json"
_PORTS = range(2**16)
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_POLICY = (  # the page states a stricter one; this one holds in its workers too
    "default-src 'self' blob: data:; script-src 'self' 'wasm-unsafe-eval'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors "
)
_BUILD = "npm ci --prefix export/web --ignore-scripts && npm run build --prefix export/web"


@dataclass(frozen=True)
class _Part:
    """What is served under one address: a file, or bytes that are held."""

    name: str
    content: Path | bytes
    visit: int = 0

    def open(self) -> tuple[BytesIO | BufferedReader, int]:
        """Return the open content and its length."""
        if isinstance(self.content, bytes):
            return BytesIO(self.content), len(self.content)
        stream = self.content.open("rb")
        return stream, os.fstat(stream.fileno()).st_size


@dataclass(frozen=True)
class _Shown:
    """An image or a mask: where its voxels lie, and what is served of it."""

    name: str
    grid: Grid
    parts: tuple[_Part, ...]


class Viewer:
    """The page with some files, served on this computer alone until it is closed.

    In a notebook it shows itself.

    Attributes:
        url: Address, with a random path that nobody else knows.

    Example:
        >>> page = Path(tempfile.mkdtemp())
        >>> _ = (page / "index.html").write_text("a page of one's own")
        >>> files = {"mask": "lesions.nii.gz", "page": page}
        >>> viewer = view("flair.nii.gz", **files, browser=False)
        >>> viewer.url.startswith("http://127.0.0.1:")
        True
        >>> viewer.close()
    """

    def __init__(self, parts: Mapping[str, _Part], port: int, *, framed: bool) -> None:
        if port not in _PORTS:
            raise InputError(f"port {port}: give one from 1 to {_PORTS[-1]}, or 0 for any free one")
        token = secrets.token_urlsafe(24)
        try:
            self._server = _Server(parts, token, port, framed=framed)
        except OSError as error:
            raise InputError(
                f"port {port}: cannot be opened: {error.strerror}; choose another one, or 0"
            ) from error
        self.url = f"http://127.0.0.1:{self._server.server_port}/{token}/?session={_SESSION}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    def _door(self) -> str:
        """Return an address that leads to the page once, for a browser's command line.

        Other users of this computer can read what programs are started with.
        """
        door = secrets.token_urlsafe(24)
        self._server.doors.add(door)
        return f"http://127.0.0.1:{self._server.server_port}/{door}"

    def wait(self) -> None:
        """Return when the viewer is closed."""
        while self._thread.is_alive():
            self._thread.join(0.5)  # a wait without an end would not hear Ctrl-C on Windows

    def close(self) -> None:
        """Stop serving; a second time does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<segjax.viewer.Viewer at {self.url}>"

    def _repr_html_(self) -> str:
        """Return the page in a frame."""
        style = "width:100%;height:720px;border:0"
        return f'<iframe src="{escape(self.url)}" style="{style}" title="segjax"></iframe>'


def view(
    *images: Image,
    mask: Image | Sequence[Image] | None = None,
    model: PathLike | Sequence[PathLike] | None = None,
    port: int = 0,
    browser: bool | None = None,
    page: PathLike | None = None,
) -> Viewer:
    """Show images in the browser: to look at, segment, measure and correct.

    A server on 127.0.0.1 hands out the page and these files, nothing else, under a random path.
    What is corrected is saved by the page, as downloads: no file is changed.

    Args:
        images: What :func:`segjax.read` reads, such as a NIfTI file or the folder of a DICOM
            series; volumes; or arrays of shape ``(x, y, z)``, whose voxels are 1 mm. Files of one
            name in two folders are of two visits.
        mask: One for each image, or one for the first; an array has the image's affine.
        model: ONNX file that segjax exported, the folder of a run, or the name of a model that
            comes with segjax; or several.
        port: Port to serve on; any free one when 0.
        browser: Open the browser; by default not in a notebook, where the result shows itself.
        page: Folder of the built page; by default that of the distribution segjax-web, or else of
            the checkout.

    Returns:
        The viewer, which serves in the background until it is closed or the program ends.

    Raises:
        InputError: A file is missing or cannot be read, a mask lies elsewhere than its image, a
            model is not segjax's, the port is in use, or the page is not installed.

    Example:
        >>> page = Path(tempfile.mkdtemp())
        >>> _ = (page / "index.html").write_text("a page of one's own")
        >>> files = {"model": "model.onnx", "page": page}
        >>> with view("flair.nii.gz", **files, browser=False) as viewer:
        ...     viewer.url.endswith("/?session=session.json")
        True
    """
    if not images:
        raise InputError("no image given; give one or more to look at")
    masks = () if mask is None else mask if isinstance(mask, list | tuple) else (mask,)
    models = () if model is None else model if isinstance(model, list | tuple) else (model,)
    own = _page_parts(_page_folder() if page is None else Path(page))
    parts = own | _session(images, masks, models)
    notebook = "ipykernel" in sys.modules
    viewer = Viewer(parts, port, framed=notebook)
    if browser or (browser is None and not notebook):
        webbrowser.open(viewer._door())
    return viewer


def _page_folder() -> Path:
    """Return the folder of the built page: of the distribution segjax-web, else of the checkout."""
    places = []
    if importlib.util.find_spec("segjax_web"):
        places.append(Path(importlib.import_module("segjax_web").folder()))
    checkout = Path(__file__).parents[1]
    places.append(checkout / "export" / "web" / "dist")
    for place in places:
        if (place / "index.html").is_file():
            return place
    if (checkout / "export" / "web" / "package.json").is_file():
        raise InputError(f"the page is not built yet: {_BUILD} in {checkout}")
    install = f"{_BUILD} && pip install ./export/web"
    raise InputError(f"segjax view needs the page, segjax-web: {install} in {source_folder()}")


# -- what is shown --------------------------------------------------------------------------------


def _page_parts(folder: Path) -> dict[str, _Part]:
    """Return the files of the page by their addresses."""
    if not (folder / "index.html").is_file():
        raise InputError(f"{folder}: holds no index.html; give the folder of the built page")
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    parts = {file.relative_to(folder).as_posix(): _Part(file.name, file) for file in files}
    return parts | {"": parts["index.html"]}


def _session(
    images: Sequence[Image], masks: Sequence[Image], models: Sequence[PathLike]
) -> dict[str, _Part]:
    """Return the files to show, each under a number, and the list that tells the page of them."""
    if len(masks) not in (0, 1, len(images)):
        raise InputError(f"{len(masks)} masks: give one for each of {len(images)} images, or one")
    shown = [_image(image, n, alone=len(images) == 1) for n, image in enumerate(images, 1)]
    shown = _told_apart(shown, images)
    drawn = [_mask(mask, image) for mask, image in zip(masks, shown, strict=False)]
    groups = {
        "images": [part for one in shown for part in one.parts],
        "masks": [part for one in drawn for part in one.parts],
        "models": _models(models),
    }
    parts: dict[str, _Part] = {}
    listed: dict[str, list[dict[str, str | int]]] = {}
    for group, members in groups.items():
        listed[group] = []
        for part in members:
            url = f"files/{len(parts)}"
            parts[url] = part
            listed[group].append({"name": part.name, "url": url, "visit": part.visit})
    return parts | {_SESSION: _Part(_SESSION, json.dumps(listed).encode())}


def _image(image: Image, number: int, *, alone: bool) -> _Shown:
    """Return an image; a DICOM series that stands alone keeps its files, for masks as DICOM."""
    if isinstance(image, Volume | np.ndarray):
        volume = image if isinstance(image, Volume) else Volume(image, np.eye(image.ndim + 1))
        return _converted(volume, f"image{number}")
    path = Path(image)
    if path.name.lower().endswith(_NIFTI):
        return _Shown(path.name, read_grid(path)[0], (_Part(path.name, path),))
    if alone and (path.is_dir() or is_dicom(path)):
        series = choose_series(path)
        if not series.frames[0].is_mosaic:
            return _series(series)
    return _converted(read_volume(path), stem(path))


def _told_apart(shown: Sequence[_Shown], images: Sequence[Image]) -> list[_Shown]:
    """Call images of one name by their folders too; they are of one visit after the other."""
    names = Counter(one.name for one in shown)
    before: Counter[str] = Counter()
    called = []
    for one, image in zip(shown, images, strict=True):
        visit = before[one.name]
        before[one.name] += 1
        prefix = ""
        if names[one.name] > 1 and not isinstance(image, Volume | np.ndarray):
            prefix = f"{Path(image).absolute().parent.name}_"
        called.append(_called(one, prefix, visit))
    return called


def _called(shown: _Shown, prefix: str, visit: int) -> _Shown:
    parts = tuple(replace(part, name=prefix + part.name, visit=visit) for part in shown.parts)
    return replace(shown, name=prefix + shown.name, parts=parts)


def _series(series: Series) -> _Shown:
    files = tuple(_Part(file.name, file) for file in series.files)
    return _Shown(str(series), series.grid, files)


def _mask(mask: Image, image: _Shown) -> _Shown:
    """Return the mask of an image."""
    file = None if isinstance(mask, Volume | np.ndarray) else Path(mask)
    if isinstance(mask, Volume):
        volume = mask
    elif isinstance(mask, np.ndarray):
        volume = Volume(mask, image.grid.affine[: mask.ndim + 1, : mask.ndim + 1])
    else:
        volume = read_label(Path(mask), like=image.grid)
    name = f"{stem(image.name)}_mask" if file is None else stem(file)
    empty = Volume(np.broadcast_to(np.uint8(0), image.grid.shape), image.grid.affine)
    check_same_grid(empty, volume, (image.name, str(file or name)))
    if file and file.name.lower().endswith(_NIFTI):
        return _Shown(file.name, image.grid, (_Part(file.name, file),))
    return _converted(volume, name)


def _models(models: Sequence[PathLike]) -> list[_Part]:
    """Return the files of networks, which must be segjax's; those of one name are numbered."""
    parts: dict[str, _Part] = {}
    for path in (path for model in models for path in _network(model)):
        name = path.parent.absolute().name if path.name == "model.onnx" else path.stem
        names = (f"{name} ({n}).onnx" if n > 1 else f"{name}.onnx" for n in count(1))
        free = next(name for name in names if name not in parts)
        parts[free] = _Part(free, path)
    return list(parts.values())


def _network(model: PathLike) -> Iterable[Path]:
    from segjax_onnx.predict.metadata import read_metadata
    from segjax_onnx.predict.network import find_files

    for file in find_files(Path(model)):
        read_metadata(file)
        yield Path(file)


def _converted(volume: Volume, name: str) -> _Shown:
    """Return a volume as a NIfTI file that is held in memory."""
    place = grid(volume)
    with tempfile.TemporaryDirectory(prefix="segjax-") as folder:
        file = Path(folder) / "volume.nii"
        write_nifti(_of_three_axes(volume), file)
        return _Shown(name, place, (_Part(f"{name}.nii", file.read_bytes()),))


def _of_three_axes(volume: Volume) -> Volume:
    """Return a picture as a volume of one slice of 1 mm."""
    if volume.spatial_dims == 3:
        return volume
    affine = np.eye(4)
    affine[np.ix_([0, 1, 3], [0, 1, 3])] = volume.affine
    return Volume(np.expand_dims(volume.data, 2), affine)


# -- the server -----------------------------------------------------------------------------------


class _Server(ThreadingHTTPServer):
    """Hands out parts under a secret path on the loopback interface."""

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # on Windows it would share the port
    request_queue_size = 64

    def __init__(self, parts: Mapping[str, _Part], token: str, port: int, *, framed: bool) -> None:
        self.parts, self.token = parts, token
        self.doors: set[str] = set()
        self.policy = _POLICY + ("*" if framed else "'none'")
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where a browser goes away."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "segjax", ""
    timeout = 60

    def do_GET(self) -> None:
        """Answer with a part, or behind a door."""
        if self._is_addressed() and self.path[1:] in self.server.doors:
            self.server.doors.remove(self.path[1:])
            self.send_response(HTTPStatus.SEE_OTHER)
            self.send_header("Location", f"/{self.server.token}/?session={_SESSION}")
            self._send_headers("text/plain; charset=utf-8", 0)
        else:
            self._answer(with_content=True)

    def do_HEAD(self) -> None:
        """Answer with the headers of a part."""
        self._answer(with_content=False)

    def _answer(self, *, with_content: bool) -> None:
        part = self._part()
        if part is None:
            self._refuse()
            return
        try:
            stream, length = part.open()
        except OSError:
            self._refuse()
            return
        with stream:
            self.send_response(HTTPStatus.OK)
            kind = _KINDS.get(Path(part.name).suffix.lower(), "application/octet-stream")
            self._send_headers(kind, length)
            if with_content:
                shutil.copyfileobj(stream, self.wfile)

    def _part(self) -> _Part | None:
        """Return what is asked for; nothing under a name other than this computer's."""
        if not self._is_addressed():
            return None
        try:
            path = unquote(urlsplit(self.path).path, errors="strict")
        except ValueError:
            return None
        token, slash, address = path.removeprefix("/").partition("/")
        known = hmac.compare_digest(token.encode(), self.server.token.encode())
        return self.server.parts.get(address) if known and slash else None

    def _is_addressed(self) -> bool:
        port = self.server.server_port
        return self.headers.get("Host") in (f"127.0.0.1:{port}", f"localhost:{port}")

    def _refuse(self) -> None:
        self.send_response(HTTPStatus.NOT_FOUND)
        self._send_headers("text/plain; charset=utf-8", 0)

    def _send_headers(self, kind: str, length: int) -> None:
        headers = {"Content-Type": kind, "Content-Length": str(length)} | _HEADERS
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", self.server.policy)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing: addresses hold the secret path."""
