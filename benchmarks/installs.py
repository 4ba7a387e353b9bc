"""Measure what each extra of segjax costs to install: seconds, megabytes, packages.

    python benchmarks/installs.py [EXTRA ...] [--python python3.13] [--json FILE]

Each gets a new environment, which is removed again. Sizes are those of site-packages without pip
and setuptools, as files on the disk, compiled ones included. Seconds depend on the network and on
what pip has cached. A command at the end shows that what was installed works.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "installs.json"
PROOFS = {  # what each extra is for, as Python
    "none": "import segjax; segjax.read, segjax.write, segjax.Pipeline, segjax.score",
    "runtime": "import onnxruntime, segjax; segjax.Predictor",
    "prepare": "import PIL, SimpleITK, scipy.ndimage, segjax.data; segjax.data.augment",
    "dicom": "import dcm2niix, highdicom, pydicom, SimpleITK, segjax.data; segjax.data.read_dicom",
    "report": "import matplotlib, pandas, segjax.report.plots",
    "train": "import segjax; segjax.fit, segjax.sweep, segjax.export",
    "test": "import hypothesis, pytest, segjax; segjax.fit",
    "bench": "import monai, torch, torchio, segjax; segjax.fit",
}
LEFT_OUT = ("pip", "setuptools", "_distutils_hack", "distutils-precedence.pth")


def size(packages: Path) -> float:
    """Return the megabytes of site-packages without what every new environment holds."""
    files = (
        file
        for entry in packages.iterdir()
        if entry.name.partition("-")[0] not in LEFT_OUT and entry.name not in LEFT_OUT
        for file in (entry.rglob("*") if entry.is_dir() else [entry])
    )
    return sum(file.lstat().st_size for file in files if file.is_file()) / 1e6


def install(extra: str, python: str, folder: Path) -> dict[str, object]:
    """Install one extra into a new environment and return what that cost."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    subprocess.run([python, "-m", "venv", folder], env=environment, check=True)
    own = folder / "bin" / "python"
    what = str(ROOT) + ("" if extra == "none" else f"[{extra}]")
    start = time.perf_counter()
    command = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", what]
    subprocess.run(command, env=environment, check=True)
    seconds = time.perf_counter() - start
    (packages,) = folder.glob("lib/python*/site-packages")
    row = {
        "extra": extra,
        "seconds": round(seconds, 1),
        "megabytes": round(size(packages), 1),
        "packages": len({p.name for p in packages.glob("*.dist-info")} - pip_itself(packages)),
    }
    proof = [own, "-c", PROOFS[extra]]
    done = subprocess.run(proof, env=environment, cwd=folder, capture_output=True, check=False)
    return {**row, "works": done.returncode == 0}


def pip_itself(packages: Path) -> set[str]:
    """Name what pip knows of the packages that are left out."""
    return {p.name for name in LEFT_OUT for p in packages.glob(f"{name}-*.dist-info")}


def table(rows: list[dict[str, object]]) -> str:
    """Return the rows as a table in Markdown.

    Example:
        >>> row = {"extra": "none", "seconds": 9.0, "megabytes": 99.5, "packages": 16}
        >>> print(table([{**row, "works": True}]))
        | extra | seconds | MB | packages | works |
        |---|---|---|---|---|
        | none | 9 | 100 | 16 | yes |
    """
    lines = ["| extra | seconds | MB | packages | works |", "|---|---|---|---|---|"]
    for row in rows:
        works = "yes" if row["works"] else "no"
        lines.append(
            f"| {row['extra']} | {row['seconds']:.0f} | {row['megabytes']:.0f} | "
            f"{row['packages']} | {works} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure the extras, print a table and write JSON; return 1 where one does not work."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("extras", nargs="*", default=list(PROOFS), choices=[*PROOFS, []])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--machine", default=f"{platform.machine()}, {os.cpu_count()} CPU cores")
    arguments = parser.parse_args(argv)
    version = subprocess.check_output([arguments.python, "--version"], text=True).strip()
    rows = []
    for extra in arguments.extras:
        folder = Path(tempfile.mkdtemp(prefix="segjax-"))
        try:
            rows.append(install(extra, arguments.python, folder))
        finally:
            shutil.rmtree(folder)
        print(rows[-1], file=sys.stderr, flush=True)
    print(table(rows))
    result = {"machine": arguments.machine, "python": version, "rows": rows}
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(row["works"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
