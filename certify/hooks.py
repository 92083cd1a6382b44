"""What a plugin can give certify, and how certify finds plugins: entry points of the group ``certify``.

Built-in plugins register the same way. A plugin is a module; it implements any of :class:`Hooks` with ``@hookimpl``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pluggy

from certify.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from certify.config import Config
    from certify.deploy.driver import DeployDriver
    from certify.evidence.plan import SuitePlan
    from certify.gate.policy import Rule
    from certify.images.candidate import Transport
    from certify.images.convert import Converter
    from certify.models import Model
    from certify.nodes.lab import Lab
    from certify.nodes.platform import Platform, PlatformKind, PlatformSettings

T = TypeVar("T")
hookspec = pluggy.HookspecMarker("certify")
hookimpl = pluggy.HookimplMarker("certify")


@dataclass(frozen=True)
class Finding:
    """One line of ``certify doctor``: ``ok``, ``warning`` or ``problem``; ``remedy`` is the command that fixes it."""

    subject: str
    status: str
    detail: str
    remedy: str = ""


class Hooks:
    """The hook specifications."""

    @hookspec
    def certify_transports(self, config: Config) -> Iterable[Transport]:  # type: ignore[empty-body]
        """Transports that open references, beside the built-in file ones."""

    @hookspec
    def certify_converters(self) -> Iterable[Converter]:  # type: ignore[empty-body]
        """What writes candidates in other formats, for ``certify convert``."""

    @hookspec
    def certify_platform_kinds(self) -> Iterable[PlatformKind]:  # type: ignore[empty-body]
        """The platforms that :meth:`certify_platforms` gives where its libraries are installed, and their settings."""

    @hookspec
    def certify_fleet_settings(self) -> Iterable[tuple[str, Model]]:  # type: ignore[empty-body]
        """Sections of ``fleet.yaml`` for the plugin's deploy drivers: name and defaults, whose type is the section's model."""

    @hookspec
    def certify_platforms(self, config: Config) -> Iterable[Platform]:  # type: ignore[empty-body]
        """Platforms that boot candidates."""

    @hookspec
    def certify_labs(self, folder: Path | None) -> Iterable[Lab]:  # type: ignore[empty-body]
        """Labs of virtual metal nodes below ``folder`` (None: a place of the plugin's choice), for ``certify lab``."""

    @hookspec
    def certify_deploy_drivers(self) -> Iterable[DeployDriver]:  # type: ignore[empty-body]
        """Drivers that replace the instances of a fleet."""

    @hookspec
    def certify_plan_suites(  # type: ignore[empty-body]
        self, config: Config, names: Sequence[str], base: Path, kinds: Sequence[PlatformKind]
    ) -> Iterable[tuple[SuitePlan, dict[str, Any]]]:
        """The plans of suites by name or path (relative to ``base``), worked out now, and the settings in force. Marks may name
        ``kinds`` of platforms and what those offer."""

    @hookspec
    def certify_gate_rules(self) -> Iterable[Rule]:  # type: ignore[empty-body]
        """More rules for every channel's gate. They can deny what the built-in ones allow, never the other way round."""

    @hookspec
    def certify_versions(self) -> Iterable[tuple[str, str]]:  # type: ignore[empty-body]
        """Names and versions of the engines and hypervisors on this machine, for ``certify --version``. Raises nothing."""

    @hookspec
    def certify_doctor(self, config: Config) -> Iterable[Finding]:  # type: ignore[empty-body]
        """What works on this machine, what does not, and the command that fixes it."""

    @hookspec
    def certify_probe_nodes(self, inventory: Path) -> Iterable[Finding]:  # type: ignore[empty-body]
        """A finding for every metal node of an inventory, by asking its BMC; nothing is changed."""

    @hookspec
    def certify_netboot(self, folder: Path, host: str) -> Iterable[Path]:  # type: ignore[empty-body]
        """Write into ``folder`` the programs that a site's DHCP server names to metal nodes; they ask ``host`` what to boot."""

    @hookspec
    def certify_gc(  # type: ignore[empty-body]
        self, config: Config, is_alive: Callable[[str], bool], dry_run: bool
    ) -> Iterable[str]:
        """Remove what runs that are not ``is_alive(run_id)`` left behind. Returns a line for each thing removed."""


class Plugins:
    """The installed plugins. Make one per process, at the edge, and pass it on.

    Raises ConfigError for a plugin with a hook that has another name or other arguments than any of :class:`Hooks`.
    """

    def __init__(self, extra: Iterable[Any] = ()) -> None:
        self._manager = pluggy.PluginManager("certify")
        self._manager.add_hookspecs(Hooks)
        try:
            self._manager.load_setuptools_entrypoints("certify")
            for plugin in extra:
                self._manager.register(plugin)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            words = " ".join(str(error).split())
            raise ConfigError(f"a plugin's hook is none of certify's: {words}", "see docs/write-a-plugin.md") from None

    def _all(self, name: str, **arguments: Any) -> list[Any]:
        answers = getattr(self._manager.hook, name)(**arguments)
        return [item for answer in reversed(answers) for item in answer]

    def transports(self, config: Config) -> list[Transport]:
        return cast("list[Transport]", self._all("certify_transports", config=config))

    def converters(self) -> list[Converter]:
        return cast("list[Converter]", self._all("certify_converters"))

    def platform_kinds(self) -> dict[str, PlatformKind]:
        """By name. Raises ConfigError for two of one name."""
        return _by_name("platforms", [(kind.name, kind) for kind in self._all("certify_platform_kinds")])

    def config(self, path: Path | None) -> Config:
        """``certify.yaml`` with the sections of what is installed. Raises ConfigError."""
        from certify.config import load_config

        return load_config(path, self.platform_settings())

    def platform_settings(self) -> dict[str, PlatformSettings]:
        """The platforms' sections of ``certify.yaml``, as they are by default. Raises ConfigError."""
        return {name: kind.settings for name, kind in self.platform_kinds().items()}

    def fleet_settings(self) -> dict[str, Model]:
        """By name. Raises ConfigError for two of one name."""
        return _by_name("sections of fleet.yaml", self._all("certify_fleet_settings"))

    def platforms(self, config: Config) -> list[Platform]:
        return cast("list[Platform]", self._all("certify_platforms", config=config))

    def labs(self, folder: Path | None) -> list[Lab]:
        return cast("list[Lab]", self._all("certify_labs", folder=folder))

    def deploy_drivers(self) -> dict[str, DeployDriver]:
        """By name. Raises ConfigError for two of one name."""
        return _by_name("deploy drivers", [(driver.name, driver) for driver in self._all("certify_deploy_drivers")])

    def plan_suites(self, config: Config, names: Sequence[str], base: Path) -> list[tuple[SuitePlan, dict[str, Any]]]:
        kinds = tuple(self.platform_kinds().values())
        found = self._all("certify_plan_suites", config=config, names=names, base=base, kinds=kinds)
        return cast("list[tuple[SuitePlan, dict[str, Any]]]", found)

    def gate_rules(self) -> list[Rule]:
        return cast("list[Rule]", self._all("certify_gate_rules"))

    def versions(self) -> list[tuple[str, str]]:
        return cast("list[tuple[str, str]]", self._all("certify_versions"))

    def doctor(self, config: Config) -> list[Finding]:
        return cast("list[Finding]", self._all("certify_doctor", config=config))

    def probe_nodes(self, inventory: Path) -> list[Finding]:
        return cast("list[Finding]", self._all("certify_probe_nodes", inventory=inventory))

    def netboot(self, folder: Path, host: str) -> list[Path]:
        return cast("list[Path]", self._all("certify_netboot", folder=folder, host=host))

    def gc(self, config: Config, is_alive: Callable[[str], bool], dry_run: bool) -> list[str]:
        return cast("list[str]", self._all("certify_gc", config=config, is_alive=is_alive, dry_run=dry_run))


def _by_name(what: str, found: Iterable[tuple[str, T]]) -> dict[str, T]:
    named: dict[str, T] = {}
    for name, value in found:
        if name in named:
            raise ConfigError(f"two installed plugins bring {what} called {name!r}", "uninstall one of them")
        named[name] = value
    return named
