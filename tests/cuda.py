"""Programs that JAX makes for CUDA, read without a GPU."""

import re
from dataclasses import dataclass

import jax

_CONVOLUTION = re.compile(
    r"stablehlo\.convolution\(%\w+, (?P<kernel>%\w+)\) dim_numbers = \[.*?\]x\[(?P<taps>.*?)\]"
    r"->\[(?P<places>.*?)\], window = \{(?P<window>.*?)\} "
    r"\{batch_group_count = (?P<batch_groups>\d+) : i64, feature_group_count = (?P<groups>\d+)"
    r" : i64(?:, precision_config = \[(?P<precision>.*?)\])?\} : "
    r"\(tensor<\S+>, tensor<(?P<kernel_shape>\S+)x(?P<dtype>\w+)>\) -> tensor<(?P<shape>\S+)x\w+>"
)


@dataclass(frozen=True)
class Convolution:
    """One of a program in StableHLO.

    Attributes:
        kind: As cuDNN computes it: "forward", "input gradient", "kernel gradient"; or "none".
        window: Taps along each axis.
        groups: Of features and of the batch, multiplied.
        precision: Of each operand, such as "HIGHEST".
        dtype: Of the kernel.
    """

    kind: str
    window: tuple[int, ...]
    groups: int
    precision: tuple[str, ...]
    dtype: str


def text_for_cuda(monkeypatch, function, *args):
    """Return the StableHLO of a jitted function for CUDA; shapes and types do for arguments."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    return jax.export.export(function, platforms=["cuda"])(*args).mlir_module()


def convolutions(text):
    """Read all convolutions of a program."""
    reversed_kernels = {  # of each function; names are used again in others
        (start, name)
        for start, body in _functions(text)
        for name in re.findall(r"(%\w+) = stablehlo\.reverse ", body)
    }
    found = [
        _read(match, (start, match["kernel"]) in reversed_kernels)
        for start, body in _functions(text)
        for match in _CONVOLUTION.finditer(body)
    ]
    assert len(found) == text.count("stablehlo.convolution(")
    return found


def _functions(text):
    starts = [match.start() for match in re.finditer(r"func\.func ", text)]
    return [(a, text[a:b]) for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


def _read(match, is_reversed):
    window = _of_space(match["taps"], match["kernel_shape"])
    places = _of_space(match["places"], match["shape"])
    return Convolution(
        _kind(match["window"], is_reversed, window, places),
        window,
        int(match["groups"]) * int(match["batch_groups"]),
        tuple(re.findall(r"precision (\w+)", match["precision"] or "")),
        match["dtype"],
    )


def _of_space(names, shape):
    """Pick the sizes of the spatial axes, which have numbers for names."""
    sizes = zip(names.split(", "), map(int, shape.split("x")), strict=True)
    return tuple(size for _, size in sorted(pair for pair in sizes if pair[0].isdigit()))


def _kind(options, is_reversed, window, places):
    """Tell which of cuDNN's convolutions XLA recognises.

    Source: xla/service/gpu/transforms/conv_rewriter.cc
    """
    strided, dilated = "stride" in options, "lhs_dilate" in options
    if not strided and not dilated:
        larger = all(taps > place for taps, place in zip(window, places, strict=True))
        if larger or "rhs_dilate" in options:
            return "kernel gradient"
    if not strided and "rhs_dilate" not in options and (is_reversed or dilated):
        return "input gradient" if is_reversed or set(window) == {1} else "none"
    return "none" if dilated else "forward"
