"""Open names for what is chosen by name: those of segjax, of plugins and of others."""

import functools
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from segjax.errors import InputError
from segjax.text import unknown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["HANDED", "Registry", "accepted", "dotted_name", "register", "registry"]

PLUGINS = "segjax.plugins"
"""Group of the entry points of other packages: modules, or functions without arguments."""

_COLUMNS = {
    "metric": (
        "case", "label", "truth_ml", "prediction_ml", "truth_voxels", "prediction_voxels",
        "false_positive_ml", "false_positive_pixels", "true_lesions", "found_lesions",
        "predicted_lesions", "false_lesions", "lesion_sensitivity", "lesion_precision", "lesion_f1",
    )
}  # fmt: skip
"""Names that things of a kind cannot have, since tables have columns of these names."""

HANDED = "object:"
"""How names begin of objects that have none, and are handed over instead: see Registry.lend."""

_LOADING = threading.RLock()
_FAILED: list[str] = []


class Registry:
    """Things of one kind by name: those of segjax, of plugins and of whoever registers them.

    Args:
        kind: What they are, such as "step".
        homes: Modules that register those of segjax; imported when a name is first looked up.

    Example:
        >>> extractors = Registry("extractor")
        >>> @extractors.register("bright")
        ... def bright(image, *, channel):
        ...     return image.with_data(image.channels_last[..., channel] > 0)
        >>> extractors.get("bright") is bright, extractors.name_of(bright), "bright" in extractors
        (True, 'bright', True)
    """

    def __init__(self, kind: str, *homes: str) -> None:
        self.kind = kind
        self._homes = homes
        self._things: dict[str, Any] = {}
        self._kept: set[str] = set()  # taken over before a home could register its own

    def register(
        self, name: str | None = None, thing: Any = None, *, overwrite: bool = False
    ) -> Any:
        """Give a thing a name, and return the thing; without a thing, return a decorator.

        What is defined anew, in the same module under the same name, takes its old place.

        Args:
            name: Without blanks; of readers, writers and weights a suffix, such as ".mha". By
                default the attribute ``name`` of the thing, or its name in Python with "-" for "_".
            thing: Class, function or value.
            overwrite: Take the name of another thing.

        Raises:
            InputError: The name is another thing's, or cannot be one.
        """
        if thing is None:
            return functools.partial(self.register, name, overwrite=overwrite)
        name = self._checked(_default_name(thing) if name is None else name)
        if overwrite or name not in self._things or _same(thing, self._things[name]):
            self._things[name] = thing
            self._kept |= {name} if overwrite else set()
        elif name not in self._kept or not self._homes:
            raise InputError(
                f"{self.kind} {name!r} is {dotted_name(self._things[name])} already: give "
                f"{dotted_name(thing)} another name, or overwrite=True"
            )
        return thing

    @contextmanager
    def lend(self, thing: Any, name: str | None = None) -> Iterator[str]:
        """Let a thing be found within a block.

        Args:
            thing: Class, function or value.
            name: By default one that tells its class or function: it can be stored, but leads to
                nothing where the thing is not handed over again.

        Example:
            >>> with Registry("loss").lend(re.compile) as name:
            ...     name
            'object:re.compile'
        """
        self.names()  # lest a plugin finds its name taken
        own = getattr(thing, "func", thing)
        name = name or HANDED + dotted_name(own if hasattr(own, "__qualname__") else type(own))
        before = self._things.get(name)
        self._things[name] = thing
        try:
            yield name
        finally:
            del self._things[name]
            self._things |= {} if before is None else {name: before}

    def names(self) -> tuple[str, ...]:
        """Return all names, those of segjax first, in the order of registration."""
        self._load_homes()
        _load_plugins()
        return tuple(self._things)

    def get(self, name: Any) -> Any:
        """Return what is registered under a name.

        Raises:
            InputError: Nothing is; the message gives the known names, and plugins that failed.
        """
        if name not in self and str(name).startswith(HANDED):
            raise InputError(
                f"{self.kind} {name.removeprefix(HANDED)} was handed over as an object, which no "
                f"name leads to: hand it over again ({self.kind}=…)"
            )
        if name not in self:
            how = f"segjax.register({self.kind!r}, …)"
            hint = f"import or install the package that registers it ({how})"
            raise InputError("; ".join([unknown(self.kind, name, self.names()), hint, *_FAILED]))
        return self._things[name]

    def name_of(self, thing: Any) -> str | None:
        """Return the name of a thing; None where it has none."""
        self._load_homes()
        return next((name for name, other in self._things.copy().items() if other is thing), None)

    def __contains__(self, name: object) -> bool:
        for load in (self._load_homes, _load_plugins):
            if not isinstance(name, str) or name in self._things:
                break
            load()
        return isinstance(name, str) and name in self._things

    def _load_homes(self) -> None:
        if self._homes:
            before = dict(self._things)
            for home in self._homes:
                import_module(home)
            self._homes = ()
            own = {
                name: thing
                for name, thing in self._things.items()
                if name not in before or _defined_in_segjax(thing)
            }
            self._things = {**own, **before}

    def _checked(self, name: Any) -> str:
        if name in _COLUMNS.get(self.kind, ()):
            raise InputError(
                f"{self.kind} {name!r}: a column of tables has that name; take another"
            )
        suffix = self.kind in ("reader", "writer", "weights")
        if isinstance(name, str) and re.fullmatch(r"\.[^\sA-Z]+" if suffix else r"\S+", name):
            return name
        form = "a suffix such as '.mha'" if suffix else "text without blanks"
        raise InputError(f"{self.kind} {name!r}: a name is {form}")


def _default_name(thing: Any) -> Any:
    name = getattr(thing, "__name__", "")  # of a lambda it is "<lambda>"
    return getattr(thing, "name", None) or (name.isidentifier() and name.replace("_", "-"))


def _same(one: Any, other: Any) -> bool:
    """Say whether two things are one, or one is the other defined anew, as in a notebook."""
    if isinstance(one, functools.partial) and isinstance(other, functools.partial):
        options = (one.args, one.keywords) == (other.args, other.keywords)
        return options and _same(one.func, other.func)
    name = getattr(one, "__name__", "")  # not __qualname__: slots make a class anew without it
    again = name.isidentifier() and name == getattr(other, "__name__", "")
    return one is other or (again and one.__module__ == other.__module__)


def _defined_in_segjax(thing: Any) -> bool:
    return str(getattr(getattr(thing, "func", thing), "__module__", "")).startswith("segjax.")


def dotted_name(thing: Any) -> str:
    """Return the module and name of a class or function; of a value how Python writes it.

    Example:
        >>> dotted_name(re.compile), dotted_name(3)
        ('re.compile', '3')
    """
    name = getattr(thing, "__qualname__", None)
    return f"{thing.__module__}.{name}" if name else repr(thing)


@functools.cache
def _waiting() -> list["EntryPoint"]:
    from importlib.metadata import EntryPoint, entry_points

    own = EntryPoint("segjax_onnx", "segjax_onnx.plugin", PLUGINS)
    return [own, *entry_points(group=PLUGINS)]


def _load_plugins() -> None:
    with _LOADING:
        while _waiting():
            _load(_waiting().pop(0))


def _load(plugin: "EntryPoint") -> None:
    try:
        found = plugin.load()
        if callable(found) and not isinstance(found, type):
            found()
    except (Exception, SystemExit) as error:  # whatever a package of others raises
        package = plugin.dist.name if plugin.dist else plugin.value
        problem = f"plugin {plugin.name!r} of {package} failed: {type(error).__name__}: {error}"
        _FAILED.append(problem)
        warnings.warn(problem, stacklevel=2)


_HOMES = {
    "step": ("segjax.data.prepare.steps",),
    "transform": ("segjax.data.augment", "segjax.data.synthesis"),
    "loss": ("segjax.train.losses",),
    "network": ("segjax.models.zoo",),
    "optimizer": ("segjax.train.optimizers",),
    "schedule": ("segjax.train.optimizers",),
    "extractor": ("segjax.data.prepare.brain",),
    "reader": ("segjax.data.io.formats",),
    "writer": ("segjax.data.io.formats",),
    "weights": ("segjax.train.transfer",),
    "exporter": (),
    "metric": ("segjax.evaluate.overlap",),
    "measures": ("segjax.evaluate.further",),
    "lesion-rule": ("segjax.evaluate.lesions",),
}
_REGISTRIES = {kind: Registry(kind, *homes) for kind, homes in _HOMES.items()}


def registry(kind: str) -> Registry:
    """Return the names of a kind.

    Raises:
        InputError: The kind is unknown; the message names all.

    Example:
        >>> registry("step").kind
        'step'
    """
    if kind not in _REGISTRIES:
        raise InputError(unknown("kind", kind, tuple(_REGISTRIES)))
    return _REGISTRIES[kind]


def register(
    kind: str, name: str | None = None, thing: Any = None, *, overwrite: bool = False
) -> Any:
    """Give a thing a name that settings and commands take: see :meth:`Registry.register`.

    Classes of steps and transforms register themselves, by their attribute ``name``.

    Args:
        kind: "step", "transform", "loss", "network", "optimizer", "schedule", "extractor",
            "reader", "writer", "weights", "exporter", "metric", "measures" or "lesion-rule".
        name: The name.
        thing: What it names; left out, a decorator is returned.
        overwrite: Take the name of another thing.

    Raises:
        InputError: The kind is unknown, or the name another thing's.

    Example:
        >>> @register("extractor", "bright-example")
        ... def bright(image, *, channel):
        ...     return image.with_data(image.channels_last[..., channel] > 0)
        >>> registry("extractor").register("bright-example", bright) is bright
        True
    """
    return registry(kind).register(name, thing, overwrite=overwrite)


def accepted(function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Return those of some options that a function or class takes by name.

    Example:
        >>> def adan(rate, *, momentum): ...
        >>> accepted(adan, momentum=0.9, weight_decay=0.1)
        {'momentum': 0.9}
    """
    parameters = signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return options
    names = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    return {name: value for name, value in options.items() if name in names}
