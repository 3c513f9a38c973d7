import json
import types
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import pytest

from decodekit import LogitsProcessor, hookimpl, load_plugins
from decodekit.errors import InputError, ParameterError, PluginError, PluginWarning, UnknownNameError
from decodekit.parameters import Real
from decodekit.plugin_choice import Choice, allowed, choose, read
from decodekit.plugins import shadowed


class FakeEntryPoint:
    """An installed distribution with one module."""

    def __init__(self, name, target, distribution="decodekit-other", version="0.3.0"):
        self.name, self.module, self.value = name, f"{name}_module", f"{name}_module"
        self.target = target
        self.dist = types.SimpleNamespace(
            name=distribution, version=version, locate_file=lambda path: Path("/site")
        )

    def load(self):
        if isinstance(self.target, BaseException):
            raise self.target
        return self.target


def module(**hooks):
    """A plugin module that registers processors by name."""

    class Module:
        @hookimpl
        def register_logits_processors(self, register):
            for name, factory in hooks.items():
                register(name, factory)

    return Module()


class Mine(LogitsProcessor):
    """Change nothing.

    More words.
    """

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength


@pytest.fixture
def installed(monkeypatch):
    def install(*entry_points):
        monkeypatch.setattr(metadata, "entry_points", lambda group: entry_points)

    return install


def test_an_installed_strategy_is_found_by_name(installed):
    installed(FakeEntryPoint("mine", module(mine=Mine)))
    registry = load_plugins().logits_processors
    assert registry.create("mine", strength=2.0).strength == 2.0
    assert registry.parameters("mine") == "strength: float = 1.0"
    assert registry.help("mine") == "Change nothing."
    assert registry.plugin("mine").distribution == "decodekit-other 0.3.0"


def test_built_ins_come_through_the_same_door(installed):
    installed()
    plugins = load_plugins()
    assert set(plugins.logits_processors.entries) == {
        "greedy",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical",
        "repetition_penalty",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "min_new_tokens",
    }
    assert set(plugins.stopping_criteria.entries) == {
        "end_tokens",
        "max_new_tokens",
        "max_time",
        "stop_strings",
        "repetition_loop",
    }


def test_one_broken_plugin_does_not_take_the_others_down(installed):
    installed(
        FakeEntryPoint("broken", ImportError("No module named 'scipy'"), "decodekit-broken"),
        FakeEntryPoint("mine", module(mine=Mine)),
    )
    with pytest.warns(PluginWarning, match=r"decodekit-broken 0\.3\.0 is broken: ImportError: No module"):
        plugins = load_plugins()
    assert plugins.logits_processors.create("mine")
    with pytest.raises(UnknownNameError, match=r"no logits processor named 'dry'.*decodekit-broken.*scipy"):
        plugins.logits_processors.create("dry")


def test_two_plugins_with_one_name_are_an_error_that_names_both(installed):
    installed(
        FakeEntryPoint("a", module(mine=Mine), "decodekit-a"),
        FakeEntryPoint("b", module(mine=Mine), "decodekit-b"),
    )
    with pytest.raises(
        PluginError,
        match=r"'mine' is registered twice: by decodekit-a 0.3.0 and by decodekit-b .* plugins disable b",
    ):
        load_plugins()


def test_a_plugin_cannot_shadow_a_built_in(installed):
    installed(FakeEntryPoint("rival", module(top_p=Mine), "decodekit-rival"))
    with pytest.raises(
        PluginError, match=r"'top_p' is registered twice: by decodekit .* and by decodekit-rival"
    ):
        load_plugins()


def test_a_misspelt_hook_is_an_error_not_silence(installed):
    class Typo:
        @hookimpl
        def register_logit_processors(self, register): ...

    installed(FakeEntryPoint("typo", Typo()))
    with pytest.warns(PluginWarning, match="register_logit_processors"):
        load_plugins()


def test_a_module_without_hooks_is_named(installed):
    installed(FakeEntryPoint("empty", object()))
    with pytest.warns(PluginWarning, match="it has no hook; mark a function with @decodekit.hookimpl"):
        load_plugins()


def test_a_plugin_that_raises_while_registering_is_broken_not_fatal(installed):
    class Raises:
        @hookimpl
        def register_logits_processors(self, register):
            register("half", Mine)
            raise RuntimeError("no such table")

    installed(FakeEntryPoint("raises", Raises(), "decodekit-raises"))
    with pytest.warns(PluginWarning, match=r"decodekit-raises 0.3.0 is broken: RuntimeError: no such table"):
        plugins = load_plugins()
    assert "half" not in plugins.logits_processors.entries
    assert [p.state for p in plugins.installed] == ["broken: RuntimeError: no such table"]


@pytest.mark.parametrize("exception", [SystemExit(0), KeyboardInterrupt()])
def test_only_a_keyboard_interrupt_ends_the_program(installed, exception):
    installed(FakeEntryPoint("exits", exception))
    if isinstance(exception, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            load_plugins()
    else:
        with pytest.warns(PluginWarning, match="is broken: SystemExit"):
            load_plugins()


@pytest.mark.parametrize(("name", "factory"), [("Not Snake", Mine), ("Upper", Mine), ("number", 3)])
def test_what_cannot_be_a_strategy_is_refused(installed, name, factory):
    installed(FakeEntryPoint("odd", module(**{name: factory})))
    with pytest.warns(PluginWarning, match=r"snake_case|cannot be called"):
        load_plugins()


def test_only_the_named_plugins_are_loaded(installed):
    installed(FakeEntryPoint("mine", module(mine=Mine)), FakeEntryPoint("broken", ImportError("x")))
    plugins = load_plugins(only={"mine"})
    assert "mine" in plugins.logits_processors.entries
    assert [p.state for p in plugins.installed] == ["ok", "not allowed"]
    assert [p.state for p in load_plugins(only=()).installed] == ["not allowed", "not allowed"]
    some = load_plugins(Choice(frozenset({"mine", "broken"}), frozenset({"broken"})))
    assert [p.state for p in some.installed] == ["ok", "disabled"]


def test_what_is_not_loaded_is_said_where_something_is_missing(installed):
    installed(FakeEntryPoint("mine", module(mine=Mine)))
    registry = load_plugins(Choice(disabled=frozenset({"mine"}))).logits_processors
    with pytest.raises(
        UnknownNameError, match=r"no logits processor named 'mine'; .*not loaded: mine \(disabled\)"
    ):
        registry.create("mine")


def test_the_environment_decides_which_are_loaded(monkeypatch, tmp_path):
    monkeypatch.setenv("DECODEKIT_PLUGINS_FILE", str(tmp_path / "plugins.json"))
    (tmp_path / "plugins.json").write_text('{"disabled": ["mine"]}')
    monkeypatch.setenv("DECODEKIT_PLUGINS", "")
    assert allowed() == Choice(frozenset())
    monkeypatch.setenv("DECODEKIT_PLUGINS", "mine, other")
    assert allowed() == Choice(frozenset({"mine", "other"}))
    monkeypatch.delenv("DECODEKIT_PLUGINS")
    assert allowed() == Choice(disabled=frozenset({"mine"}))


def test_a_plugin_is_disabled_and_enabled_again(monkeypatch, tmp_path):
    monkeypatch.setenv("DECODEKIT_PLUGINS_FILE", str(tmp_path / "deep" / "plugins.json"))
    monkeypatch.delenv("DECODEKIT_PLUGINS", raising=False)
    assert allowed() == Choice()
    file = choose({"mirostat"}, load=False)
    assert file == tmp_path / "deep" / "plugins.json"
    assert allowed().why_not("mirostat") == "disabled" and allowed().why_not("hello") == ""
    choose({"mirostat"}, load=True)
    assert allowed() == Choice()


def test_an_allow_list_is_kept_and_grows_by_what_is_enabled(monkeypatch, tmp_path):
    file = tmp_path / "plugins.json"
    monkeypatch.setenv("DECODEKIT_PLUGINS_FILE", str(file))
    file.write_text('{"allowed": ["hello"]}')
    assert read(file).why_not("mirostat") == "not allowed" and read(file).why_not("hello") == ""
    choose({"mirostat"}, load=True)
    choose({"hello"}, load=False)
    assert read(file) == Choice(frozenset({"hello", "mirostat"}), frozenset({"hello"}))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "7",
        '{"disabled": 7}',
        '{"disabled": "mine"}',
        '{"allowed": null}',
        '{"allowed": [1]}',
        '{"disabled": [], "x": 1}',
        '{"disabled": [], "disabled": []}',
        "{" * 5000,
        "\udcff",
    ],
)
def test_a_choice_that_cannot_be_read_is_an_error(tmp_path, content):
    (tmp_path / "plugins.json").write_text(content, errors="surrogateescape")
    with pytest.raises(
        InputError, match=r"plugins.json: cannot be read as a choice of plugins .*mend or remove"
    ):
        read(tmp_path / "plugins.json")


def test_a_copy_behind_another_is_shadowed(monkeypatch, tmp_path):
    for folder, name, version in (("a", "decodekit_twice", "2.0"), ("b", "decodekit-twice", "1.0")):
        info = tmp_path / folder / f"decodekit_twice-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[decodekit]\ntwice = no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path / "b"))
    monkeypatch.syspath_prepend(str(tmp_path / "a"))
    (found,) = [plugin for plugin in shadowed() if plugin.name == "twice"]
    assert found.distribution == "decodekit-twice 1.0" and found.origin == str(tmp_path / "b")
    assert found.state.startswith(f"shadowed by decodekit_twice 2.0 in {tmp_path / 'a'}")
    with pytest.warns(PluginWarning, match="decodekit_twice 2.0 is broken"):
        (first,) = [plugin for plugin in load_plugins(only={"twice"}).installed if plugin.name == "twice"]
    assert first.origin == str(tmp_path / "a")


def test_an_unknown_name_suggests_the_nearest(plugins):
    with pytest.raises(UnknownNameError, match="no logits processor named 'topp'; did you mean 'top_p'?"):
        plugins.logits_processors.create("topp")


def test_an_unknown_option_is_named_with_those_there_are(plugins):
    with pytest.raises(ParameterError, match=r"top_p: .*'q'.*; it takes p: float"):
        plugins.logits_processors.create("top_p", p=0.9, q=1)


def test_a_factory_that_raises_is_named(installed):
    def factory():
        raise OSError("no table here")

    installed(FakeEntryPoint("mine", module(mine=factory)))
    with pytest.raises(PluginError, match=r"mine \(from decodekit-other 0.3.0\) could not be made: OSError"):
        load_plugins().logits_processors.create("mine")


def test_an_option_that_is_nearly_there_is_suggested(installed):
    installed(FakeEntryPoint("mine", module(mine=Mine)))
    with pytest.raises(
        ParameterError, match=r"'strenght'; did you mean 'strength'\? it takes strength: float"
    ):
        load_plugins().logits_processors.create("mine", strenght=2.0)


class Trusting(LogitsProcessor):
    """Looks at none of its options."""

    def __init__(
        self,
        share: float = 0.5,
        count: int | None = None,
        text: str = "",
        fast: bool = False,
        mode: Literal["soft", "hard", 1] = "soft",
        named: Annotated[float, Real("(-inf, inf)")] = 0.0,
        free=None,
    ):
        self.text = text + ""
        self.options = share, count, fast, mode, named, free


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("share", "0.7", r"share must be a number in \(-inf, inf\), got '0.7'"),
        ("share", True, "share must be a number"),
        ("share", float("nan"), r"share must be in \(-inf, inf\), got nan"),
        ("named", [1], "named must be a number"),
        ("count", 1.0, "count must be a whole number"),
        ("count", "3", "count must be a whole number"),
        ("text", 3, "text must be a text, got 3"),
        ("fast", 1, "fast must be true or false, got 1"),
        ("mode", "softly", "mode must be 'soft' or 'hard' or 1, got 'softly'"),
        ("mode", True, "mode must be 'soft' or 'hard' or 1, got True"),
    ],
)
def test_options_have_the_types_they_are_annotated_with(installed, option, value, message):
    installed(FakeEntryPoint("trusting", module(trusting=Trusting)))
    with pytest.raises(ParameterError, match=f"trusting: {message}"):
        load_plugins().logits_processors.create("trusting", **{option: value})


def test_options_of_the_right_types_arrive(installed):
    installed(FakeEntryPoint("trusting", module(trusting=Trusting)))
    registry = load_plugins().logits_processors
    assert registry.create("trusting", 1, None, "a", True, 1, 2, {}).options == (1, None, True, 1, 2, {})
    assert registry.create("trusting", count=3, mode="hard").options[1:4] == (3, False, "hard")


def test_a_clash_is_ended_by_leaving_one_out(installed, run, monkeypatch, tmp_path):
    installed(
        FakeEntryPoint("a", module(mine=Mine), "decodekit-a"),
        FakeEntryPoint("b", module(mine=Mine), "decodekit-b"),
    )
    monkeypatch.setenv("DECODEKIT_PLUGINS_FILE", str(tmp_path / "plugins.json"))
    monkeypatch.delenv("DECODEKIT_PLUGINS")
    status, _, err = run("plugins", "list")
    assert status == 3 and "`DECODEKIT_PLUGINS= decodekit plugins disable b`" in err
    monkeypatch.setenv("DECODEKIT_PLUGINS", "")
    status, _, err = run("plugins", "disable", "decodekit-b")
    assert status == 0 and "DECODEKIT_PLUGINS is set and decides" in err
    monkeypatch.delenv("DECODEKIT_PLUGINS")
    status, out, _ = run("plugins", "list", "--json")
    decodekit, a, b = json.loads(out)["plugins"]
    assert decodekit["origin"] == "built in" and "top_p" in decodekit["registers"]["logits processor"]
    assert a == {
        "plugin": "a",
        "distribution": "decodekit-a",
        "version": "0.3.0",
        "origin": "/site",
        "state": "ok",
        "registers": {"logits processor": ["mine"]},
    }
    assert (b["state"], b["registers"]) == ("disabled", {})
    status, _, err = run("plugins", "disable", "c")
    assert status == 2 and "no installed plugin is called 'c'; there are a, b" in err
