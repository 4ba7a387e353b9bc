"""The script that measures a GPU keeps every row, whatever happens to a stage."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STAGES = """
    import os, signal, sys, time
    from pathlib import Path
    from gpu_rows import serve

    def works(settings):
        yield "one", lambda: {"ms": 1.0}
        yield "two", lambda: {"ms": 2.0}

    def breaks(settings):
        yield "first", lambda: {"ms": 1.0}
        yield "killed", lambda: os.kill(os.getpid(), signal.SIGKILL)
        yield "refused", lambda: 1 / 0
        yield "last", lambda: {"ms": 3.0}

    def hangs(settings):
        yield "first", lambda: {"ms": 1.0}
        yield "endless", lambda: time.sleep(600)

    def mends(settings):
        if not (mark := Path(settings["scratch"], "mark")).exists():
            mark.touch()
            yield "row", lambda: sys.exit("out of memory")
        yield "row", lambda: {"ms": 4.0}

    serve({"works": works, "breaks": breaks, "hangs": hangs, "mends": mends})
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs stages which misbehave, and reads what was written."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    program = tmp_path / "stages.py"
    program.write_text(textwrap.dedent(STAGES))
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))
    monkeypatch.setattr(gpu, "PROGRAM", program)
    monkeypatch.setattr(gpu, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(gpu, "GRACE", 0)
    monkeypatch.setattr(gpu, "LEAST", 0)

    def run(*stages, seconds=60, options=()):
        monkeypatch.setattr(gpu, "STAGES", dict.fromkeys(stages, seconds))
        file = tmp_path / "gpu.json"
        asked = ["gpu.py", "--json", str(file), "--platform", "cpu", *options]
        monkeypatch.setattr(sys, "argv", [*asked, "--stages", *stages])
        code = gpu.main()
        return code, json.loads(file.read_text())["stages"]

    return run


def test_what_breaks_costs_its_own_row_alone(run, capsys):
    code, stages = run("breaks", "unknown", "works")
    assert code == 0
    rows = stages["breaks"]["rows"]
    assert (rows["first"]["ms"], rows["last"]["ms"]) == (1.0, 3.0)
    assert rows["killed"]["error"].startswith("ended with -9")
    assert rows["refused"]["error"] == "ZeroDivisionError: division by zero"
    assert stages["unknown"] == {"status": "failed", "rows": {}, "error": "KeyError: 'unknown'"}
    assert stages["works"]["status"] == "done"
    table = capsys.readouterr().out
    assert "killed: ended with -9" in table
    assert "== unknown: KeyError: 'unknown'" in table


def test_a_stage_that_hangs_keeps_its_rows_and_holds_up_no_other(run):
    code, stages = run("hangs", "works", seconds=2, options=("--minutes", "0.2"))
    assert code == 0
    assert stages["hangs"]["rows"]["first"]["ms"] == 1.0
    assert stages["hangs"]["rows"]["endless"]["error"] == "gave no answer in time"
    assert stages["works"]["status"] == "done"


def test_the_same_command_measures_what_is_missing_alone(run, tmp_path):
    _, before = run("works", "mends")
    assert "error" in before["mends"]["rows"]["row"]
    before["works"]["rows"]["one"]["ms"] = 7.0
    content = json.loads((tmp_path / "gpu.json").read_text())
    (tmp_path / "gpu.json").write_text(json.dumps({**content, "stages": before}))
    code, after = run("works", "mends")
    assert code == 0
    assert after["works"]["rows"]["one"]["ms"] == 7.0
    assert after["mends"]["rows"]["row"]["ms"] == 4.0


def test_results_of_other_settings_are_never_mixed_in(run):
    run("works")
    with pytest.raises(SystemExit, match="name another file"):
        run("works", options=("--quick",))


def test_it_fails_where_nothing_works_at_all(run):
    assert run("unknown")[0] == 1


def test_convolutions_are_counted_in_programs(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from gpu_stages import convolutions

    before = """
        %0 = stablehlo.convolution(%a, %b) {batch_group_count = 1, feature_group_count = 1}
        %1 = stablehlo.convolution(%a, %b) {batch_group_count = 1, feature_group_count = 4}
    """
    after = """
        %c = custom-call(%x, %k), window={size=3x5}, custom_call_target="__cudnn$convForward"
        %f = f32[2]{0} fusion(%x), backend_config={"kind":"__triton_gemm"}
        %d = f32[2]{0} convolution(%x, %k), window={size=3}
        %e = f32[2]{0} custom-call(%x), custom_call_target="__cublas$gemm"
    """
    found = convolutions(before, after)
    assert (found["convolutions"], found["grouped"]) == (2, 1)
    assert (found["cudnn"], found["widest"], found["left"]) == (1, 5, 1)
    assert found["kinds"] == {"Forward": 1, "__triton_gemm": 1}


@pytest.mark.slow
@pytest.mark.peer("torch")
def test_a_rehearsal_measures_every_stage(tmp_path):
    file = tmp_path / "gpu.json"
    options = ["--platform", "cpu", "--quick", "--json", str(file), "--minutes", "10"]
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "gpu.py", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, stage in json.loads(file.read_text())["stages"].items():
        assert stage["status"] == "done", name
        assert stage["rows"], name
        assert not [row for row in stage["rows"].values() if "error" in row], name
    assert "108 trainings" in done.stdout or "seconds of an epoch" in done.stdout
