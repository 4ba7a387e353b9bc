import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import segjax
import segjax.describe
from segjax.cli import failures, main
from segjax.errors import InputError

PROGRAM = [sys.executable, "-c", "from segjax.cli import main; raise SystemExit(main())"]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, cwd=cwd, timeout=120, check=False
    )


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def describe(path: Path, *, series: str | None = None) -> dict[str, str]:
        raise error

    monkeypatch.setattr(segjax.describe, "describe", describe)


def test_python_runs_the_package_as_the_command():
    command = [sys.executable, "-m", "segjax", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"segjax {segjax.__version__}\n"


def test_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"segjax {segjax.__version__}\n"


COMMANDS = [
    "demo",
    "preprocess",
    "preview",
    "plan",
    "train",
    "sweep",
    "export",
    "predict",
    "watch",
    "view",
    "evaluate",
    "models",
    "info",
]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_shows_every_command_and_an_example_of_each_main_one(arguments, capsys):
    assert main(arguments) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f"• {command} " in text
    assert "segjax train --data brains --model mpunet++ --out run" in text
    assert "--debug" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_gives_examples_and_explains_every_option(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"    segjax {command}" in text.partition("Examples:")[2]
    assert f"usage: segjax {command}" in text
    assert "None" not in text


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from segjax.cli import main; main(['--help'])\n"
        "heavy = {'jax', 'flax', 'onnxruntime', 'nibabel', 'SimpleITK', 'matplotlib', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "no command is named trian: did you mean train?"),
        (["segment"], "no command is named segment: choose demo, preprocess, "),
        (["train"], "--data DIR, -o RUN, --out RUN; see segjax train --help"),
        (["train", "--data", "d", "--out", "o", "--epoch", "3"], "perhaps you meant: --epochs N"),
        (["export", "run", "--which", "worst"], "('best', 'last')"),
        (["predict", "model.onnx"], "missing from segjax predict: -o DIR"),
        (["predict", "m.onnx", "a.nii", "-o", "x", "--threads", "many"], "['many']"),
        (["info"], "FILE_OR_FOLDER; see segjax info --help"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("segjax: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_wrong_input_is_one_line_and_exit_code_1(tmp_path, capsys):
    assert main(["info", str(tmp_path / "absent.nii")]) == 1
    expected = f"segjax: error: {tmp_path / 'absent.nii'}: no such file or folder\n"
    assert capsys.readouterr().err == expected


def test_message_of_several_lines_becomes_one(monkeypatch, capsys):
    fail_with(monkeypatch, InputError("first\nsecond"))
    assert main(["info", "x"]) == 1
    assert capsys.readouterr().err == "segjax: error: first second\n"


@pytest.mark.parametrize("arguments", [["--debug", "info", "x"], ["info", "x", "--debug"]])
def test_debug_anywhere_on_the_line_gives_the_traceback(arguments, monkeypatch, capsys):
    fail_with(monkeypatch, InputError("broken"))
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert "InputError: broken" in error


def test_unexpected_error_says_how_to_see_more(monkeypatch, capsys):
    fail_with(monkeypatch, KeyError("gone"))
    assert main(["info", "x"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("segjax: error: KeyError: 'gone'")
    assert "--debug" in error


@pytest.mark.parametrize(
    ("package", "install"),
    [
        ("onnxruntime", '".[runtime]"'),
        ("jax.numpy", '".[train]"'),
        ("matplotlib", '".[report]"'),
    ],
)
def test_missing_package_names_the_extra_that_holds_it(package, install, monkeypatch, capsys):
    fail_with(monkeypatch, ModuleNotFoundError("No module", name=package))
    assert main(["info", "x"]) == 1
    assert install in capsys.readouterr().err


def test_training_without_its_extra_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['jax'] = None\n"
        "from segjax.cli import main; raise SystemExit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--out", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert '".[train]"' in done.stderr
    assert done.stderr.count("\n") == 1


def test_unknown_package_is_a_fault_of_ours(monkeypatch, capsys):
    fail_with(monkeypatch, ModuleNotFoundError("No module named 'zzz'", name="zzz"))
    assert main(["info", "x"]) == 1
    assert "--debug" in capsys.readouterr().err


def test_memory_error_says_what_to_change(monkeypatch, capsys):
    fail_with(monkeypatch, MemoryError())
    assert main(["info", "x"]) == 1
    assert "--batch-size" in capsys.readouterr().err


def test_missing_file_of_the_system_keeps_its_message(monkeypatch, capsys):
    fail_with(monkeypatch, PermissionError(13, "Permission denied", "a.nii"))
    assert main(["info", "x"]) == 1
    assert "Permission denied: 'a.nii'" in capsys.readouterr().err


def test_warning_is_one_line_without_its_place(monkeypatch, capsys):
    def describe(path: Path, *, series: str | None = None) -> dict[str, str]:
        warnings.warn("label 2\nnever occurs", stacklevel=1)
        return {}

    monkeypatch.setattr(segjax.describe, "describe", describe)
    assert main(["info", "x"]) == 0
    assert capsys.readouterr().err == "segjax: warning: label 2 never occurs\n"


def test_interrupted_training_says_how_to_go_on(monkeypatch, capsys):
    def plan(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("segjax.train.plans.plan.plan", plan)
    assert main(["train", "--data", "d", "--out", "o"]) == 130
    assert "the same command again goes on" in capsys.readouterr().err


def test_interrupted_preprocessing_says_how_to_go_on(monkeypatch, capsys):
    def find(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("segjax.data.layouts.find_data", find)
    assert main(["preprocess", "in", "out", "--preset", "meningioma-2d"]) == 130
    assert "the same command again goes on where it stopped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["predict", "m.onnx", "i.nii"], "the same command with --skip-existing makes the masks"),
        (["--debug", "sweep"], "the same command again goes on where it stopped"),
        (["demo"], "remove its folder to start again"),
        (["info", "x"], "segjax: interrupted\n"),
    ],
)
def test_interrupted_command_says_what_to_do_next(command, line, capsys):
    assert failures.report(KeyboardInterrupt(), command, debug=False) == 130
    assert line in capsys.readouterr().err


def test_interrupt_prints_one_line_and_exits_with_130(monkeypatch, capsys):
    fail_with(monkeypatch, KeyboardInterrupt())
    assert main(["info", "x"]) == 130
    assert capsys.readouterr().err == "segjax: interrupted\n"


def test_broken_pipe_is_quiet(monkeypatch, capsys):
    fail_with(monkeypatch, BrokenPipeError())
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert main(["info", "x"]) == 141
    assert capsys.readouterr().err == ""


def test_reader_that_leaves_early_causes_no_message():
    first = [sys.executable, "-c", "import sys; sys.exit(0)"]
    with subprocess.Popen(first, stdin=subprocess.PIPE) as reader:
        reader.wait()
        done = subprocess.run(
            [*PROGRAM, "--help"], stdout=reader.stdin, stderr=subprocess.PIPE, check=False
        )
    assert done.stderr == b""


def test_exit_codes_of_the_process(tmp_path):
    assert run("--version").returncode == 0
    assert run("info", "absent.nii", cwd=tmp_path).returncode == 1
    wrong = run("information", cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
