import dataclasses
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax import codec
from segjax import registry as registries
from segjax.codec import (
    Check,
    Named,
    Record,
    check_fields,
    check_survives,
    from_json,
    to_json,
)
from segjax.errors import InputError
from segjax.registry import Registry, register, registry

Count = Annotated[int, Check(lambda n: n >= 1, "a whole number from 1 up")]
Patch = Annotated[tuple[int, ...], Check(lambda p: len(p) == 2, "2 whole numbers")]

registries._REGISTRIES["filter"] = Registry("filter")


@dataclass(frozen=True)
class Filter(Named, kind="filter"):
    pass


@dataclass(frozen=True)
class Smooth(Filter):
    name: ClassVar[str] = "smooth"
    width: int | float = 1.0
    where: Literal["all", "brain"] = "all"

    def __post_init__(self) -> None:
        if self.width < 0:
            raise InputError(f"width {self.width}: give millimetres")


@dataclass(frozen=True, slots=True)
class Sharpen(Filter):
    name: ClassVar[str] = "sharpen"
    kernel: tuple[tuple[float, ...], ...] = ()


class Invert(Filter):
    name = "invert"


class Narrow(Smooth):
    name = "narrow"


@dataclass(frozen=True)
class Unnamed(Smooth):
    pass


class HDBet(Filter):
    pass


class WithoutDataclass(Filter):
    name = "undecorated"

    def __init__(self, *, width: float = 1.0) -> None:
        self.width = width


class Coding:
    def __init__(self, *values: int) -> None:
        self.values = values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Coding) and self.values == other.values

    def __hash__(self) -> int:
        return hash(self.values)

    def to_json(self) -> str:
        return "+".join(map(str, self.values))

    @classmethod
    def from_json(cls, plain: Any) -> "Coding":
        return cls(*map(int, plain.split("+")))


@dataclass(frozen=True)
class Inner:
    rate: float = 1.0
    name: str | None = None


@dataclass(frozen=True)
class Settings(Record):
    size: Patch
    epochs: Count = 1
    patience: Count | None = None
    flag: bool = False
    spans: tuple[tuple[float, float], ...] = ()
    stored: int | tuple[int, ...] = 0
    options: Mapping[str, int | str] = field(default_factory=dict)
    inner: Inner = Inner()
    perhaps: Inner | None = None
    filters: tuple[Filter, ...] = ()
    coding: Coding | None = None
    anything: Any = None
    double: int = field(init=False, default=2)

    def __post_init__(self) -> None:
        check_fields(self)


words = st.text("aβ ü\n", max_size=3)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)
filters = st.one_of(
    st.builds(Smooth, numbers.filter(lambda n: n >= 0), st.sampled_from(["all", "brain"])),
    st.builds(Sharpen, st.lists(st.lists(numbers).map(tuple)).map(tuple)),
    st.builds(Invert),
    st.builds(Narrow),
)
inners = st.builds(Inner, numbers, st.none() | words)
any_values = st.fixed_dictionaries(
    {
        "size": st.tuples(st.integers(), st.integers()),
        "epochs": st.integers(1, 10**6),
        "patience": st.none() | st.integers(1, 9),
        "flag": st.booleans(),
        "spans": st.lists(st.tuples(numbers, numbers)).map(tuple),
        "stored": st.integers() | st.lists(st.integers()).map(tuple),
        "options": st.dictionaries(words, st.integers() | words),
        "inner": inners,
        "perhaps": st.none() | inners,
        "filters": st.lists(filters).map(tuple),
        "coding": st.none() | st.builds(Coding, st.integers(0, 9), st.integers(0, 9)),
        "anything": st.none() | st.tuples(st.integers(), st.tuples(words)) | st.booleans(),
    }
)


@pytest.fixture
def tools(monkeypatch) -> Registry:
    """An empty registry of a kind "tool"."""
    made = Registry("tool")
    monkeypatch.setitem(registries._REGISTRIES, "tool", made)
    return made


def test_classes_register_themselves_by_their_own_name():
    names = registry("filter").names()
    assert names == ("smooth", "sharpen", "invert", "narrow", "undecorated")
    assert registry("filter").get("sharpen") is Sharpen  # the one with slots


def test_a_class_may_take_over_the_name_of_another(tools):
    class Tool(Named, kind="tool"):
        pass

    class First(Tool):
        name = "first"

    with pytest.raises(InputError, match=r"tool 'first' is .*First already: give .*Second another"):

        class Second(Tool):
            name = "first"

    class Third(Tool, overwrite=True):
        name = "first"

    assert Tool.from_json({"tool": "first"}).to_json() == {"tool": "first"}
    assert type(Tool.from_json({"tool": "first"})) is Third
    with pytest.raises(InputError, match="tool 'first' is another class by now: make this one ane"):
        First().to_json()


@settings(max_examples=15, deadline=None)
@given(any_values)
def test_settings_come_back_from_json(values):
    value = Settings(**values)
    text = json.dumps(value.to_json())
    back = Settings.from_json(json.loads(text))
    assert back == value
    assert json.dumps(back.to_json()) == text
    check_survives(value)


@settings(max_examples=30, deadline=None)
@given(numbers)
def test_numbers_stay_as_they_are_written(number):
    for kind in (float, int | float, float | None):
        assert json.dumps(to_json(from_json(kind, number))) == json.dumps(number)


def test_json_is_plain_and_begins_with_the_name():
    value = Settings((8, 8), filters=(Smooth(2), Sharpen(((1.0, 0.5),))), coding=Coding(1, 4))
    plain = value.to_json()
    assert plain["filters"] == [
        {"filter": "smooth", "width": 2, "where": "all"},
        {"filter": "sharpen", "kernel": [[1.0, 0.5]]},
    ]
    assert list(plain["filters"][0]) == ["filter", "width", "where"]
    assert plain["coding"] == "1+4"
    assert "double" not in plain


def test_fields_may_be_left_out():
    assert Settings.from_json({"size": [8, 8]}) == Settings((8, 8))
    assert from_json(Inner, {}) == Inner()


def test_numbers_of_numpy_become_plain():
    plain = to_json((np.float32(0.5), np.int64(3), np.bool_(True), np.eye(2)))
    assert json.dumps(plain) == "[0.5, 3, true, [[1.0, 0.0], [0.0, 1.0]]]"
    made = Settings(np.array([8, 8]), epochs=np.int64(3))
    assert (type(made.epochs), made.size) == (int, (8, 8))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "x: nan cannot be stored: JSON holds finite numbers"),
        ({"a": [1, float("inf")]}, r"x.a\[1\]: inf cannot be stored"),
        (np.array([np.nan]), r"x\[0\]: nan cannot"),
        ({1: 2}, r"x: \{1: 2\} cannot be stored: JSON holds"),
        (len, "x: <built-in function len> cannot be stored"),
        (Inner, "x: <class '.*Inner'> cannot be stored"),
        (Smooth, "x: <class '.*Smooth'> cannot be stored"),
        (Inner(name=3 + 2j), r"x.name: \(3\+2j\) cannot be stored"),
        ([Smooth(1j.imag), Smooth(np.inf)], r"x\[1\]: filter 'smooth': width: inf cannot be sto"),
    ],
)
def test_what_json_does_not_hold_is_refused(value, said):
    with pytest.raises(InputError, match=said):
        to_json(value, where="x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epoch": 3}, r"^unknown field 'epoch': did you mean 'epochs'\? Known are size, epochs"),
        ({"inner": {"rte": 1}}, "^inner: unknown field 'rte': did you mean 'rate'. Known are rate"),
        ({"inner": 3}, "^inner must be an object, not 3$"),
        ({"perhaps": {"rte": 1}}, "^perhaps: unknown field 'rte'"),
        ({"perhaps": 3}, "^perhaps must be an object, or null, not 3"),
        ({"perhaps": {"rate": "a"}}, "^perhaps.rate must be a number, not 'a'$"),
        ({"epochs": "ten"}, "^epochs must be a whole number from 1 up, not 'ten'"),
        ({"epochs": 2.0}, "^epochs must be a whole number from 1 up, not 2.0"),
        ({"epochs": True}, "^epochs must be a whole number from 1 up, not True"),
        ({"epochs": 0}, "^epochs must be a whole number from 1 up, not 0"),
        ({"patience": 0}, "^patience must be a whole number from 1 up, or null, not 0"),
        ({"size": "88"}, "^size must be 2 whole numbers, not '88'"),
        ({"size": [8, 8, 8]}, "^size must be 2 whole numbers, not "),
        ({"flag": 1}, "^flag must be true or false, not 1"),
        ({"spans": [[1, 2], [3]]}, r"^spans\[1\] must be a list of 2, not \[3\]"),
        ({"spans": [[1, "2"]]}, r"^spans\[0\]\[1\] must be a number, not '2'"),
        ({"spans": [[1, float("nan")]]}, r"^spans\[0\]\[1\] must be a number, not nan"),
        ({"spans": 3}, "^spans must be a list, not 3"),
        ({"stored": "a"}, "^stored must be a whole number, or a list, not 'a'"),
        ({"stored": [1, "a"]}, r"^stored\[1\] must be a whole number, not 'a'"),
        ({"options": {"a": None}}, "^options.a must be a whole number, or text, not None"),
        ({"options": []}, r"^options must be an object, not \[\]"),
        ({"inner": {"name": 3}}, "^inner.name must be text, or null, not 3"),
        ({"filters": [{"filter": "smoth"}]}, r"^filters\[0\]: unknown filter 'smoth': did you"),
        ({"filters": [{"width": 1}]}, r"^filters\[0\]: unknown filter {'width': 1}: known are"),
        ({"filters": ["smooth"]}, r"^filters\[0\] must be an object with 'filter', not 'smooth'"),
        (
            {"filters": [{"filter": "invert"}, {"filter": "smooth", "wher": 1}]},
            r"^filters\[1\]: filter 'smooth': unknown field 'wher': did you mean 'where'",
        ),
        (
            {"filters": [{"filter": "smooth", "where": "head"}]},
            r"^filters\[0\]: filter 'smooth': where must be one of all, brain, not 'head'",
        ),
        (
            {"filters": [{"filter": "smooth", "width": -1}]},
            r"^filters\[0\]: filter 'smooth': width -1: give millimetres$",
        ),
        ({"filters": [{"filter": "smooth", "width": "1"}]}, "smooth': width must be a number, no"),
        ({"filters": [{"filter": "invert", "a": 1}]}, "'invert': unknown field 'a': known are no"),
        (
            {"filters": [{"filter": "undecorated"}]},
            r"class .*WithoutDataclass is no frozen dataclass, so its settings cannot be stored",
        ),
        ({"coding": "1+b"}, "^coding: Coding cannot be made of '1.b': invalid literal"),
        ({"coding": 3}, "^coding: Coding cannot be made of 3: AttributeError"),
    ],
)
def test_bad_values_are_named(change, said):
    with pytest.raises(InputError, match=said) as error:
        Settings.from_json({"size": [8, 8], **change})
    assert "\n" not in str(error.value)


def test_values_out_of_range_are_refused_in_python_too():
    with pytest.raises(
        InputError, match=r"^patience must be a whole number from 1 up, or null, no"
    ):
        Settings((8, 8), patience=0)
    with pytest.raises(InputError, match=r"^filters\[0\] must be an object with 'filter', not In"):
        Settings((8, 8), filters=(Inner(),))


def test_required_fields_are_named():
    with pytest.raises(InputError, match=r"^field size is missing$"):
        Settings.from_json({})
    with pytest.raises(InputError, match=r"^config: field size is missing$"):
        from_json(Settings, {}, where="config")
    with pytest.raises(InputError, match=r"^value must be an object, not \[\]$"):
        Settings.from_json([])


def test_only_classes_derived_from_the_base_can_be_read(tools):
    class Tool(Named, kind="tool"):
        pass

    register("tool", "length", len)
    with pytest.raises(
        InputError, match=r"^tool 'length': builtins.len is no class derived from T"
    ):
        Tool.from_json({"tool": "length"})


@dataclass(frozen=True)
class Array(Record):
    values: np.ndarray


@dataclass(frozen=True)
class Nowhere(Record):
    value: "Undefined" = 1  # type: ignore[name-defined]


def test_types_that_json_has_not_are_told():
    with pytest.raises(InputError, match=r"values must be of a type that is stored \(ndarray is n"):
        Array.from_json({"values": [1, 2]})
    with pytest.raises(InputError, match="count must be a whole number, not 'a'"):
        from_json(Annotated[int, "a note"], "a", where="count")
    with pytest.raises(InputError, match=r"a type in class .*Nowhere is not known where it stands"):
        Nowhere.from_json({})


def test_long_values_are_cut_in_messages():
    with pytest.raises(InputError) as error:
        from_json(int, "a" * 1000)
    assert len(str(error.value)) < 150


@dataclass
class Mutable:
    width: int = 1


@dataclass(frozen=True)
class Holder:
    part: Any = None
    listed: tuple[int, ...] = ()


class Forgetful(Coding):
    @classmethod
    def from_json(cls, plain: Any) -> "Coding":
        return Coding(1)


class Raising(Coding):
    def to_json(self) -> Any:
        raise ZeroDivisionError("by hand")


class Odd(Coding):
    def to_json(self) -> Any:
        return {1, 2}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Unnamed(), "x: filter Unnamed has no name: give the class name = 'unnamed'"),
        (HDBet(), "x: filter HDBet has no name: give the class name = 'hdbet'"),
        (Settings((8, 8), filters=(Smooth(), Unnamed())), r"x.filters\[1\]: filter Unnamed has no"),
        (
            WithoutDataclass(),
            r"x: filter 'undecorated': class .*\.WithoutDataclass is no frozen dataclass, so its "
            r"settings cannot be stored: put @dataclass\(frozen=True\) above it",
        ),
        (Mutable(), "x: class .*Mutable is no frozen dataclass"),
        (Holder(listed=[1, 2]), "x.listed: list would be read back as tuple"),
        (Holder(part=Inner()), "x.part: Inner would be read back as dict"),
        (Forgetful(1), "x: Forgetful would be read back as Coding"),
        (Raising(1), r"x: .* cannot be stored: ZeroDivisionError\('by hand'\)"),
        (Odd(1), "x: .* cannot be stored: TypeError"),
        (Holder(len), "x.part: <built-in function len> cannot be stored"),
    ],
)
def test_what_does_not_survive_is_named(value, said):
    with pytest.raises(InputError, match=said):
        check_survives(value, "x")


class Lossy(Coding):
    @classmethod
    def from_json(cls, plain: Any) -> "Lossy":
        return cls(0)


def test_what_reads_as_another_value_is_named():
    with pytest.raises(InputError, match=r"Lossy.* would be read back as .*Lossy"):
        check_survives(Lossy(1))
    with pytest.raises(InputError, match=r"part.a: 1 would be read back as 2"):
        codec._check_same(Holder({"a": 1}), Holder({"a": 2}))
    with pytest.raises(InputError, match=r"listed: \(1,\) would be read back as \(1, 2\)"):
        codec._check_same(Holder(listed=(1,)), Holder(listed=(1, 2)))


def test_a_subclass_does_not_survive_where_its_base_is_read():
    @dataclass(frozen=True)
    class Own(Inner):
        pass

    check_survives(Inner(), kind=Inner)
    with pytest.raises(InputError, match=r"^Own would be read back as Inner"):
        check_survives(Own(), kind=Inner)


def test_what_is_equal_survives():
    check_survives(Settings((8, 8), filters=(Smooth(np.float32(0.1)), Invert(), Narrow(3))))
    check_survives((Smooth(), Sharpen()), kind=tuple[Filter, ...])


def test_errors_can_be_sent_to_other_processes():
    with pytest.raises(InputError) as error:
        Settings.from_json({"size": [8, 8], "inner": {"rate": "a"}})
    sent = pickle.loads(pickle.dumps(error.value))
    assert str(sent) == str(error.value) == "inner.rate must be a number, not 'a'"


def test_the_first_error_stays_the_cause():
    with pytest.raises(InputError) as error:
        from_json(tuple[Coding, ...], ["1", "b"], where="codes")
    assert "codes[1]: Coding cannot be made" in str(error.value)
    causes, cause = [], error.value.__cause__
    while cause is not None:
        causes.append(type(cause))
        cause = cause.__cause__
    assert causes[-1] is ValueError


def test_fields_with_defaults_made_anew_can_be_replaced():
    value = dataclasses.replace(Settings((8, 8)), filters=[Invert()])
    assert isinstance(value.filters, tuple)
