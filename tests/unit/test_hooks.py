"""Plugins are held to the hooks there are."""

from __future__ import annotations

import inspect
import types
from pathlib import Path

import pytest

from certify.errors import ConfigError
from certify.hooks import Hooks, Plugins, hookimpl
from certify.nodes.platform import PlatformKind, PlatformSettings


def plugin(name: str, function: object) -> types.ModuleType:
    """A module that is a plugin with one hook."""
    module = types.ModuleType("a_plugin")
    setattr(module, name, hookimpl(function))
    return module


def test_a_misspelt_hook_is_a_mistake() -> None:
    def certify_platfroms() -> list[object]:
        return []

    with pytest.raises(ConfigError, match="unknown hook 'certify_platfroms'"):
        Plugins([plugin("certify_platfroms", certify_platfroms)])


def test_an_argument_that_no_hook_has_is_a_mistake() -> None:
    def certify_platforms(confg: object) -> list[object]:
        return []

    with pytest.raises(ConfigError, match="confg"):
        Plugins([plugin("certify_platforms", certify_platforms)])


def test_two_platforms_of_one_name_are_a_mistake() -> None:
    def certify_platform_kinds() -> list[PlatformKind]:
        return [PlatformKind("container", PlatformSettings(), frozenset())]

    with pytest.raises(ConfigError, match="two installed plugins bring platforms called 'container'"):
        Plugins([plugin("certify_platform_kinds", certify_platform_kinds)]).platform_kinds()


def test_the_guide_names_every_hook() -> None:
    guide = (Path(__file__).parents[2] / "docs/write-a-plugin.md").read_text()
    hooks = {name: function for name, function in vars(Hooks).items() if name.startswith("certify_")}
    for name, function in hooks.items():
        arguments = ", ".join(list(inspect.signature(function).parameters)[1:])
        assert f"| `{name}({arguments})` |" in guide


def test_two_deploy_drivers_of_one_name_are_a_mistake() -> None:
    def certify_deploy_drivers() -> list[object]:
        return [types.SimpleNamespace(name="docker")]

    with pytest.raises(ConfigError, match="two installed plugins bring deploy drivers called 'docker'"):
        Plugins([plugin("certify_deploy_drivers", certify_deploy_drivers)]).deploy_drivers()
