"""Times and memory of `segjax preprocess` on real data, as a user runs it; also killed half-way.

    python benchmarks/preprocess.py --data DATA [--json results.json] [--keep FOLDER] [--only NAME]

DATA holds `ms_lesions/`, `meningioma2d/` and `dicom/flair_oblique/`. Each preset is run three
times by the command itself: into a new folder; again, when nothing is left to do; and into another
new folder with one worker, killed (kill -9) once half of the cases are finished, and run again.
Finished cases must still be the very same files then.
"""

import argparse
import csv
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FLAIR = ("--images", "flair.nii.gz", "--label", "lesions.nii.gz")
RUNS = {
    "dicom, ms-7t, classical": (
        "dicom/flair_oblique",
        ("--preset", "ms-7t", "--brain", "classical"),
    ),
    "ms_lesions, ms-7t": ("ms_lesions", ("--preset", "ms-7t", *FLAIR)),
    "ms_lesions, ms-7t-released": ("ms_lesions", ("--preset", "ms-7t-released", *FLAIR)),
    "meningioma2d, meningioma-2d": ("meningioma2d", ("--preset", "meningioma-2d")),
}
SEGJAX = (sys.executable, "-c", "from segjax.cli import main; raise SystemExit(main())")


def main():
    options = arguments()
    results = {"machine": machine(), "runs": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, (data, settings) in RUNS.items():
            if options.only in name:
                results["runs"][name] = measure(options.data / data, folder / slug(name), settings)
                print_row(name, results["runs"][name])
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("SEGJAX_DATA"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for the caches, kept")
    parser.add_argument("--only", default="", help="part of the name of a run")
    return parser.parse_args()


def measure(data, out, settings):
    first = seconds_of(lambda: run(data, out, settings))
    again = seconds_of(lambda: run(data, out, settings))
    cases = report(out)
    peaks = [float(case["peak_megabytes"]) for case in cases]
    seconds = [float(case["seconds"]) for case in cases]
    early = sum(file.stat().st_size for file in (out / "early").rglob("*")) / 1e6
    return {
        "cases": len(cases),
        "seconds": round(first, 1),
        "seconds_per_case": round(sum(seconds) / len(cases), 2),
        "seconds_nothing_to_do": round(again, 1),
        "peak_mb_per_worker": [round(min(peaks)), round(max(peaks))],
        "cache_mb": round(sum(float(case["megabytes"]) for case in cases), 1),
        "early_mb": round(early, 1),
        **(stopped(data, out.with_name(f"{out.name}-stopped"), settings) if len(cases) > 1 else {}),
    }


def stopped(data, out, settings):
    """Kill a run when half of its cases are finished, go on, and compare the finished files."""
    command = [*SEGJAX, "preprocess", str(data), str(out), *settings, "--workers", "1"]
    half = len(list((out.with_name(out.name.removesuffix("-stopped")) / "cases").iterdir())) // 2
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as program:
        while len(finished(out)) < half and program.poll() is None:
            time.sleep(0.01)
        os.killpg(program.pid, signal.SIGKILL)
    before = finished(out)
    rest = seconds_of(lambda: run(data, out, settings))
    after = finished(out)
    redone = sum(after[name] != files for name, files in before.items())
    return {
        "finished_when_killed": len(before),
        "redone": redone,
        "made_after": len(after) - len(before),
        "seconds_of_the_rest": round(rest, 1),
    }


def finished(out):
    """Return inode and time of the image of every finished case."""
    cases = [case for case in (out / "cases").glob("*/image.npy") if case.parent.name[0] != "."]
    states = {case.parent.name: case.stat() for case in cases}
    return {name: (state.st_ino, state.st_mtime_ns) for name, state in states.items()}


def run(data, out, settings):
    command = [*SEGJAX, "preprocess", str(data), str(out), *settings]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def report(out):
    with (out / "report.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def seconds_of(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def slug(name):
    return name.replace(", ", "-").replace(" ", "-")


def print_row(name, result):
    print(f"{name:28}", "  ".join(f"{key} {value}" for key, value in result.items()), flush=True)


def machine():
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((x.split(": ")[1] for x in lines if x.startswith("model name")), cpu)
    return {"cpu": cpu, "cores": os.cpu_count(), "gpu": None, "python": platform.python_version()}


if __name__ == "__main__":
    main()
