"""``certify.yaml`` and ``fleet.yaml``: the settings of a project and of a fleet.

What platforms and deploy drivers can be told belongs to their plugins, which give each section's model
(:meth:`certify.hooks.Hooks.certify_platform_kinds`, :meth:`certify.hooks.Hooks.certify_fleet_settings`).
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import Meta, Struct

from certify.errors import ConfigError
from certify.models import Duration, Model, Name, Size, load

M = TypeVar("M", bound=Model)


class Images(Model, frozen=True):
    """Where disk images and memory snapshots are kept, and what is refused."""

    store: Annotated[str, Meta(description="folder of frozen disks, memory snapshots and plans")] = "~/.cache/certify"
    max_size: Annotated[Size, Meta(description="bounds a disk's declared and unpacked size, and a layer's")] = "64GiB"
    max_ratio: Annotated[int, Meta(ge=2, description="how many times larger than the file either may unpack")] = 200


class Trust(Model, frozen=True):
    """Where the channel repository, the keys and the certificates are."""

    repository: Annotated[str, Meta(description="channel repository: a folder, or for verifiers its URL")] = (
        ".certify/trust"
    )
    keys: Annotated[str, Meta(description="folder of keys")] = ".certify/keys"
    certificates: Annotated[str, Meta(description="folder of certificates")] = ".certify/certificates"
    client: Annotated[str, Meta(description="what one who verifies remembers")] = ".certify/client"
    writer: Annotated[str, Meta(description="what one who promotes remembers")] = ".certify/writer"
    root: Annotated[str | None, Meta(description="root metadata that a verifier starts from")] = None


class Requires(Model, frozen=True):
    """What must have passed before a digest may stand on a channel."""

    suites: Annotated[list[str], Meta(description="suites that must have passed, by name")] = []
    platforms: Annotated[list[str], Meta(description="platforms they must have passed on")] = []
    checks: Annotated[list[str], Meta(description="checks that must have passed, beside their suites' rest")] = []


class Channel(Model, frozen=True):
    """One channel and its gate."""

    requires: Annotated[Requires, Meta(description="what must have passed")] = Requires()
    after: Annotated[Name | None, Meta(description="the channel a digest must stand on before")] = None
    approvals: Annotated[int, Meta(ge=1, le=1, description="how many approvers must sign")] = 1
    valid_for: Annotated[Duration, Meta(description="how long a pointer holds before it is renewed")] = "30d"
    max_age: Annotated[Duration, Meta(description="how old evidence may be")] = "7d"
    allow_warned: Annotated[bool, Meta(description="whether an image with warnings may pass")] = False
    max_failed_runs: Annotated[
        int, Meta(ge=0, description="unexplained failures of one digest that are put up with")
    ] = 0


def default_channels() -> dict[str, Channel]:
    """What stands where no ``channels:`` is written: one channel that wants the baseline suite."""
    return {"staging": Channel(requires=Requires(suites=["baseline"]))}


class Config(Model, frozen=True):
    """``certify.yaml``."""

    version: Annotated[int, Meta(ge=1, le=1, description="of this file's form")] = 1
    product: Annotated[Name, Meta(description="what the images are images of")] = "default"
    suites: Annotated[
        list[str], Meta(description="what runs when no --suite is named: names, or paths of your own")
    ] = msgspec.field(default_factory=lambda: ["baseline"])
    platforms: Annotated[dict[str, Any], Meta(description="settings of platforms, by name")] = {}
    images: Annotated[Images, Meta(description="where images are kept, and what is refused")] = Images()
    memory_budget: Annotated[Size | None, Meta(description="memory for nodes; by default what the host can spare")] = (
        None
    )
    settings: Annotated[dict[str, dict[str, Any]], Meta(description="settings of suites, by suite")] = {}
    allow: Annotated[list[str], Meta(description="code and ini files from outside the suites that may take part")] = []
    state: Annotated[str, Meta(description="database of rollouts, as SQLAlchemy names it")] = (
        "sqlite:///.certify/certify.db"
    )
    evidence: Annotated[str, Meta(description="where runs keep their evidence")] = ".certify/runs"
    trust: Annotated[Trust, Meta(description="where keys, certificates and channels are")] = Trust()
    channels: Annotated[dict[Name, Channel], Meta(description="channels and what each asks for")] = msgspec.field(
        default_factory=default_channels
    )

    @property
    def platform_names(self) -> tuple[str, ...]:
        """The platforms that have a section here."""
        return self.platforms.__struct_fields__ if isinstance(self.platforms, Struct) else tuple(self.platforms)

    def of_platform(self, name: str, model: type[M]) -> M:
        """A platform's section. Raises msgspec.ValidationError for one that was read without its model and is not of it."""
        found = self.platforms.get(name) if isinstance(self.platforms, dict) else getattr(self.platforms, name, None)
        return found if isinstance(found, model) else msgspec.convert(found or {}, model)


class Health(Model, frozen=True):
    """When an instance serves: HTTP status 200 to 399, several times in a row."""

    port: Annotated[Annotated[int, Meta(ge=1, le=65535)] | None, Meta(description="the port to ask")] = None
    path: Annotated[str, Meta(pattern="^/", description="the path to ask for")] = "/"
    interval: Annotated[Duration, Meta(description="between two questions")] = "200ms"
    timeout: Annotated[Duration, Meta(description="for one answer")] = "2s"
    start_period: Annotated[Duration, Meta(description="until it must be healthy")] = "30s"
    successes: Annotated[int, Meta(ge=1, description="good answers in a row that make it healthy")] = 3
    soak: Annotated[Duration, Meta(description="how long it must stay healthy before the old one goes")] = "1s"


class Instance(Model, frozen=True):
    """One member of a fleet."""

    name: Annotated[Name, Meta(description="unique in the fleet; on metal the node's name")]
    host: Annotated[str | None, Meta(description="where it runs, as its driver names hosts; by default here")] = None
    publish: Annotated[
        dict[str, int], Meta(description="ports of the host's loopback: the ports the image serves")
    ] = {}


class Fleet(Model, frozen=True):
    """``fleet.yaml``."""

    fleet: Annotated[Name, Meta(description="the fleet's name")]
    instances: Annotated[list[Instance], Meta(min_length=1, description="its members")]
    version: Annotated[int, Meta(ge=1, le=1, description="of this file's form")] = 1
    product: Annotated[Name | None, Meta(description="whose channels it follows; by default certify.yaml's")] = None
    driver: Annotated[str, Meta(description="what replaces its instances")] = "docker"
    health: Annotated[Health, Meta(description="when an instance serves")] = Health()

    def section(self, name: str, default: M) -> M:
        """A driver's own section, or ``default`` where this was read without it."""
        found = getattr(self, name, default)
        assert isinstance(found, type(default))
        return found


def config_model(platforms: Mapping[str, Model]) -> type[Config]:
    """``certify.yaml`` where platforms have sections with these defaults."""
    sections = _composed("Platforms", "The platforms this project boots its candidates on.", Model, platforms)
    return _composed("Config", "certify.yaml", Config, {"platforms": sections()})


def fleet_model(sections: Mapping[str, Model]) -> type[Fleet]:
    """``fleet.yaml`` where drivers have sections with these defaults."""
    return _composed("Fleet", "fleet.yaml", Fleet, sections)


def _composed(name: str, doc: str, base: type[M], sections: Mapping[str, Model]) -> type[M]:
    for section in sections:
        if not section.isidentifier() or (section in base.__struct_fields__ and base is not Config):
            raise ConfigError(f"an installed plugin brings a section called {section!r}", f"{doc} cannot have that one")
    fields = [
        (section, Annotated[type(default), Meta(description=type(default).__doc__)], default)
        for section, default in sections.items()
    ]
    made = msgspec.defstruct(name, fields, bases=(base,), namespace={"__doc__": doc}, frozen=True)
    return cast("type[M]", made)


def load_config(path: Path | None, platforms: Mapping[str, Model] | None = None) -> Config:
    """Read ``certify.yaml``; without a path the one in the current directory, if there is one, else the defaults.

    Without ``platforms`` (their sections' defaults), what it says of them is not looked at. Raises ConfigError.
    """
    model = Config if platforms is None else config_model(platforms)
    if path is None:
        path = Path("certify.yaml")
        if not path.exists():
            return model()
    config = load(path, model)
    config = msgspec.structs.replace(config, trust=_expanded(config.trust))
    for name, channel in config.channels.items():
        _require_sound(f"{path}: channels.{name}", channel, config, platforms)
    return config


def _require_sound(where: str, channel: Channel, config: Config, platforms: Mapping[str, Model] | None) -> None:
    """Raise ConfigError for a channel that names what is not there."""
    if channel.after is not None and channel.after not in config.channels:
        raise ConfigError(
            f"{where}.after: no channel {channel.after!r}", _nearest(channel.after, "channels", config.channels)
        )
    for suite in channel.requires.suites:
        if "/" in suite:
            hint = f"write {Path(suite).name!r}, and its path under suites:"
            raise ConfigError(f"{where}.requires.suites: {suite!r} is a path, not a name", hint)
    for platform in channel.requires.platforms if platforms is not None else ():
        if platform not in platforms:  # type: ignore[operator]
            hint = _nearest(platform, "platforms", platforms)  # type: ignore[arg-type]
            raise ConfigError(f"{where}.requires.platforms: no platform {platform!r}", hint)


def _nearest(name: str, what: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"{what}: {', '.join(known)}"


def _expanded(trust: Trust) -> Trust:
    """The places with a leading ``~`` as the user's home."""
    places = {name: getattr(trust, name) for name in trust.__struct_fields__}
    return Trust(**{name: str(Path(place).expanduser()) if place else place for name, place in places.items()})


def load_fleet(path: Path, sections: Mapping[str, Model]) -> Fleet:
    """Read ``fleet.yaml``, with the drivers' ``sections``. Raises ConfigError, also for two instances that share a name or a
    published port."""
    fleet = load(path, fleet_model(sections))
    names = [instance.name for instance in fleet.instances]
    taken = [f"{i.host or 'local'}:{port}" for i in fleet.instances for port in i.publish]
    for what, values in (("name", names), ("published port", taken)):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ConfigError(f"{path}: two instances share the {what} {twice[0]!r}", "give each its own")
    if any(not port.isdigit() or not 0 < int(port) < 65536 for i in fleet.instances for port in i.publish):
        raise ConfigError(f"{path}: publish: keys are host ports", "write e.g. publish: {8081: 8080}")
    return fleet
