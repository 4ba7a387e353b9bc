"""``docs/onnx-format.schema.json`` says what `ModelMetadata` writes and takes, and no more."""

import copy
import dataclasses
import json
from pathlib import Path

import pytest

from segjax.data.seen import Seen
from segjax.errors import InputError
from segjax_onnx.predict.metadata import (
    About,
    Code,
    HalfPrecision,
    ModelMetadata,
    Structure,
    Window,
)
from segjax_onnx.predict.postprocess import LabelRule
from segjax_onnx.predict.stages import Stage
from tests.segjax_onnx.predict.test_metadata import FULL, METADATA

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "docs" / "onnx-format.schema.json").read_text(encoding="utf-8"))
PARTS = {
    "window": Window,
    "rule": LabelRule,
    "structure": Structure,
    "code": Code,
    "about": About,
    "float16": HalfPrecision,
    "seen": Seen,
    "stage": Stage,
}
SIGMOID = dataclasses.replace(
    METADATA,
    labels=("background", "lesion"),
    activation="sigmoid",
    structures=(),
    spatial_dims=2,
    patch_size=(32, 32),
    seen=Seen((1.0, 1.0), (1.0, 1.0), (2.0, 2.0), "", ((0.0, 1.0),), (0.5,)),
)
_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "null": type(None),
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def is_a(value, kind):
    number = kind in ("integer", "number")
    return isinstance(value, _TYPES[kind]) and not (number and isinstance(value, bool))


def fits(schema, value):
    """Say whether a value is as a JSON Schema wants it; of the keywords, those that ours has."""
    if "$ref" in schema:
        return fits(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], value)
    if "anyOf" in schema:
        return any(fits(one, value) for one in schema["anyOf"])
    kinds = schema.get("type", [])
    if kinds and not any(is_a(value, k) for k in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    holds = [value in schema.get("enum", [value]), value == schema.get("const", value)]
    if isinstance(value, str | list):
        size = len(value)
        holds += [size >= schema.get("minItems", schema.get("minLength", 0))]
        holds += [size <= schema.get("maxItems", size)]
    if isinstance(value, list):
        holds += [fits(schema.get("items", {}), one) for one in value]
    if is_a(value, "number"):
        holds += [value >= schema.get("minimum", value), value <= schema.get("maximum", value)]
        holds += [not value <= schema.get("exclusiveMinimum", value - 1)]
        holds += [not value >= schema.get("exclusiveMaximum", value + 1)]
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        holds += [name in value for name in schema.get("required", [])]
        for name, one in value.items():
            inner = known.get(name, others)
            holds.append(inner is not False and fits(inner, one))
    return all(holds)


def names(cls):
    return {field.name for field in dataclasses.fields(cls)} - {"others"}


def test_schema_and_code_have_the_same_fields():
    assert SCHEMA["properties"].keys() == names(ModelMetadata)
    for name, cls in PARTS.items():
        assert SCHEMA["$defs"][name]["properties"].keys() == names(cls)


@pytest.mark.parametrize("metadata", [METADATA, FULL, SIGMOID], ids=["plain", "full", "sigmoid"])
def test_what_is_written_fits_the_schema(metadata):
    assert fits(SCHEMA, json.loads(metadata.to_json()))


def changed(path, value):
    plain = copy.deepcopy(json.loads(FULL.to_json()))
    inner = plain
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return plain


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["labels"], ["background"]),
        (["labels", 1], ""),
        (["activation"], "relu"),
        (["spatial_dims"], 4),
        (["in_channels"], 2.5),
        (["patch_size", 0], 0),
        (["overlap"], 1),
        (["local"], 1),
        (["pipeline"], [{"stop": "z-score"}]),
        (["channels", 0], ""),
        (["padding"], 1),
        (["window", "function"], "hann"),
        (["window", "width"], 2),
        (["halo", 0], -1),
        (["stages"], {}),
        (["stages", 0, "halo"], [-1]),
        (["stages", 0, "later"], 1),
        (["bytes_per_voxel"], -1),
        (["postprocessing", 0, "threshold"], 0),
        (["postprocessing", 0, "minimum_volume"], -1),
        (["postprocessing", 0, "smooth"], True),
        (["structures", 0, "color"], [1, 2]),
        (["structures", 0, "color", 0], 256),
        (["structures", 0, "code"], {"scheme": "SCT"}),
        (["about", "license"], 3),
        (["about", "dice"], {"lesion": 2}),
        (["float16"], {"dice": 0.9}),
        (["inside"], ["n4"]),
        (["format_version"], 2),
    ],
)
def test_what_does_not_fit_the_schema_is_refused(path, value):
    plain = changed(path, value)
    assert not fits(SCHEMA, plain)
    with pytest.raises(InputError, match=str(path[0])):
        ModelMetadata.from_json(json.dumps(plain))


def test_fields_that_stand_nowhere_fit_too():
    assert fits(SCHEMA, changed(["later"], 1))
    assert fits(SCHEMA, changed(["about", "later"], 1))
