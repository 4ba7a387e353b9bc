"""A thousand damaged or hostile ONNX files: each refused in one line, or the same answer, or a bug.

    python benchmarks/fuzz_onnx.py [--count 1000] [--json results.json] [--seed 0]

One small network is cut, its bits are flipped, it is spliced and lengthened, its metadata are
replaced by others of wrong types, with absurd sizes, no text or nested thousands deep, its weights
claim to lie in other files, and its graph asks for tensors of petabytes. Those that no damage but
intent made carry a digest of their own, so that it is not the digest that refuses them. Every file
is opened and segments a small image; folders are compared before and after. The same seed gives
the same files.
"""

import argparse
import json
import platform
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from segjax.volume import Volume
from segjax_onnx import ModelMetadata, Predictor
from segjax_onnx.predict.digest import sealed

try:
    from benchmarks.fuzz_readers import outcome
except ImportError:  # run as a script
    from fuzz_readers import outcome

SECRET = "secret.bin"
FIELDS = ("labels", "patch_size", "in_channels", "size_multiple", "overlap", "batch_size",
          "spatial_dims", "activation", "pipeline", "format_version")  # fmt: skip
ABSURD = (-1, 2**31, 2**62, 10**30, 1e300, None, True, "3", {}, [2**40], [[1]], "\u0000")


def undamaged():
    """Return a network of two convolutions, and one that is sealed."""
    rng = np.random.default_rng(0)
    weights = {
        "w0": rng.standard_normal((4, 1, 3, 3), np.float32),
        "w1": rng.standard_normal((1, 4, 3, 3), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["y"], ["z"], alpha=0.3),
        helper.make_node("Conv", ["z", "w1"], ["logit"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["logit"], ["probabilities"]),
    ]
    image, output = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, "height", "width"])
        for name in ("image", "probabilities")
    )
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "segjax", [image], [output], tensors)
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    metadata = ModelMetadata(
        model="unet2d-k3",
        labels=("background", "lesion"),
        activation="sigmoid",
        spatial_dims=2,
        in_channels=1,
        patch_size=(16, 16),
        overlap=0.5,
        batch_size=1,
        size_multiple=1,
        pipeline=[{"step": "z-score"}],
        segjax_version="0",
        local=True,
    )
    helper.set_model_props(model, {"segjax": metadata.to_json()})
    return model, sealed(model.SerializeToString(deterministic=True))


# -- damage, of bytes ---------------------------------------------------------------------------


def cut(_model, content, rng):
    return content[: rng.integers(len(content))]


def flip(_model, content, rng):
    changed = bytearray(content)
    for at in rng.integers(len(content), size=rng.integers(1, 9)):
        changed[at] ^= 1 << rng.integers(8)
    return bytes(changed)


def lengthen(_model, content, rng):
    return content + rng.bytes(rng.integers(1, 200))


def splice(_model, content, rng):
    a, b, n = rng.integers(len(content), size=3)
    return content[:a] + content[b : b + n % 300] + content[a + n % 7 :]


def noise(_model, _content, rng):
    return rng.bytes(rng.integers(500))


# -- hostility, sealed anew ---------------------------------------------------------------------


def with_text(model, text):
    """Return the file with these metadata, which may be no text."""
    mark = "segjax-text-of-no-meaning"
    helper.set_model_props(model, {"segjax": mark + "x" * max(0, len(text) - len(mark))})
    content = model.SerializeToString(deterministic=True)
    at = content.index(mark.encode())
    if len(text) < len(mark):
        return sealed(content)
    return sealed(content[:at] + text + content[at + len(text) :])


def metadata(model, _content, rng):
    fields = json.loads(next(p.value for p in model.metadata_props if p.key == "segjax"))
    fields[str(rng.choice(FIELDS))] = (
        "none" if rng.random() < 0.2 else ABSURD[rng.integers(len(ABSURD))]
    )
    return with_text(model, json.dumps(fields).encode())


def foreign(model, _content, rng):
    texts = (b"[]" * 20, b'{"name": "someone else\'s network"}', b"\xff\xfe" * 30, b"NaN" * 12,
             b"[" * 100_000, b'{"a":' * 50_000, b"\x00" * 40,
             b"<html><body>not found</body>" * 2)  # fmt: skip
    return with_text(model, texts[rng.integers(len(texts))])


def outside(model, _content, rng):
    """Let weights lie in another file, as ONNX allows."""
    tensor = model.graph.initializer[rng.integers(2)]
    if rng.random() < 0.5:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
    location = (SECRET, f"../{SECRET}", f"/tmp/{SECRET}", "/etc/passwd", "")[rng.integers(5)]
    tensor.external_data.add(key="location", value=location)
    if rng.random() < 0.3:  # in a constant, not among the weights
        node = helper.make_node("Constant", [], ["c"])
        node.attribute.append(helper.make_attribute("value", tensor))
        model.graph.node.append(node)
        del model.graph.initializer[:]
    return sealed(model.SerializeToString(deterministic=True))


def gigantic(model, _content, rng):
    """Ask for more memory than there is."""
    kind = rng.integers(3)
    if kind == 0:  # weights of a size that they have not
        tensor = model.graph.initializer[rng.integers(2)]
        tensor.dims[rng.integers(4)] = (2**31, 2**40, 2**62, -5)[rng.integers(4)]
        return sealed(model.SerializeToString(deterministic=True))
    last = model.graph.node[-1]
    last.output[0] = "small"
    many = np.array([1, 1, 2**24, 2**24], np.int64)
    if kind == 1:
        model.graph.initializer.append(numpy_helper.from_array(many, "many"))
        model.graph.node.append(helper.make_node("Tile", ["small", "many"], ["probabilities"]))
    else:
        scales = many.astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(scales, "many"))
        resize = helper.make_node("Resize", ["small", "", "many"], ["probabilities"])
        model.graph.node.append(resize)
    return sealed(model.SerializeToString(deterministic=True))


def other_graph(model, _content, rng):
    """Let inputs, outputs or operators be others than the metadata say."""
    kind = rng.integers(5)
    graph = model.graph
    if kind == 0:
        graph.input[0].name = graph.node[0].input[0] = "x"
    elif kind == 1:
        graph.output[0].name = graph.node[-1].output[0] = "y"
    elif kind == 2:
        graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    elif kind == 3:
        graph.node[1].op_type, graph.node[1].domain = "Shell", "evil"
    else:
        graph.node[0].input[0] = "nowhere"
    return sealed(model.SerializeToString(deterministic=True))


KINDS = (cut, flip, flip, lengthen, splice, noise, metadata, foreign, outside, gigantic,
         other_graph)  # fmt: skip


def damaged(number, seed=0):
    """Return how a file is damaged, and its bytes."""
    model, content = undamaged()
    rng = np.random.default_rng([seed, number])
    kind = KINDS[number % len(KINDS)]
    return kind.__name__, kind(model, content, rng)


# -- opening ------------------------------------------------------------------------------------


def segment(path):
    """Return the probabilities of a small image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor = Predictor(path, threads=1, providers=["CPUExecutionProvider"])
        image = np.random.default_rng(1).standard_normal((20, 18)).astype(np.float32)
        return predictor.probabilities(Volume(image, np.eye(3)))


def listing(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def run(count, seed=0):
    """Damage and open so many files; return what happened."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        outer = Path(name)
        folder = outer / "files"
        folder.mkdir()
        for place in (outer, folder):
            (place / SECRET).write_bytes(bytes(4 * 9 * 4))
        path = folder / "model.onnx"
        path.write_bytes(undamaged()[1])
        expected, before = segment(path).data, {*listing(outer)}
        rows = []
        for number in range(count):
            kind, content = damaged(number, seed)
            path.write_bytes(content)
            answers = []
            found, message = outcome(lambda p, a=answers: a.append(segment(p)) or a[0], path)
            if found == "valid":
                same = np.array_equal(answers[0].data, expected)
                found = "same" if same else "changed"
            rows.append((number, kind, found, message))
        written = [str(path) for path in listing(outer) if path not in before]
    bad = [row for row in rows if row[2] not in ("refused", "same")]
    return {
        "count": count,
        "outcomes": dict(Counter(row[2] for row in rows)),
        "outcomes by kind": {
            kind.__name__: dict(Counter(row[2] for row in rows if row[1] == kind.__name__))
            for kind in dict.fromkeys(KINDS)
        },
        "neither refused nor the same": bad,
        "written": written,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = {"machine": platform.machine()} | run(arguments.count, arguments.seed)
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
