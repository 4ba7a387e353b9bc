import http.client
import json
import shutil
import socket
import subprocess
import sys
import time
import webbrowser
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import nibabel as nib
import numpy as np
import pytest

import segjax
from segjax import InputError, Volume, view
from segjax.data.io.formats import write_volume
from tests.tiny_network import write_network

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
AFFINE[:3, 3] = 5, -6, 7


@pytest.fixture
def page(tmp_path):
    """A page of four files."""
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("the page")
    (folder / "assets" / "ort.wasm").write_bytes(b"\0asm")
    (folder / "assets" / "index.js").write_text("1")
    (folder / "manifest.webmanifest").write_text("{}")
    return folder


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "flair.nii.gz"
    write_volume(Volume(np.arange(60.0, dtype=np.float32).reshape(3, 4, 5), AFFINE), path)
    return path


@pytest.fixture
def shown(page):
    """A function that views things, which are closed in the end."""
    viewers = []

    def show(*images, **options):
        viewers.append(view(*images, **({"browser": False, "page": page} | options)))
        return viewers[-1]

    yield show
    for viewer in viewers:
        viewer.close()


def answer(viewer, address, *, method="GET", host=None, body=None):
    """Ask for an address under the viewer's secret path, or for any that begins with a slash."""
    place = urlsplit(viewer.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=10)
    path = address if address.startswith("/") else place.path + address
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or place.netloc)
    connection.endheaders()
    response = connection.getresponse()
    response.content = response.read()
    connection.close()
    return response


def session(viewer):
    return json.loads(answer(viewer, "session.json").content)


def served(viewer, group, index=0):
    return answer(viewer, session(viewer)[group][index]["url"]).content


def as_nifti(content):
    return nib.Nifti1Image.from_bytes(content)


# -- what is served -------------------------------------------------------------------------------


def test_the_page_and_the_named_files_are_served(shown, image):
    viewer = shown(image)
    assert answer(viewer, "").content == b"the page"
    assert answer(viewer, "?session=session.json").content == b"the page"
    assert answer(viewer, "assets/index.js").content == b"1"
    assert [one["name"] for one in session(viewer)["images"]] == ["flair.nii.gz"]
    assert served(viewer, "images") == image.read_bytes()
    assert viewer.url.endswith("/?session=session.json")


def test_every_answer_isolates_the_page_and_is_kept_nowhere(shown, image):
    viewer = shown(image)
    for address in ("", "assets/ort.wasm", "session.json", "files/0", "/"):
        headers = answer(viewer, address).headers
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("", "text/html; charset=utf-8"),
        ("assets/ort.wasm", "application/wasm"),
        ("assets/index.js", "text/javascript; charset=utf-8"),
        ("manifest.webmanifest", "application/manifest+json"),
        ("session.json", "application/json"),
        ("files/0", "application/octet-stream"),
    ],
)
def test_types_are_those_that_browsers_need(shown, image, address, kind):
    assert answer(shown(image), address).headers["Content-Type"] == kind


def test_head_gives_the_length_without_content(shown, image):
    response = answer(shown(image), "files/0", method="HEAD")
    assert int(response.headers["Content-Length"]) == image.stat().st_size
    assert response.content == b""


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/session.json",
        "/wrong-token/",
        "/wrong-token/files/0",
        "assets/",
        "files/",
        "files/1",
        "files/0/",
        "secret.txt",
        "../secret.txt",
        "assets/../../secret.txt",
        "%2e%2e/secret.txt",
        "assets/%2e%2e/%2e%2e/secret.txt",
        "..%5csecret.txt",
        "/%2e%2e/%2e%2e/etc/passwd",
        "%ff",
        "//127.0.0.1/",
    ],
)
def test_nothing_else_is_served(shown, image, page, address):
    (page.parent / "secret.txt").write_text("secret")
    response = answer(shown(image), address)
    assert response.status == 404
    assert response.content == b""


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1"])
def test_a_name_that_points_to_this_computer_gets_nothing(shown, image, host):
    assert answer(shown(image), "", host=host).status == 404


def test_localhost_is_this_computer_too(shown, image):
    viewer = shown(image)
    host = f"localhost:{urlsplit(viewer.url).port}"
    assert answer(viewer, "", host=host).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(shown, image, method):
    assert answer(shown(image), "files/0", method=method).status == 501


def test_a_file_that_goes_away_meanwhile_is_not_found(shown, image):
    viewer = shown(image)
    image.unlink()
    assert answer(viewer, "files/0").status == 404
    assert answer(viewer, "").status == 200


def test_each_viewer_has_a_path_of_its_own(shown, image):
    paths = {urlsplit(shown(image).url).path for _ in range(3)}
    assert len(paths) == 3
    assert min(map(len, paths)) > 30


def test_only_this_computer_can_connect(shown, image):
    viewer = shown(image)
    assert viewer._server.server_address[0] == "127.0.0.1"


# -- what is shown --------------------------------------------------------------------------------


def test_nifti_masks_go_as_they_are(shown, image, tmp_path):
    mask = tmp_path / "ms.nii.gz"
    write_volume(Volume(np.ones((3, 4, 5), np.uint8), AFFINE), mask)
    viewer = shown(image, mask=mask)
    assert session(viewer)["masks"][0]["name"] == "ms.nii.gz"
    assert served(viewer, "masks") == mask.read_bytes()


def test_other_formats_become_nifti_on_the_same_grid(shown, tmp_path):
    path = tmp_path / "t1.nrrd"
    volume = Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), AFFINE)
    write_volume(volume, path)
    viewer = shown(path)
    assert session(viewer)["images"][0]["name"] == "t1.nii"
    made = as_nifti(served(viewer, "images"))
    np.testing.assert_array_equal(np.asarray(made.dataobj), volume.data)
    np.testing.assert_allclose(made.affine, AFFINE, atol=1e-6)


def test_a_picture_becomes_one_slice(shown, tmp_path):
    path = tmp_path / "slice.png"
    write_volume(Volume(np.arange(12, dtype=np.uint8).reshape(3, 4), np.eye(3)), path)
    made = as_nifti(served(shown(path), "images"))
    assert made.shape == (3, 4, 1)


def test_volumes_and_arrays_are_shown_with_their_masks(shown):
    volume = Volume(np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32), AFFINE)
    mask = np.zeros((3, 4, 5), bool)
    mask[1, 2, 3] = True
    viewer = shown(volume, mask=mask)
    np.testing.assert_array_equal(as_nifti(served(viewer, "images")).get_fdata(), volume.data)
    drawn = as_nifti(served(viewer, "masks"))
    np.testing.assert_array_equal(drawn.get_fdata(), mask)
    np.testing.assert_allclose(drawn.affine, AFFINE, atol=1e-6)
    assert shown(volume.data).url


def test_a_dicom_series_alone_keeps_its_files(shown, tmp_path):
    from tests.docs.world import write_scan

    scan = tmp_path / "scan"
    write_scan(scan)
    viewer = shown(scan)
    files = sorted(path.read_bytes() for path in scan.iterdir())
    count = len(session(viewer)["images"])
    assert sorted(served(viewer, "images", k) for k in range(count)) == files


def test_two_dicom_series_become_nifti(shown, tmp_path):
    from tests.docs.world import write_scan

    scan = tmp_path / "scan"
    write_scan(scan)
    again = shutil.copytree(scan, tmp_path / "later" / "scan")
    viewer = shown(scan, again)
    names = [one["name"] for one in session(viewer)["images"]]
    assert names == [f"{tmp_path.name}_scan.nii", "later_scan.nii"]
    made = as_nifti(served(viewer, "images", 1))
    expected = segjax.read(scan)
    np.testing.assert_array_equal(np.asarray(made.dataobj), expected.data)
    np.testing.assert_allclose(made.affine, expected.affine, atol=1e-4)


def test_a_network_is_served_by_the_name_of_its_run(shown, image, tmp_path):
    run = tmp_path / "best"
    run.mkdir()
    model = write_network(run / "model.onnx")
    viewer = shown(image, model=run)
    assert session(viewer)["models"][0]["name"] == "best.onnx"
    assert served(viewer, "models") == Path(model).read_bytes()


def test_networks_of_one_name_are_told_apart(shown, image, tmp_path):
    runs = [tmp_path / place / "run" for place in "ab"]
    for run in runs:
        run.mkdir(parents=True)
        write_network(run / "model.onnx")
    viewer = shown(image, model=runs)
    names = [model["name"] for model in session(viewer)["models"]]
    assert names == ["run.onnx", "run (2).onnx"]


def test_images_of_one_name_are_of_one_visit_after_the_other(shown, image, tmp_path):
    visits = [tmp_path / year for year in ("2024", "2025")]
    for visit in visits:
        visit.mkdir()
        for name in ("flair.nii.gz", "t1.nii.gz"):
            shutil.copy(image, visit / name)
    files = [visit / name for name in ("flair.nii.gz", "t1.nii.gz") for visit in visits]
    listed = session(shown(*files))["images"]
    assert [(one["name"], one["visit"]) for one in listed] == [
        ("2024_flair.nii.gz", 0),
        ("2025_flair.nii.gz", 1),
        ("2024_t1.nii.gz", 0),
        ("2025_t1.nii.gz", 1),
    ]


# -- what is refused, in one line -----------------------------------------------------------------


def refused(match, *images, **options):
    with pytest.raises(InputError, match=match) as found:
        view(*images, **({"browser": False} | options))
    assert "\n" not in str(found.value)


def test_what_cannot_be_shown_is_refused_before_anything_is_served(page, image, tmp_path):
    text = tmp_path / "notes.nii.gz"
    text.write_text("no image")
    refused("no image given", page=page)
    refused("absent.nii.gz", tmp_path / "absent.nii.gz", page=page)
    refused(r"notes.nii.gz", text, page=page)
    refused("2 masks", image, mask=[image, image], page=page)
    refused("holds no index.html", image, page=tmp_path / "nowhere")


def test_a_mask_that_lies_elsewhere_is_refused(page, image, tmp_path):
    mask = tmp_path / "mask.nii.gz"
    write_volume(Volume(np.ones((3, 4, 5), np.uint8), np.eye(4)), mask)
    refused(r"mask\.nii\.gz", image, mask=mask, page=page)
    refused("shape", image, mask=np.ones((2, 2, 2), np.uint8), page=page)


def test_a_network_of_another_producer_is_refused(page, image, tmp_path):
    import onnx

    model = write_network(tmp_path / "model.onnx")
    other = onnx.load(model)
    del other.metadata_props[:]
    onnx.save(other, tmp_path / "other.onnx")
    refused("without segjax metadata", image, model=tmp_path / "other.onnx", page=page)


def test_a_port_in_use_is_refused(page, image):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused("cannot be opened", image, port=taken.getsockname()[1], page=page)
    refused("port 70000", image, port=70000, page=page)


def test_a_checkout_without_the_page_says_the_command_that_builds_it(monkeypatch, image, tmp_path):
    (tmp_path / "export" / "web").mkdir(parents=True)
    (tmp_path / "export" / "web" / "package.json").write_text("{}")
    monkeypatch.setattr("segjax.viewer.__file__", str(tmp_path / "segjax" / "viewer.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused("npm ci --prefix export/web --ignore-scripts && npm run build", image)


def test_an_install_without_the_page_says_how_to_build_and_install_it(monkeypatch, image, tmp_path):
    monkeypatch.setattr("segjax.viewer.__file__", str(tmp_path / "segjax" / "viewer.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(r"needs the page, segjax-web: npm ci .* && pip install \./export/web in /", image)


# -- beginning and end ----------------------------------------------------------------------------


def test_the_browser_is_opened_where_it_is_wanted(shown, image, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    shown(image)
    assert opened == []
    viewer = shown(image, browser=None)
    assert len(opened) == 1
    with urlopen(opened[0]) as page:
        assert page.url == viewer.url


def test_the_address_that_the_browser_is_started_with_serves_once(shown, image, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    viewer = shown(image, browser=True)
    secret = urlsplit(viewer.url).path.strip("/")
    door = urlsplit(opened[0]).path
    assert secret not in opened[0]
    assert answer(viewer, door, host="evil.example:80").status == 404
    first = answer(viewer, door)
    assert (first.status, first.headers["Location"].split("/")[1]) == (303, secret)
    assert answer(viewer, door).status == 404


def test_a_notebook_shows_the_page_in_a_frame(shown, image, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    monkeypatch.setattr(webbrowser, "open", lambda url: pytest.fail("a browser was opened"))
    viewer = shown(image, browser=None)
    assert f'<iframe src="{viewer.url}"' in viewer._repr_html_()
    policy = answer(viewer, "").headers["Content-Security-Policy"]
    assert policy.endswith("frame-ancestors *")


def test_a_closed_viewer_gives_its_port_back(shown, image):
    viewer = shown(image)
    port = urlsplit(viewer.url).port
    viewer.close()
    viewer.wait()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert urlsplit(shown(image, port=port).url).port == port


def test_a_connection_that_says_nothing_keeps_nobody_waiting(shown, image):
    viewer = shown(image)
    port = urlsplit(viewer.url).port
    with socket.create_connection(("127.0.0.1", port)) as silent:
        silent.send(b"GET / HT")
        assert answer(viewer, "").status == 200


def test_a_program_that_is_killed_leaves_no_server(image, page):
    code = (
        "import sys, segjax\n"
        f"viewer = segjax.view({str(image)!r}, page={str(page)!r}, browser=False)\n"
        "print(viewer.url, flush=True)\nviewer.wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    port = urlsplit(process.stdout.readline()).port
    process.kill()
    process.wait(timeout=30)
    time.sleep(0.1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    process.stdout.close()
