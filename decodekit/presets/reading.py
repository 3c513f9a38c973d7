"""Reading: the settings of a preset, taken one after the other, and what became of each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from decodekit.errors import ParameterError, PluginError, UnknownNameError
from decodekit.plugins import Plugins
from decodekit.presets.dialects import DIALECTS, DIFFERS, OPTIONS, UNSUPPORTED
from decodekit.presets.stages import STAGES, Stage
from decodekit.settings import Settings


class Reading:
    """What is still to be read, under the names of `stages`; and what is made of the rest.

    given  setting -> value
    """

    def __init__(self, kind: str, settings: Mapping[str, Any], plugins: Plugins) -> None:
        self.kind, self.dialect, self.plugins = kind, DIALECTS[kind], plugins
        self.chain: list[str] = []
        self.options: dict[str, Any] = {}
        self.assumed: dict[str, Any] = {}
        self.differs: dict[str, str] = {}
        self.ignored: dict[str, str] = {}
        self.unsupported: dict[str, str] = {}
        self.given: dict[str, Any] = {}
        self._spelt: dict[str, str] = {}
        for spelt, value in settings.items():
            name = self.dialect.aliases.get(spelt, spelt)
            if value is None:
                continue
            if name in self.given and self.given[name] != value:
                raise ParameterError(
                    f"preset: {self._spelt[name]} and {spelt} are one setting; give one of them"
                )
            self.given[name], self._spelt[name] = value, spelt

    def look(self, name: str) -> Any:
        """The value of a setting, or the engine's default, or None."""
        return self.given.get(name, self.dialect.defaults.get(name))

    def take(self, name: str) -> Any:
        """What `look` gives, and the setting is done with."""
        if name not in self.given and name in self.dialect.defaults:
            self.assumed[name] = self.dialect.defaults[name]
        value = self.look(name)
        self.given.pop(name, None)
        return value

    def put(self, name: str, value: Any, instead_of: str | None = None) -> None:
        """A setting as the strategies take it; None: as if it were neither given nor assumed."""
        self.given[name] = value
        if instead_of is not None:
            self._spelt[name] = self.spelt(instead_of)

    def spelt(self, name: str) -> str:
        """A setting as the file spells it."""
        return self._spelt.get(name, name)

    def ignore(self, name: str, why: str) -> None:
        """Take a setting that the engine does not get to, and say so unless it asks for nothing."""
        value = self.given.pop(name, None)
        if value is not None and not asks_nothing(BY_SWITCH[name], value):
            self.ignored[self.spelt(name)] = why

    def read_stages(self, order: Iterable[str]) -> None:
        """The strategies, by the names of their stages."""
        for stage in map(STAGES.__getitem__, order):
            if not stage.parameters:
                self.chain.append(stage.strategy)
                continue
            value = self.look(stage.switch)
            if value is not None and not asks_nothing(stage, value):
                self._link(stage)
            for setting in stage.parameters.values():
                self.given.pop(setting, None)

    def _link(self, stage: Stage) -> None:
        registry, switch = self.plugins.logits_processors, self.spelt(stage.switch)
        options = {parameter: self.look(setting) for parameter, setting in stage.parameters.items()}
        options = {parameter: value for parameter, value in options.items() if value is not None}
        try:
            if stage.strategy not in registry.entries:
                raise UnknownNameError(f"{stage.strategy} is not installed; it is in {stage.package}")
            registry.create(stage.strategy, **options)
        except (ParameterError, PluginError, UnknownNameError) as exc:
            self.unsupported[switch] = str(exc)
            return
        for parameter, value in options.items():
            place = f"{stage.strategy}.{parameter}" if len(options) > 1 else stage.strategy
            self.chain.append(f"{place}={_spelt(value)}")
        for setting in stage.parameters.values():
            if setting not in self.given and setting in self.dialect.defaults:
                self.assumed[setting] = self.dialect.defaults[setting]
        if stage.switch in DIFFERS[self.kind]:
            self.differs[switch] = DIFFERS[self.kind][stage.switch]

    def read_options(self) -> None:
        for name, (option, nothing) in OPTIONS.items():
            value = self.take(name)
            if value is not None and value not in nothing:
                self.options[option] = [value] if name == "eos_token_id" and isinstance(value, int) else value
        Settings.of({option: value for option, value in self.options.items() if option != "n"})

    def explain_the_rest(self) -> None:
        """What is left asks for nothing, has no effect there, or cannot be kept."""
        for name in list(self.given):
            value, spelt = self.given[name], self.spelt(name)
            if name in self.dialect.ignored:
                self.ignored[spelt] = self.dialect.ignored[name]
            elif name in UNSUPPORTED:
                nothing, why = UNSUPPORTED[name]
                if value not in nothing:
                    self.unsupported[spelt] = why
            elif name in BY_SWITCH:
                self._explain_sampler(name)
            elif name not in DETAILS:
                self.unsupported[spelt] = "no such setting is known"

    def _explain_sampler(self, name: str) -> None:
        """One that is not in the order: by the engine's own rules, or because it has none of the kind."""
        has = {STAGES[stage].switch for stage in (*self.dialect.order, *self.dialect.also)}
        if name in has:
            self.ignore(name, "it is not among the samplers that are applied")
        elif not asks_nothing(BY_SWITCH[name], self.given[name]):
            self.unsupported[self.spelt(name)] = (
                f"{self.kind} has no such setting; give kind if it is another's"
            )


BY_SWITCH = {stage.switch: stage for stage in STAGES.values() if stage.parameters}
DETAILS = {setting for stage in STAGES.values() for setting in stage.parameters.values()}


def asks_nothing(stage: Stage, value: Any) -> bool:
    """Whether a value of a stage's first setting leaves the distribution as it is."""
    try:
        return not isinstance(value, bool) and stage.off(value)
    except TypeError:  # a value of another kind, which the strategy will refuse
        return False


def _spelt(value: Any) -> str:
    """A value as a chain's text has it: JSON in which no quote is inside of quotes."""
    return re.sub(r"\\(.)", lambda escape: r"\u0022" if escape[1] == '"' else escape[0], json.dumps(value))
