import types
from importlib import metadata

import pytest

from decodekit import LogitsProcessor, hookimpl, load_plugins
from decodekit.errors import ParameterError, PluginError, PluginWarning, UnknownNameError
from decodekit.plugin_choice import allowed


class FakeEntryPoint:
    """An installed distribution with one module."""

    def __init__(self, name, module, distribution="decodekit-other", version="0.3.0"):
        self.name, self.module, self.value = name, module, f"{name}_module"
        self.dist = types.SimpleNamespace(name=distribution, version=version)

    def load(self):
        if isinstance(self.module, BaseException):
            raise self.module
        return self.module


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
        PluginError, match=r"'mine' is registered twice: by decodekit-a 0.3.0 and by decodekit-b"
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


def test_only_the_named_plugins_are_loaded(installed, monkeypatch):
    installed(FakeEntryPoint("mine", module(mine=Mine)), FakeEntryPoint("broken", ImportError("x")))
    assert "mine" in load_plugins(only={"mine"}).logits_processors.entries
    assert [p.state for p in load_plugins(only=()).installed] == ["disabled", "disabled"]
    monkeypatch.setenv("DECODEKIT_PLUGINS", "")
    assert allowed() == set()
    monkeypatch.setenv("DECODEKIT_PLUGINS", "mine, other")
    assert allowed() == {"mine", "other"}
    monkeypatch.delenv("DECODEKIT_PLUGINS")
    assert allowed() is None


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
