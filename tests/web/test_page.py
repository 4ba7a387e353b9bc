"""The built page in Chromium, served by `segjax view` or by a plain static host."""

import base64
import json
import shutil
import subprocess
import threading
import zipfile
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import nibabel as nib
import numpy as np
import onnx
import pytest

import segjax
from segjax.data import find_cases
from segjax.data.io.formats import read_label
from segjax.grid import Grid
from segjax_onnx.predict.metadata import KEY, ModelMetadata
from tests.data.io.dicom.made import write_made
from tests.tiny_network import write_network
from tests.web.node import WEB
from tests.web.test_predict import at_median, export

playwright = pytest.importorskip("playwright.sync_api")

DIST = WEB / "dist"
FLAGS = [
    *("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    "--ignore-gpu-blocklist",
]
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium():
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program or not (DIST / "index.html").is_file():
        pytest.skip("needs Chromium and the built page: npm run build --prefix export/web")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


class Log:
    """What a page asked for and complained of."""

    def __init__(self, page):
        self.elsewhere, self.errors = [], []
        page.on("request", self._request)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)

    def _request(self, request):
        if not request.url.startswith(("http://127.0.0.1:", "blob:", "data:")):
            self.elsewhere.append(request.url)

    def _console(self, message):
        if message.type == "error":
            self.errors.append(message.text)


@pytest.fixture
def opened(chromium):
    """A function that opens images in the page; afterwards nothing must have gone elsewhere."""
    ending, logs = [], []

    def open_page(*images, size=DESKTOP, scheme="dark", **options):
        viewer = segjax.view(*images, browser=False, page=DIST, **options)
        context = chromium.new_context(viewport=size, color_scheme=scheme, locale="en-GB")
        page = context.new_page()
        logs.append(Log(page))
        page.goto(viewer.url)
        ending[:] = [*ending, context.close, viewer.close]
        return page

    yield open_page
    for end in ending:
        end()
    assert [log.elsewhere for log in logs] == [[] for _ in logs]
    assert [log.errors for log in logs] == [[] for _ in logs]


def segmented(page):
    page.get_by_test_id("segment").click(timeout=120_000)  # a busy computer draws slowly
    page.get_by_test_id("done").wait_for(timeout=120_000)
    page.get_by_test_id("volumes").wait_for()


def saved(page, button, folder):
    with page.expect_download() as download:
        page.get_by_test_id(button).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


@pytest.fixture
def head(tmp_path):
    """An oblique image with two bright lesions, of 27 voxels and of one, of 0.5 × 1 × 2 mm."""
    data = np.random.default_rng(0).uniform(0, 0.2, (24, 20, 16)).astype(np.float32)
    data[5:8, 5:8, 5:8] = 1
    data[15, 12, 9] = 1
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn * [-0.5, 1, 2]
    affine[:3, 3] = 10, -20, 30
    path = tmp_path / "head.nii.gz"
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


@pytest.fixture
def network(tmp_path):
    return write_network(tmp_path / "over.onnx")


def test_an_image_is_segmented_measured_and_saved_on_its_own_grid(opened, head, network, tmp_path):
    page = opened(head, model=network)
    segmented(page)
    assert page.get_by_test_id("volumes").inner_text().split()[-3:] == ["lesion", "0.03", "2"]
    mask = nib.load(saved(page, "saveMask", tmp_path))
    image = nib.load(head)
    np.testing.assert_array_equal(mask.get_fdata(), image.get_fdata() > 0.5)
    np.testing.assert_array_equal(mask.affine, image.affine)
    lesions = saved(page, "saveLesions", tmp_path).read_text().splitlines()
    assert lesions[1].startswith("head,lesion,1,27,27.0,mm3,")
    assert saved(page, "savePicture", tmp_path).read_bytes()[:4] == b"\x89PNG"


def test_the_overlay_is_seen_and_a_click_goes_to_a_lesion(opened, head, network):
    page = opened(head, model=network)
    segmented(page)
    bare = page.get_by_test_id("canvas-0").screenshot()
    page.get_by_test_id("lesions-1").get_by_role("button").nth(1).click()
    page.wait_for_timeout(500)
    assert "15 12 9" in page.locator("body").inner_text()
    assert page.get_by_test_id("canvas-0").screenshot() != bare


def test_a_dicom_series_gives_a_dicom_seg(opened, tmp_path):
    series = tmp_path / "series"
    write_made(series, "oblique")
    image = segjax.read(series)
    network = write_network(tmp_path / "over.onnx", over=float(np.median(image.data)))
    page = opened(series, model=network)
    segmented(page)
    file = saved(page, "saveDicom", tmp_path)
    found = read_label(file, like=Grid(image.spatial_shape, image.affine))
    expected = segjax.Predictor(network).predict(series)
    assert 0 < expected.data.mean() < 1
    np.testing.assert_array_equal(found.data, expected.data)
    if shutil.which("dciodvfy"):
        said = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr


def test_a_wrong_file_and_a_wrong_network_are_named_and_the_page_goes_on(
    opened, head, network, tmp_path
):
    page = opened(head, model=network)
    wrong = tmp_path / "junk.nii.gz"
    wrong.write_bytes(b"\x1f\x8b\x08junk" * 40)
    other = tmp_path / "other.onnx"
    model = onnx.load(network)
    del model.metadata_props[:]
    onnx.save(model, other)
    page.get_by_test_id("input-openFiles").first.set_input_files([wrong, other])
    notices = page.get_by_test_id("notices")
    notices.get_by_text("junk.nii.gz").wait_for()
    notices.get_by_text("other.onnx").wait_for()
    segmented(page)


def test_a_header_that_claims_ten_gigabytes_is_refused(opened, head, tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((2150, 2150, 2150))
    header.set_data_dtype(np.uint8)
    huge = tmp_path / "huge.nii"
    huge.write_bytes(header.binaryblock + bytes(100))
    page = opened(head)
    page.get_by_test_id("input-openFiles").first.set_input_files([huge])
    page.get_by_test_id("notices").get_by_text("huge.nii").wait_for()


def test_on_an_image_that_cannot_be_shown_nobody_paints_by_the_one_before(
    opened, head, network, tmp_path
):
    wide = tmp_path / "wide.nii.gz"
    data = np.zeros((4000, 30, 1), np.float32)
    data[100:103, 5:7] = 1.5
    nib.save(nib.Nifti1Image(data, np.eye(4)), wide)
    page = opened(head, model=network)
    page.locator("#readout").get_by_text("Voxel").wait_for()
    page.get_by_test_id("input-openFiles").first.set_input_files([wide])
    page.get_by_test_id("notices").get_by_text("wide.nii.gz").wait_for()
    page.locator("#readout > *").first.wait_for(state="detached")
    page.get_by_role("button", name="Brush (B)").click()
    page.get_by_test_id("canvas-0").click(position={"x": 100, "y": 100})
    page.get_by_test_id("canvas-0").press(" ")
    page.wait_for_timeout(300)
    assert page.get_by_test_id("saveMask").is_disabled()
    segmented(page)
    assert page.get_by_test_id("volumes").inner_text().split()[-3:] == ["lesion", "0.01", "1"]
    page.locator(".cases button", has_text="head").first.click()
    page.locator("#readout").get_by_text("Voxel").wait_for()


# Drops files; a place for each of them, or many for one.
DROP = """([files, places, broken]) => {
  const entry = (file, fullPath) => ({ isFile: true, fullPath, file: (yes) => yes(file) });
  const all = files.map(({ base64, name }) => {
    const file = new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name);
    if (name === broken) file.slice = () => ({ arrayBuffer: () => Promise.reject(new Error()) });
    return file;
  });
  const items = places.map((place, i) => ({
    webkitGetAsEntry: () => entry(all[i % all.length], place),
  }));
  const event = new Event("drop", { bubbles: true, cancelable: true });
  const dataTransfer = { types: ["Files"], items, files: all };
  Object.defineProperty(event, "dataTransfer", { value: dataTransfer });
  document.body.dispatchEvent(event);
}"""


def drop(page, contents, places, broken=""):
    files = [
        {"name": place.rsplit("/")[-1], "base64": base64.b64encode(content).decode()}
        for place, content in zip(places, contents, strict=False)
    ]
    page.evaluate(DROP, [files, places, broken])


def test_a_broken_file_in_a_dropped_folder_spoils_no_series_of_another_folder(opened, tmp_path):
    series = sorted(write_made(tmp_path / "series", "axial").iterdir())
    page = opened(write_made(tmp_path / "first", "oblique", SeriesDescription="first"))
    page.locator("li.current", has_text="first").wait_for()
    contents = [b"no DICOM" * 99, *(file.read_bytes() for file in series)]
    drop(page, contents, ["/all/other/bad.dcm", *(f"/all/series/{file.name}" for file in series)])
    page.get_by_test_id("notices").get_by_text("bad.dcm").first.wait_for()
    page.locator("li.current", has_text="FLAIR").wait_for()


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_opened(opened, head, network):
    page = opened(head)
    drop(page, [b"-", network.read_bytes()], ["/gone.nii", "/over.onnx"], "gone.nii")
    page.get_by_test_id("notices").get_by_text("gone.nii").wait_for()
    segmented(page)


def test_a_drop_of_too_many_files_opens_no_part_of_them(opened, head):
    page = opened(head)
    drop(page, [head.read_bytes()], ["/all/head.nii.gz"] * 20_001)
    page.get_by_test_id("notices").get_by_text("20000").wait_for()
    assert page.locator(".cases > li").count() == 1


def test_images_of_one_name_are_visits_side_by_side(opened, head, tmp_path):
    for year in ("2024", "2025"):
        (tmp_path / year).mkdir()
        shutil.copy(head, tmp_path / year / "flair.nii.gz")
    page = opened(*(tmp_path / year / "flair.nii.gz" for year in ("2024", "2025")))
    page.get_by_test_id("canvas-1").wait_for()
    assert page.locator(".cases > li").count() == 2


def test_channels_of_one_file_are_called_by_it(opened, head, tmp_path):
    image = nib.load(head)
    channels = np.stack([image.get_fdata(), image.get_fdata() + 0.25], -1)
    nib.save(nib.Nifti1Image(channels, image.affine), tmp_path / "both.nii.gz")
    page = opened(tmp_path / "both.nii.gz")
    page.locator(".cases .case-name", has_text="both").wait_for()
    assert page.locator(".cases .case-name").inner_text() == "both"


def test_html_in_a_file_is_text(opened, head, network):
    model = onnx.load(network)
    (text,) = (entry.value for entry in model.metadata_props if entry.key == KEY)
    metadata = ModelMetadata.from_json(text)
    name = "<img src=x onerror=document.title='run'>"
    hostile = type(metadata)(**{**vars(metadata), "labels": ("background", name)})
    onnx.helper.set_model_props(model, {KEY: hostile.to_json()})
    onnx.save(model, network)
    page = opened(head, model=network)
    segmented(page)
    assert name in page.get_by_test_id("volumes").inner_text()
    assert page.title() != "run"
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_no_violation(opened, head, network, size, scheme):
    axe = (WEB / "node_modules" / "axe-core" / "axe.min.js").read_text()
    page = opened(head, model=network, size=size, scheme=scheme)
    segmented(page)
    run = "axe.run(document).then(({violations}) => violations.map(({id}) => id))"
    assert page.evaluate(f"{axe}; {run}") == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_speaks_french(opened, head, network):
    page = opened(head, model=network)
    page.get_by_test_id("language").click()
    assert page.locator("html").get_attribute("lang") == "fr"
    assert "Segmenter" in page.get_by_test_id("segment").inner_text()


@pytest.fixture
def static_host():
    """A host of files alone, without any header of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(DIST)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def wait_until_isolated(page):
    for _ in range(120):  # the page's policy forbids what wait_for_function does
        with suppress(playwright.Error):  # while it loads anew
            if page.evaluate("crossOriginIsolated"):
                return
        page.wait_for_timeout(250)
    raise AssertionError("never isolated")


def test_on_a_static_host_it_is_isolated_and_works_offline(chromium, static_host, head, network):
    context = chromium.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{static_host.server_port}/")
    wait_until_isolated(page)
    static_host.shutdown()
    static_host.server_close()
    page.reload()
    page.get_by_test_id("input-openFiles").first.set_input_files([head, network])
    page.get_by_test_id("segment").wait_for()
    segmented(page)
    context.close()


def test_the_service_worker_holds_workers_to_their_own_host_too(chromium, static_host):
    context = chromium.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{static_host.server_port}/")
    wait_until_isolated(page)
    asked = "fetch('sw.js').then(({headers}) => headers.get('Content-Security-Policy'))"
    assert "default-src 'self' blob: data:;" in page.evaluate(asked)
    context.close()


@pytest.fixture
def changing_host(tmp_path):
    """A host whose page can be replaced."""
    folder = tmp_path / "host"
    shutil.copytree(DIST, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Asked, directory=str(folder)))
    server.folder = folder
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class _Asked(_Quiet):
    """Is asked each time whether what the browser has is still so."""

    def end_headers(self):
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()


def replace_page(folder):
    """Put another build in place of the page: other names of its parts, none of the old ones."""
    (part,) = (folder / "assets").glob("nifti-*.js")
    other = part.with_name("nifti-00000000.js")
    part.rename(other)
    for file in [*folder.glob("*.js"), *folder.rglob("assets/*.js")]:
        file.write_text(file.read_text().replace(part.name, other.name))
    worker = folder / "sw.js"
    worker.write_text(worker.read_text().replace('const VERSION="', 'const VERSION="next-', 1))


def caches_of(page):
    return page.evaluate("caches.keys()")


def test_a_page_that_is_open_goes_on_when_the_host_gets_a_new_one(chromium, changing_host, head):
    address = f"http://127.0.0.1:{changing_host.server_port}/"
    context = chromium.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.goto(address)
    wait_until_isolated(page)
    page.wait_for_timeout(500)
    replace_page(changing_host.folder)
    page.reload()  # still of the old version, and finds the new one
    waited = "navigator.serviceWorker.getRegistration().then((r) => r.waiting !== null)"
    for _ in range(60):
        if page.evaluate(waited) or not any("next" not in name for name in caches_of(page)):
            break
        page.wait_for_timeout(250)
    page.wait_for_timeout(500)
    page.get_by_test_id("input-openFiles").first.set_input_files([head])
    page.locator(".cases .case-name", has_text="head").wait_for(timeout=10_000)
    page.close()
    page = context.new_page()
    for _ in range(20):
        page.goto(address)
        if all("next" in name for name in caches_of(page)):
            break
        page.close()
        page = context.new_page()
        page.wait_for_timeout(250)
    assert all("next" in name for name in caches_of(page))
    context.close()


def test_a_network_that_was_not_served_can_be_chosen_again(chromium, changing_host, network):
    listed = {"models": [{"name": "late", "file": "late.onnx"}]}
    (changing_host.folder / "models.json").write_text(json.dumps(listed))
    context = chromium.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{changing_host.server_port}/")
    wait_until_isolated(page)
    choice = page.locator("select[data-key=model]")
    choice.select_option("late")
    page.get_by_test_id("notices").get_by_text("late").wait_for()
    shutil.copy(network, changing_host.folder / "late.onnx")
    choice.select_option("late")
    page.locator(".legend").get_by_text("lesion").wait_for()
    context.close()


SLOW_FILES = """
const read = Blob.prototype.arrayBuffer;
Blob.prototype.arrayBuffer = async function () {
  while (!navigator.serviceWorker.controller) await new Promise((go) => setTimeout(go, 50));
  await new Promise((go) => setTimeout(go, 500));
  return read.call(this);
};
"""


def test_the_first_visit_is_not_loaded_anew_while_files_are_read(chromium, static_host, head):
    context = chromium.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.add_init_script(SLOW_FILES)
    page.goto(f"http://127.0.0.1:{static_host.server_port}/")
    page.get_by_test_id("input-openFiles").first.set_input_files([head])
    page.locator(".cases .case-name", has_text="head").wait_for(timeout=10_000)
    context.close()


REAL = {
    "hippocampus": "hippocampus/images/hippocampus_001.nii.gz",
    "flair": "ms_lesions/patient07/flair.nii.gz",
    "oblique series": "dicom/flair_oblique",
}


@pytest.mark.parametrize("name", REAL)
def test_real_images_get_the_mask_of_segjax_predict(opened, data_dir, tmp_path, name):
    source = data_dir / REAL[name]
    image = segjax.read(source)
    model, probabilities, threshold = at_median(export("mpunet++", (32, 32, 32)), tmp_path, image)
    network = tmp_path / "network.onnx"
    network.write_bytes(model)
    page = opened(source, model=network)
    segmented(page)
    saved_mask = segjax.read(saved(page, "saveMask", tmp_path))
    mask = on_grid_of(image, saved_mask)
    clear = np.abs(probabilities[..., 1] - threshold) > 1e-4
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(mask[clear], (probabilities[..., 1] >= threshold)[clear])


def on_grid_of(image, mask):
    """Return a mask's voxels where the image has them; a series may be stored in another order."""
    size = np.array(image.spatial_shape) - 1
    ends = np.stack([[0, 0, 0], size]).T
    place = np.linalg.inv(mask.affine) @ image.affine @ [*ends, [1, 1]]
    axes, flips = [], []
    for axis in range(3):
        steps = (np.linalg.inv(mask.affine) @ image.affine)[:3, axis]
        axes.append(int(np.abs(steps).argmax()))
        flips.append(steps[axes[-1]] < 0)
        assert abs(abs(steps[axes[-1]]) - 1) < 1e-3
    assert np.abs(place - place.round()).max() < 1e-2
    turned = mask.data.transpose(axes)
    return np.flip(turned, [axis for axis, flip in enumerate(flips) if flip])


def test_cancelling_keeps_the_page_and_the_image(opened, data_dir, tmp_path):
    network = tmp_path / "network.onnx"
    network.write_bytes(export("mpunet++", (32, 32, 32)))
    page = opened(data_dir / REAL["flair"], model=network)
    page.get_by_test_id("segment").click()
    page.get_by_test_id("cancel").click()
    page.get_by_test_id("cancel").wait_for(state="hidden")
    assert page.get_by_test_id("segment").is_enabled()
    assert page.get_by_test_id("done").count() == 0


def test_the_brush_changes_the_voxel_that_is_named_and_undo_takes_it_back(
    opened, head, network, tmp_path
):
    page = opened(head, model=network)
    segmented(page)
    page.get_by_test_id("lesions-1").get_by_role("button").nth(1).click()
    canvas = page.get_by_test_id("canvas-0")
    canvas.focus()
    for key in ("ArrowLeft", "ArrowLeft", "b", "[", "[", "[", "[", " "):
        page.keyboard.press(key)
    edited = nib.load(saved(page, "saveMask", tmp_path)).get_fdata()
    original = nib.load(head).get_fdata() > 0.5
    changed = np.argwhere(edited != original)
    assert len(changed) > 0
    assert np.abs(changed - [15, 12, 9]).max() <= 2
    page.keyboard.press("Escape")
    canvas.focus()
    page.keyboard.press("Control+z")
    undone = nib.load(saved(page, "saveMask", tmp_path)).get_fdata()
    np.testing.assert_array_equal(undone, original)


def test_two_visits_stand_side_by_side_with_their_difference(opened, head, tmp_path):
    image = nib.load(head)
    masks = []
    for visit, voxels in enumerate((8, 12)):
        data = np.zeros(image.shape, np.uint8)
        data[3, 3, :voxels] = 1
        masks.append(tmp_path / f"mask{visit}.nii.gz")
        nib.save(nib.Nifti1Image(data, image.affine), masks[-1])
    second = tmp_path / "second.nii.gz"
    nib.save(image, second)
    page = opened(head, second, mask=masks)
    change = page.get_by_test_id("change")
    change.wait_for()
    assert "50" in change.inner_text()  # per cent
    assert page.get_by_test_id("canvas-1").is_visible()


def test_edited_masks_are_a_training_set(opened, head, network, tmp_path):
    page = opened(head, model=network)
    segmented(page)
    with zipfile.ZipFile(saved(page, "saveTraining", tmp_path)) as archive:
        archive.extractall(tmp_path / "corrected")
    (case,) = find_cases(tmp_path / "corrected").cases
    np.testing.assert_array_equal(
        segjax.read(case.label).data == 1, nib.load(head).get_fdata() > 0.5
    )
    np.testing.assert_allclose(segjax.read(case.images[0]).affine, nib.load(head).affine, atol=1e-6)


def test_a_truncated_dicom_file_and_html_in_a_description_are_told(opened, head, tmp_path):
    series = write_made(
        tmp_path / "series", "axial", SeriesDescription="<img src=x onerror=document.title='run'>"
    )
    one = min(series.iterdir())
    one.write_bytes(one.read_bytes()[:-40])
    page = opened(head)
    page.get_by_test_id("input-openFiles").first.set_input_files(sorted(series.iterdir()))
    page.get_by_test_id("notices").get_by_text(one.name).first.wait_for()
    assert page.title() != "run"
    assert page.locator("img[src=x]").count() == 0
