"""``certify.yaml`` and ``fleet.yaml`` → frozen models. The models are the JSON Schema too (``certify schema``).

A mistake is reported as ``file:line: what is wrong`` with the nearest right name. Nothing here reads anything but the
file it is given.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import yaml
from msgspec import Meta, Struct

from certify.errors import ConfigError
from certify.yaml_file import read_yaml

_DURATION = r"^[0-9]+(ms|s|m|h|d|w)$(?!\n)"
_SIZE = r"^[0-9]+(KiB|MiB|GiB|B)$(?!\n)"
_NAME = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$(?!\n)"
Duration = Annotated[str, Meta(pattern=_DURATION, description="a number and ms, s, m, h, d or w", examples=["30d"])]
Size = Annotated[str, Meta(pattern=_SIZE, description="a number and B, KiB, MiB or GiB", examples=["512MiB"])]
Name = Annotated[str, Meta(pattern=_NAME, description="lower case letters, digits, '.', '_', '-'")]
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = 100 * 366 * 86400
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
PLATFORMS = ("container", "vm", "metal")
T = TypeVar("T")


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every model: frozen, and a field nobody knows is an error."""


class ContainerSettings(Model, frozen=True):
    """How candidates are booted in containers."""

    driver: str = "docker"
    mode: Annotated[str, Meta(pattern="^(auto|init|service|idle)$(?!\\n)")] = "auto"
    memory: Size = "1GiB"
    pids: Annotated[int, Meta(ge=16)] = 2048
    network: Annotated[str, Meta(pattern="^(none|internal|bridge)$(?!\\n)")] = "internal"
    boot_timeout: Duration = "90s"
    command_timeout: Duration = "60s"
    output_limit: Size = "16MiB"
    stop_timeout: Duration = "10s"


class Login(Model, frozen=True):
    """An account for the serial console; the password is read from the environment variable ``password_env``."""

    user: str = "root"
    password_env: str = "CERTIFY_VM_PASSWORD"


class VmSettings(Model, frozen=True):
    """How candidates are booted as virtual machines. ``firmware``: the first boots every node, the others are tried by the
    ``vm`` suite; ``auto`` reads it off the disk. ``kernel`` and ``initrd`` boot images that ship none. ``access`` are the ways
    into a guest that may be tried."""

    driver: str = "libvirt"
    uri: str = "embed"
    memory: Size = "1GiB"
    cpus: Annotated[int, Meta(ge=1, le=64)] = 2
    firmware: Annotated[
        list[Annotated[str, Meta(pattern="^(auto|bios|uefi|uefi-secure)$(?!\\n)")]], Meta(min_length=1)
    ] = msgspec.field(default_factory=lambda: ["auto"])
    acceleration: Annotated[str, Meta(pattern="^(auto|kvm|tcg)$(?!\\n)")] = "auto"
    disk: Size | None = None
    data_disk: Size | None = None
    nics: Annotated[int, Meta(ge=0, le=8)] = 1
    network: Annotated[str, Meta(pattern="^(internal|user)$(?!\\n)")] = "internal"
    kernel: str | None = None
    initrd: str | None = None
    cmdline: str = "root=/dev/vda rw console=tty0 console=ttyS0,115200"
    user_data: str | None = None
    access: list[Annotated[str, Meta(pattern="^(credentials|cloud-init|agent|login)$(?!\\n)")]] = msgspec.field(
        default_factory=lambda: ["credentials", "cloud-init", "agent", "login"]
    )
    login: Login | None = None
    forks: bool = True
    snapshot_cache: Size = "8GiB"
    pool: str = "default"
    console_ignore: list[str] = []
    boot_timeout: Duration = "60s"
    command_timeout: Duration = "60s"
    output_limit: Size = "16MiB"
    stop_timeout: Duration = "30s"


class MetalSettings(Model, frozen=True):
    """How candidates are booted on metal. ``nodes`` is the inventory; ``listen`` the address of this host that nodes and
    BMCs reach (by default the one that the route to the BMC has); ``clean`` what is wiped of the root disk afterwards."""

    driver: str = "metal"
    nodes: str = "nodes.yaml"
    listen: str | None = None
    clean: Annotated[str, Meta(pattern="^(none|metadata|full)$(?!\\n)")] = "metadata"
    user_data: str | None = None
    lease_timeout: Duration = "1h"
    bmc_timeout: Duration = "2m"
    boot_timeout: Duration = "10m"
    write_timeout: Duration = "30m"
    command_timeout: Duration = "60s"
    output_limit: Size = "16MiB"
    stop_timeout: Duration = "60s"


class Platforms(Model, frozen=True):
    """The platforms this project boots its candidates on, by name."""

    container: ContainerSettings = ContainerSettings()
    vm: VmSettings = VmSettings()
    metal: MetalSettings = MetalSettings()


class Images(Model, frozen=True):
    """Where frozen disk images and memory snapshots are kept, and what is refused: ``max_size`` bounds a disk's declared and
    unpacked size and a layer's, ``max_ratio`` how many times larger than the file either may unpack."""

    store: str = "~/.cache/certify"
    max_size: Size = "64GiB"
    max_ratio: Annotated[int, Meta(ge=2)] = 200


class Trust(Model, frozen=True):
    """Where the channel repository, the keys and the certificates are; ``root`` is the root metadata a deployer starts
    from, ``client`` what it remembers, ``writer`` what one who promotes remembers."""

    repository: str = ".certify/trust"
    keys: str = ".certify/keys"
    certificates: str = ".certify/certificates"
    client: str = ".certify/client"
    writer: str = ".certify/writer"
    root: str | None = None


class Requires(Model, frozen=True):
    """What must have passed before a digest may stand on a channel."""

    suites: list[str] = []
    platforms: list[str] = []
    checks: list[str] = []


class Channel(Model, frozen=True):
    """One channel and its gate. ``max_failed_runs``: how many unexplained failures of one digest are put up with."""

    requires: Requires = Requires()
    after: Name | None = None
    approvals: Annotated[int, Meta(ge=1, le=1)] = 1
    valid_for: Duration = "30d"
    max_age: Duration = "7d"
    allow_warned: bool = False
    max_failed_runs: Annotated[int, Meta(ge=0)] = 0


def default_channels() -> dict[str, Channel]:
    """What stands where no ``channels:`` is written: one channel that wants the baseline suite."""
    return {"staging": Channel(requires=Requires(suites=["baseline"]))}


class Config(Model, frozen=True):
    """``certify.yaml``. ``allow`` names code and ini files from outside the suites that may take part in a run."""

    version: Annotated[int, Meta(ge=1, le=1)] = 1
    product: Name = "default"
    suites: list[str] = msgspec.field(default_factory=lambda: ["baseline"])
    platforms: Platforms = Platforms()
    images: Images = Images()
    memory_budget: Size | None = None
    settings: dict[str, dict[str, Any]] = {}
    allow: list[str] = []
    state: str = "sqlite:///.certify/certify.db"
    evidence: str = ".certify/runs"
    trust: Trust = Trust()
    channels: dict[Name, Channel] = msgspec.field(default_factory=default_channels)


class Health(Model, frozen=True):
    """When an instance serves: HTTP status 200 to 399, ``successes`` times in a row."""

    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    path: Annotated[str, Meta(pattern="^/")] = "/"
    interval: Duration = "200ms"
    timeout: Duration = "2s"
    start_period: Duration = "30s"
    successes: Annotated[int, Meta(ge=1)] = 3
    soak: Duration = "1s"


class Instance(Model, frozen=True):
    """One member of a fleet. ``publish`` maps a port of this host's loopback to the one the image serves."""

    name: Name
    host: str | None = None
    publish: dict[str, int] = {}


class Fleet(Model, frozen=True):
    """``fleet.yaml``."""

    fleet: Name
    instances: Annotated[list[Instance], Meta(min_length=1)]
    version: Annotated[int, Meta(ge=1, le=1)] = 1
    product: Name | None = None
    driver: str = "docker"
    health: Health = Health()
    platform: ContainerSettings = ContainerSettings(network="bridge")
    vm: VmSettings = VmSettings(network="user")
    metal: MetalSettings = MetalSettings()


def seconds(duration: str) -> float:
    """``"30s"`` → 30.0. The models have checked the form already."""
    match = re.fullmatch(r"([0-9]+)(\w+)", duration)
    if match is None or match[2] not in _SECONDS:
        raise ConfigError(f"{duration!r} is no duration", "write a number and ms, s, m, h, d or w, e.g. 30s")
    found = int(match[1]) * _SECONDS[match[2]]
    if found > _LONGEST:
        raise ConfigError(f"{duration!r} is more than a hundred years", "write a time that somebody waits for")
    return found


def size_bytes(size: str) -> int:
    """``"1GiB"`` → 1073741824. The models have checked the form already."""
    match = re.fullmatch(r"([0-9]+)(\w+)", size)
    if match is None or match[2] not in _BYTES:
        raise ConfigError(f"{size!r} is no size", "write a number and B, KiB, MiB or GiB, e.g. 512MiB")
    return int(match[1]) * _BYTES[match[2]]


def load_config(path: Path | None) -> Config:
    """Read ``certify.yaml``; without a path the one in the current directory, if there is one, else the defaults."""
    if path is None:
        path = Path("certify.yaml")
        if not path.exists():
            return Config()
    config = load(path, Config)
    config = msgspec.structs.replace(config, trust=_expanded(config.trust))
    for name, channel in config.channels.items():
        if channel.after is not None and channel.after not in config.channels:
            near = get_close_matches(channel.after, config.channels, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"channels: {', '.join(config.channels)}"
            raise ConfigError(f"{path}: channels.{name}.after: no channel {channel.after!r}", hint)
        for suite in channel.requires.suites:
            if "/" in suite:
                hint = f"write {Path(suite).name!r}, and its path under suites:"
                raise ConfigError(f"{path}: channels.{name}.requires.suites: {suite!r} is a path, not a name", hint)
        for platform in channel.requires.platforms:
            if platform not in PLATFORMS:
                near = get_close_matches(platform, PLATFORMS, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"platforms: {', '.join(PLATFORMS)}"
                raise ConfigError(f"{path}: channels.{name}.requires.platforms: no platform {platform!r}", hint)
    return config


def _expanded(trust: Trust) -> Trust:
    """The places with a leading ``~`` as the user's home."""
    places = {name: getattr(trust, name) for name in trust.__struct_fields__}
    return Trust(**{name: str(Path(place).expanduser()) if place else place for name, place in places.items()})


def load_fleet(path: Path) -> Fleet:
    """Read ``fleet.yaml``. Raises ConfigError, also for two instances that share a name or a published port."""
    fleet = load(path, Fleet)
    names = [instance.name for instance in fleet.instances]
    taken = [f"{i.host or 'local'}:{port}" for i in fleet.instances for port in i.publish]
    for what, values in (("name", names), ("published port", taken)):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ConfigError(f"{path}: two instances share the {what} {twice[0]!r}", "give each its own")
    if any(not port.isdigit() or not 0 < int(port) < 65536 for i in fleet.instances for port in i.publish):
        raise ConfigError(f"{path}: publish: keys are host ports", "write e.g. publish: {8081: 8080}")
    return fleet


def load(path: Path, model: type[T]) -> T:
    """Read one YAML file into ``model``. Raises ConfigError with file and line."""
    tree, data = read_yaml(path)
    try:
        return msgspec.convert(data, model)
    except msgspec.ValidationError as error:
        raise _explain(error, path, tree, data, model) from None
    except UnicodeEncodeError:
        raise ConfigError(f"{path}: a name or value in it is no text (half of a character)", "write it out") from None


def schema(model: type[Any] = Config) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a model."""
    document = msgspec.json.schema(model)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": model.__name__, **document}


def _explain(error: msgspec.ValidationError, path: Path, tree: Any, data: Any, model: type[Any]) -> ConfigError:
    """msgspec's ``what - at `$.a.b[0]` `` → ``file:line: a.b.0: what`` and a hint."""
    text, _, where = str(error).partition(" - at `")
    steps = re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", where.rstrip("`"))
    unknown = re.search(r"unknown field `([^`]*)`", text)
    keys = [key or index for key, index in steps] + ([unknown[1]] if unknown else [])
    keys = _name_entries(data, keys, model)
    line = _line(tree, keys)
    dotted = ".".join(keys) or "the file"
    if unknown is None:
        return ConfigError(f"{path}:{line}: {dotted}: {text[0].lower()}{text[1:]}", "see `certify schema`")
    known = sorted(_field_names(model))
    near = get_close_matches(unknown[1], known, 1)
    hint = f"did you mean {near[0]!r}?" if near else "see `certify schema` for what is known there"
    return ConfigError(f"{path}:{line}: {dotted}: no such setting", hint)


def _name_entries(data: Any, keys: list[str], model: type[Any]) -> list[str]:
    """msgspec says ``...`` for "some entry of this mapping": find which, by leaving the others out one at a time."""
    if "..." not in keys or not isinstance(data, dict):
        return keys
    before, after = keys[: keys.index("...")], keys[keys.index("...") + 1 :]
    parent = data
    for key in before:
        if not isinstance(parent, dict):
            return keys
        parent = parent[key]
    for name, value in parent.items():
        narrowed = {name: value}
        for key in reversed(before):
            narrowed = {key: narrowed}
        try:
            msgspec.convert({**data, **narrowed}, model)
        except msgspec.ValidationError:
            return [*before, str(name), *after]
    return keys


def _line(node: Any, keys: list[str]) -> int:
    """Line of the deepest node that ``keys`` lead to."""
    line = node.start_mark.line + 1 if node is not None else 1
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if key == k.value]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
    return int(line)


def _field_names(model: type[Any]) -> set[str]:
    """Every setting's name below ``model``, for near-miss hints."""
    definitions = msgspec.json.schema(model).get("$defs", {})
    return {name for definition in definitions.values() for name in definition.get("properties", {})}
