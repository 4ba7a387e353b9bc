"""Time, memory and size of the page in Chromium, beside `segjax predict` on the same image.

    python benchmarks/browser.py IMAGE --model FILE [--json benchmarks/results/browser.json]

Needs the built page (``npm run build --prefix export/web``), Chromium and ``.[browser]``. Each pair
is one `segjax predict` in a process of its own, from its start to the file on disk, and one
segmentation in the page, from the click to the findings, in a browser of its own; the order
alternates. Memory is the peak of the process, and of the largest of the browser's (of Linux). First
paint is the browser's own first contentful paint, of a page that was not seen before.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

import segjax

ROOT = Path(__file__).parents[1]
DIST = ROOT / "export" / "web" / "dist"
LATE = ("asyncify", "ort.webgpu")  # loaded where a graphics processor is used
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def peak_of(process):
    """Return the most memory that a process had, in megabytes."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return max((1024 * int(x.split()[1]) / 1e6 for x in lines if x.startswith("VmHWM")), default=0)


def processes_below(parent):
    children = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == parent:
                children += [int(folder.name), *processes_below(int(folder.name))]
        except OSError:
            continue
    return children


def of_predict(image, model):
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "segjax", "predict", str(model), str(image), "-o", out]
        start, most = time.perf_counter(), 0.0
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
            while running.poll() is None:
                most = max(most, peak_of(running.pid))
                time.sleep(0.02)
        if running.returncode:
            raise SystemExit(f"segjax predict failed: {running.returncode}")
        return {"seconds": time.perf_counter() - start, "peak_mb": most}


class Watch:
    """Keeps the peak of the largest process below this one."""

    def __init__(self):
        self.most, self._ended = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self):
        while not self._ended.wait(0.2):
            below = processes_below(os.getpid())
            self.most = max([self.most, *map(peak_of, below)])

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()


def of_page(started, image, model, program, pictures=None):
    viewer = segjax.view(image, model=model, browser=False)
    browser = started.chromium.launch(executable_path=program, args=FLAGS)
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme="dark", locale="en-GB"
    )
    page = context.new_page()
    page.goto(viewer.url)
    page.get_by_test_id("segment").wait_for()
    entry = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    page.wait_for_timeout(3000)
    paint = page.evaluate(entry)
    with Watch() as watch:
        start = time.perf_counter()
        page.get_by_test_id("segment").click()
        page.get_by_test_id("done").wait_for(timeout=600_000)
        page.get_by_test_id("volumes").wait_for()
        seconds = time.perf_counter() - start
    if pictures:
        page.get_by_test_id("lesions-1").get_by_role("button").first.click()
        page.wait_for_timeout(2000)
        page.screenshot(path=pictures / "browser.png")
        page.get_by_test_id("theme").click()
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_timeout(2000)
        page.screenshot(path=pictures / "browser-phone.png")
    browser.close()
    viewer.close()
    return {"seconds": seconds, "peak_mb": watch.most, "first_paint_ms": paint}


def sizes():
    files = [file for file in DIST.rglob("*") if file.is_file()]
    late = sum(f.stat().st_size for f in files if any(part in f.name for part in LATE))
    return {
        "page_mb": sum(f.stat().st_size for f in files) / 1e6 - late / 1e6,
        "late_mb": late / 1e6,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--pictures", type=Path, help="folder for two pictures of the page")
    parser.add_argument("--machine", help="what it runs on, in words")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with sync_playwright() as started:
        for pair in range(options.repeats):
            row = {}
            for side in ("predict", "page")[:: 1 if pair % 2 else -1]:
                if side == "predict":
                    row[side] = of_predict(options.image, options.model)
                else:
                    row[side] = of_page(started, options.image, options.model, options.chromium)
            row["ratio"] = row["page"]["seconds"] / row["predict"]["seconds"]
            rows.append(row)
            print(json.dumps(row))
        if options.pictures:
            of_page(started, options.image, options.model, options.chromium, options.pictures)
    result = {
        "machine": options.machine or f"{platform.machine()}, {os.cpu_count()} cores",
        "image": "/".join(options.image.parts[-2:]),
        "shape": list(segjax.read(options.image).spatial_shape),
        "ratio": statistics.median(row["ratio"] for row in rows),
        "first_paint_ms": statistics.median(row["page"]["first_paint_ms"] for row in rows),
        "sizes": sizes(),
        "pairs": rows,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "pairs"}, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
