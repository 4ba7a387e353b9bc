"""The argument parser: what the subcommands declare, handed to tyro."""

import contextlib
import inspect
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Annotated, Any, Union

import tyro
from tyro.conf import arg, subcommand

import segjax

COMMANDS = (
    "demo", "preprocess", "preview", "plan", "train", "sweep", "export", "predict", "watch",
    "view", "evaluate", "measure", "raters", "report", "followup", "models", "info",
)  # fmt: skip
"""Each is the class of its name in the module of its name, which loads when it is asked for."""
_HELP = """Segment lesions in MR images: train small networks, ship them as ONNX files.

Examples:
    segjax demo                                       # see it work; needs no data
    segjax preprocess brains cache --preset ms-7t     # slow steps once, ahead of training
    segjax plan brains --out plan.json                # what would suit the data, and why
    segjax train --data brains --model mpunet++ --out run
    segjax models                                     # networks that come with segjax
    segjax predict run/model.onnx flair.nii.gz -o masks
    segjax watch incoming masks --model run/model.onnx  # studies as they arrive
    segjax view flair.nii.gz --mask masks/flair.nii.gz  # in the browser
    segjax evaluate masks brains/labels
    segjax measure masks --image brains/images -o measures.csv
    segjax report masks/flair.nii.gz flair.nii.gz -o report  # of one patient
    segjax followup before.nii.gz after.nii.gz --model run/model.onnx  # what changed
    segjax info run                                   # or a volume, a model, a folder

Each command explains itself: segjax train --help
"""
_FLAG = arg(help_behavior_hint="")
_MARKERS = (
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.HelptextFromCommentsOff,
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
)
_AFTER_THE_MESSAGE = ("For full helptext", "Argument helptext", "Got errors")


class UsageError(Exception):
    """The command line makes no sense; the message says, in one line, why."""


def parse(arguments: Sequence[str]) -> Callable[[], None]:
    """Return the subcommand that the arguments ask for, ready to be called.

    Raises:
        UsageError: The arguments are wrong, in one line.
        SystemExit: Help was asked for and has been printed.
    """
    if "--version" in arguments[:1]:
        return lambda: print(f"segjax {segjax.__version__}")
    words = list(arguments) or ["--help"]
    if not words[0].startswith("-") and words[0] not in COMMANDS:
        near = get_close_matches(words[0], COMMANDS, n=1)
        choice = f"did you mean {near[0]}?" if near else f"choose {', '.join(COMMANDS)}"
        raise UsageError(f"no command is named {words[0]}: {choice}")
    if {"-h", "--help"}.intersection(words):
        print(_help(words[0]), end="\n\n")
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return _tyro(words)
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise UsageError(_one_line(messages.getvalue()) or "wrong usage") from None


def _help(command: str) -> str:
    """Return the text above the options, which tyro would wrap and indent in its own way."""
    text = _class(command).__doc__ if command in COMMANDS else _HELP
    return inspect.cleandoc(text or "")


def _class(command: str) -> type:
    return getattr(import_module(f"segjax.cli.{command}"), command.capitalize())


def _tyro(words: list[str]) -> Callable[[], None]:
    options: dict[str, Any] = {"description": "", "config": _MARKERS}
    if words[0] in COMMANDS:
        command, *rest = words
        return tyro.cli(_class(command), prog=f"segjax {command}", args=rest, **options)
    commands = tuple(
        Annotated[_class(name), subcommand(name, description=_summary(_class(name)))]
        for name in COMMANDS
    )

    @dataclass(frozen=True)
    class Line:
        command: Union[commands]  # type: ignore[valid-type]  # noqa: UP007
        version: Annotated[bool, _FLAG] = False
        """Print the version and stop."""
        debug: Annotated[bool, _FLAG] = False
        """Print the whole traceback of an error; may stand anywhere on the line."""

    return tyro.cli(Line, prog="segjax", args=words, **options).command


def _summary(command: type) -> str:
    return (command.__doc__ or "").partition("\n")[0]


def _one_line(box: str) -> str:
    """Return the message of one of tyro's boxes: no frame, no help texts, no line breaks."""
    message = ""
    for line in re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯]", " ", box).splitlines()[1:]:
        text = line[2:].rstrip()
        if text.startswith(_AFTER_THE_MESSAGE):
            break
        if not text.startswith(" " * 8):
            message = _joined(message, text)
    sentences = (part.strip(" .") for part in message.split("; "))
    return "; ".join(part[:1].lower() + part[1:] for part in sentences if part)


def _joined(message: str, text: str) -> str:
    if text.startswith(("──", "--" * 4)):
        return f"{message}; "
    listed = text.startswith("    ") and message and not message.endswith((":", "; "))
    return f"{message}{',' if listed else ''} {text.strip()}".lstrip()
