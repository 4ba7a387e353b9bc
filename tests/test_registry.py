import functools
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from segjax import registry as module
from segjax.errors import InputError
from segjax.registry import Registry, register, registry

HOME = "import segjax.registry\nsegjax.registry.register('tool', 'own', 'made here')\n"


class Blur:
    name = "blur"


@pytest.fixture
def tools(monkeypatch) -> Registry:
    """An empty registry of a kind "tool"."""
    made = Registry("tool")
    monkeypatch.setitem(module._REGISTRIES, "tool", made)
    return made


@pytest.fixture
def home(monkeypatch, tmp_path) -> Registry:
    """A registry of a kind "tool" whose home registers 'own'."""
    (tmp_path / "tool_home.py").write_text(HOME)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tool_home", raising=False)
    made = Registry("tool", "tool_home")
    monkeypatch.setitem(module._REGISTRIES, "tool", made)
    return made


@pytest.fixture
def install(monkeypatch, tmp_path):
    """A function that installs a package with one plugin, given its code and its entry point."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "_FAILED", [])

    def made(name: str, code: str, point: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[segjax.plugins]\n{name} = {point}\n")
        monkeypatch.delitem(sys.modules, name, raising=False)
        module._waiting.cache_clear()

    yield made
    module._waiting.cache_clear()


def test_a_name_leads_to_the_thing_and_the_thing_to_its_name(tools):
    @register("tool", "double")
    def twice(x):
        return 2 * x

    assert registry("tool").get("double") is twice
    assert tools.name_of(twice) == "double"
    assert tools.name_of(len) is None
    assert "double" in tools
    assert "single" not in tools
    assert ["double"] not in tools


def test_a_name_left_out_is_that_of_the_thing(tools):
    def bright_voxels():
        pass

    register("tool")(bright_voxels)
    tools.register(None, Blur)
    assert tools.names() == ("bright-voxels", "blur")


def test_a_taken_name_is_refused_unless_asked_for(tools):
    tools.register("length", len)
    with pytest.raises(InputError, match=r"tool 'length' is builtins.len already: give builtins.m"):
        tools.register("length", max)
    assert tools.register("length", max, overwrite=True) is max
    assert tools.get("length") is max
    with pytest.raises(InputError, match="or overwrite=True"):
        tools.register("length", 3)


def test_what_is_defined_anew_takes_its_old_place(tools):
    def define(kernel):
        def net():
            return kernel

        tools.register("net", net)
        tools.register("wide", functools.partial(net, width=2))
        return net

    define(3)
    newer = define(5)
    assert tools.get("net") is newer
    assert tools.get("wide").func is newer
    with pytest.raises(InputError, match=r"'wide' is functools.partial"):
        tools.register("wide", functools.partial(newer, width=3))


def test_two_functions_without_a_name_are_not_one(tools):
    tools.register("square", lambda x: x * x)
    with pytest.raises(InputError, match=r"'square' is .*lambda> already"):
        tools.register("square", lambda x: x**2)
    with pytest.raises(InputError, match="a name is text without blanks"):
        tools.register(thing=lambda x: x)


@pytest.mark.parametrize("name", ["", "two words", " ", "a\n"])
def test_names_are_text_without_blanks(tools, name):
    with pytest.raises(InputError, match=r"tool .*: a name is text without blanks"):
        tools.register(name, len)


def test_a_metric_is_not_called_as_a_column_is():
    with pytest.raises(InputError, match="metric 'case': a column of tables has that name; take"):
        Registry("metric").register("case", len, overwrite=True)
    assert Registry("tool").register("case", len) is len


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_readers_and_writers_are_named_by_suffixes(kind):
    files = Registry(kind)
    files.register(".ima.gz", len)
    with pytest.raises(InputError, match=f"{kind} 'mha': a name is a suffix such as '.mha'"):
        files.register("mha", len)


def test_unknown_names_are_told_with_the_known_and_the_nearest(tools):
    tools.register("smooth", len)
    tools.register("sharpen", max)
    with pytest.raises(InputError) as error:
        tools.get("smoothh")
    assert str(error.value) == (
        "unknown tool 'smoothh': did you mean 'smooth'? Known are smooth, sharpen; import or "
        "install the package that registers it (segjax.register('tool', …))"
    )
    with pytest.raises(InputError, match="unknown tool 'gabor': known are smooth, "):
        tools.get("gabor")
    with pytest.raises(InputError, match="unknown tool None: known are smooth"):
        tools.get(None)


def test_an_empty_registry_knows_none(tools):
    with pytest.raises(InputError, match="unknown tool 'a': known are none; import or"):
        tools.get("a")


def test_unknown_kinds_are_told_with_all():
    with pytest.raises(InputError, match=r"unknown kind 'los': did you mean 'loss'\? Known are st"):
        register("los", "focal", len)


def test_homes_are_modules_of_segjax():
    root = Path(module.__file__).parent.parent
    homes = {home for several in module._HOMES.values() for home in several}
    paths = [root / home.replace(".", "/") for home in homes]
    assert all(path.is_dir() or path.with_suffix(".py").is_file() for path in paths)


def test_names_of_segjax_come_first_and_are_loaded_when_looked_up(home):
    register("tool", "mine", 1)
    assert "tool_home" not in sys.modules
    assert home.get("mine") == 1
    assert "tool_home" not in sys.modules
    assert home.names() == ("own", "mine")
    assert home.get("own") == "made here"


@pytest.mark.parametrize("first", ["segjax.data.synthesis", "segjax.data.io.formats"])
def test_names_come_in_one_order_whatever_was_imported_first(first):
    code = f"""
        import importlib
        importlib.import_module({first!r})
        from segjax.registry import registry
        print(*registry("transform").names()[::13], *registry("reader").names()[::8])
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["affine", "put-lesions", ".nii", ".seg.nrrd"]


def test_a_name_of_segjax_can_be_taken_over_before_it_is_loaded(home):
    register("tool", "own", "mine", overwrite=True)
    assert home.names() == ("own",)
    assert home.get("own") == "mine"
    with pytest.raises(InputError, match="'own' is 'mine' already"):
        register("tool", "own", "another")


def test_a_name_of_segjax_that_was_taken_unasked_is_told(home):
    register("tool", "own", "mine")
    with pytest.raises(InputError, match="'own' is 'mine' already: give 'made here' another name"):
        home.names()


def test_a_home_that_cannot_be_imported_is_tried_again(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    made = Registry("tool", "tool_home_of_later")
    with pytest.raises(ModuleNotFoundError, match="tool_home_of_later"):
        made.names()
    (tmp_path / "tool_home_of_later.py").write_text("")
    sys.path_importer_cache.clear()
    assert made.names() == ()


def test_plugins_register_what_they_have(tools, install):
    code = "import segjax.registry\nsegjax.registry.register('tool', 'imported', 1)"
    install("segjax_module", code, "segjax_module")
    code = """
        import segjax.registry
        def start():
            segjax.registry.register('tool', 'called', 2)
            assert 'nothing' not in segjax.registry.registry('tool')
        class Thing: pass
    """
    install("segjax_function", code, "segjax_function:start")
    assert tools.get("imported") == 1
    assert set(tools.names()) == {"imported", "called"}


def test_a_class_as_plugin_is_imported_and_not_called(tools, install):
    code = """
        import segjax.registry
        @segjax.registry.register('tool', 'class')
        class Thing:
            def __init__(self): raise ValueError
    """
    install("segjax_class", code, "segjax_class:Thing")
    assert isinstance(tools.get("class"), type)


def test_plugins_are_loaded_at_an_unknown_name_alone(tools, install):
    tools.register("known", 1)
    install("segjax_idle", "", "segjax_idle")
    assert tools.get("known") == 1
    assert "segjax_idle" not in sys.modules
    assert "other" not in tools
    assert "segjax_idle" in sys.modules


def test_a_plugin_that_fails_warns_and_stops_nothing(tools, install):
    install("segjax_broken", "import nothing_of_that_name", "segjax_broken")
    code = "import segjax.registry\nsegjax.registry.register('tool', 'fine', 1)"
    install("segjax_fine", code, "segjax_fine")
    said = "plugin 'segjax_broken' of segjax_broken failed: ModuleNotFoundError: No module named"
    with pytest.warns(UserWarning, match=said):
        assert tools.names() == ("fine",)
    with pytest.raises(InputError, match=f"unknown tool 'fien': did you mean 'fine'.*; {said}"):
        tools.get("fien")


def test_a_plugin_that_exits_stops_nothing(tools, install):
    install("segjax_exits", "import sys\nsys.exit(3)", "segjax_exits")
    with pytest.warns(UserWarning, match="plugin 'segjax_exits' .* failed: SystemExit: 3"):
        assert tools.names() == ()


def test_names_are_found_while_another_thread_registers():
    tools = Registry("tool")
    thread = threading.Thread(target=lambda: [tools.register(f"t{n}", n) for n in range(20_000)])
    thread.start()
    while thread.is_alive():
        assert tools.name_of(test_names_are_found_while_another_thread_registers) is None
    assert len(tools.names()) == 20_000


def test_importing_the_registry_loads_nothing_heavy():
    code = (
        "import sys, segjax.codec, segjax.registry as r; r.register('network', 'mine', len)\n"
        "print(sorted({'jax', 'numpy', 'scipy', 'importlib.metadata'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
