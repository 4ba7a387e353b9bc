"""All that is to be measured on a GPU: what is right there, how fast, and in how much memory.

    python benchmarks/gpu.py --json gpu.json [--minutes 8] [--stages train torch …]
    python benchmarks/gpu.py --platform cpu --quick      # a rehearsal, in about a minute
    python benchmarks/gpu.py --prepare onnx              # where jax2onnx is: files for --onnx

Every stage runs in processes of its own, and what fails, hangs or takes too much memory there
costs one row. Every row is in the JSON file as soon as it is measured; the same command measures
what is missing, and ends by itself before --minutes are over. PyTorch and segjax get the same
batches, losses and optimizer; PyTorch's networks are those of `peers.py`.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gpu_table
from gpu_rows import STOPPED

ROOT = Path(__file__).parent.parent
PROGRAM = Path(__file__).with_name("gpu_stages.py")
SCRATCH = Path(tempfile.gettempdir()) / "segjax-benchmark"
STAGES = {  # seconds in which each begins rows before the next has its turn, by their worth
    "environment": 30,
    "train": 60,
    "torch": 60,
    "sweep": 60,
    "parity": 60,
    "sweep-run": 45,
    "profile": 30,
    "augmentation": 40,
    "inference": 40,
    "torch-inference": 40,
    "sweep-8gb": 30,
}
GRACE = 30  # more seconds, until the row that is under way is given up
LEAST = 8  # seconds in which a stage can do anything
TURNS = 4


class Results:
    """The JSON file: the settings, and of each stage how it ended and its rows by name."""

    def __init__(self, path, settings, machine):
        self.path = path
        self.content = {"machine": machine, "settings": settings, "stages": {}}
        if path and path.exists():
            self.content = json.loads(path.read_text(encoding="utf-8"))
            if self.content["settings"] != settings:
                found = ", ".join(f"{k} {v}" for k, v in self.content["settings"].items())
                sys.exit(f"{path}: holds results of other settings ({found}): name another file")

    def stage(self, name):
        """Return how a stage ended, and its rows."""
        return self.content["stages"].setdefault(name, {"status": "not begun", "rows": {}})

    def is_done(self, name):
        """Say whether a stage has all its rows."""
        stage = self.stage(name)
        failed = any("error" in row for row in stage["rows"].values())
        return stage["status"] == "done" and not failed

    def write(self):
        """Replace the file."""
        if self.path:
            temporary = self.path.with_suffix(".tmp")
            text = json.dumps(self.content, indent=1, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")
            temporary.replace(self.path)


def environment(settings):
    """Return the environment of a stage's process."""
    given = filter(None, [os.environ.get("PYTHONPATH")])
    own = {
        "PYTHONPATH": os.pathsep.join(map(str, [ROOT, ROOT / "export", *given])),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),  # none of those that the tests set
        "JAX_PLATFORMS": "cpu" if settings["platform"] == "cpu" else "cuda,cpu",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_COMPILATION_CACHE_DIR": str(SCRATCH / f"jax-{settings['platform']}"),
        "TORCHINDUCTOR_CACHE_DIR": str(SCRATCH / "inductor"),
        "TRITON_CACHE_DIR": str(SCRATCH / "triton"),
    }
    if settings["platform"] == "cpu":
        own["XLA_FLAGS"] = "--xla_backend_optimization_level=1"  # compiles faster
    return {**os.environ, **own}


def run_process(name, settings, seconds, keep):
    """Run one process of a stage; hand on its rows as they come.

    Returns:
        Its exit code, ``None`` where its time was over; the row that it was at; its last words.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows, log = Path(folder, "rows"), Path(folder, "log")
        rows.touch()
        command = [sys.executable, str(PROGRAM), name, json.dumps(settings), str(rows)]
        deadline = time.monotonic() + seconds
        with log.open("wb") as out, rows.open(encoding="utf-8") as lines:
            process = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment(settings),
                start_new_session=True,
            )
            try:
                current = follow(process, lines, deadline, keep)
            finally:
                code = process.poll()
                stop(process)
        said = log.read_text(errors="replace").strip().splitlines()
        return code, current, said[-1][:200] if said else ""


def follow(process, lines, deadline, keep):
    """Read rows until the process ends or its time is over; return the name of an open one."""
    current, rest = None, ""
    while True:
        over = process.poll() is not None or time.monotonic() > deadline
        *whole, rest = (rest + lines.read()).split("\n")
        for line in whole:
            event = json.loads(line)
            current = event.get("begins")
            if "ends" in event:
                keep(event["ends"], event["row"])
        if over:
            return current
        time.sleep(0.1)


def stop(process):
    """End a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_stage(name, settings, seconds, results):
    """Measure what is missing of a stage, in new processes where one breaks down."""
    stage, start = results.stage(name), time.monotonic()
    stage.pop("error", None)
    stage["status"] = "stopped"
    failed = [row for row, content in stage["rows"].items() if "error" in content]
    done = [row for row in stage["rows"] if row not in failed]

    def keep(row, content):
        stage["rows"][row] = content
        done.append(row)
        print(f"  {row}: {content.get('error') or 'done'}", file=sys.stderr, flush=True)
        results.write()

    while (left := start + seconds - time.monotonic()) > 0:
        begin = min(left, start + STAGES.get(name, 60) - time.monotonic())
        asked = {**settings, "done": done, "failed": failed, "begin": begin}
        code, row, words = run_process(name, asked, left, keep)
        if row:
            ended = "gave no answer in time" if code is None else f"ended with {code}: {words}"
            keep(row, {"error": ended})
            if code is not None:
                continue
        elif code not in (0, STOPPED, None):
            stage |= {"status": "failed", "error": words or f"ended with {code}"}
        elif code == 0:
            stage["status"] = "done"
        break
    results.write()


def run_all(names, settings, minutes, results):
    """Give each stage its turn, and those that were stopped another while there is time."""
    end = time.monotonic() + 60 * minutes
    names = [name for name in names if not results.is_done(name)]
    for _ in range(TURNS):
        for name in names:
            if (left := end - time.monotonic()) > LEAST:
                print(f"{name} …", file=sys.stderr, flush=True)
                run_stage(name, settings, min(STAGES.get(name, 60) + GRACE, left), results)
        names = [name for name in names if results.stage(name)["status"] == "stopped"]


def prepare(folder):
    """Write the ONNX files that the stage of inference compares, where jax2onnx is installed."""
    import onnx
    from gpu_rows import FILES, spatial
    from onnx_latency import export_segjax
    from peers import network_and_weights

    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        made = export_segjax(name, spatial(name), network_and_weights(name)[1])
        onnx.save(made, folder / f"{name}.onnx")


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    gpu = shutil.which("nvidia-smi") is not None
    machine = f"{platform.machine()}, {os.cpu_count()} CPU cores"
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="of all rows; the same command goes on with it")
    add("--platform", choices=("cpu", "gpu"), default="gpu" if gpu else "cpu")
    add("--quick", action="store_true", help="tiny networks: a rehearsal")
    stages = {"choices": STAGES, "default": list(STAGES), "help": ", ".join(STAGES)}
    add("--stages", nargs="+", metavar="STAGE", **stages)
    add("--minutes", type=float, default=8.0, metavar="N", help="at most (default: 8)")
    add("--machine", default=machine, metavar="NAME", help="as the table names it")
    add("--data", type=Path, metavar="FOLDER", help="images/ and labels/ for the stage sweep-run")
    add("--onnx", type=Path, metavar="FOLDER", help="ONNX files for the stage inference")
    add("--prepare", type=Path, metavar="FOLDER", help="write these files; measure nothing")
    options = parser.parse_args()
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.parent}")
    return options


def main():
    options = read_options()
    if options.prepare:
        return prepare(options.prepare)
    SCRATCH.mkdir(exist_ok=True)
    settings = {name: getattr(options, name) for name in ("platform", "quick")}
    results = Results(options.json, dict(settings), options.machine)
    for name, folder in {"scratch": SCRATCH, "data": options.data, "onnx": options.onnx}.items():
        settings |= {name: folder and str(folder.resolve())}
    interrupted = False
    try:
        run_all(options.stages, settings, options.minutes, results)
    except KeyboardInterrupt:
        interrupted = True
    results.write()
    gpu_table.show(results.content)
    if interrupted:
        print("\nstopped by Ctrl-C" + (": the same command goes on" if options.json else ""))
        return 130
    rows = [row for stage in results.content["stages"].values() for row in stage["rows"].values()]
    return int(all("error" in row for row in rows))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the stage that runs, too
    sys.exit(main())
