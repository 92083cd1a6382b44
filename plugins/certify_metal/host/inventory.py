"""``nodes.yaml`` (or a YAML Ansible inventory) → the metal test nodes a run may lease.

Passwords are named, never written: by environment variable, file or keyring. A node says who it must be (``uuid``,
``serial``) and which disk may be written (``root_disk``, which must match exactly one); ``keep`` are never opened for
writing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta

from certify.errors import ConfigError, UsageError
from certify.models import Model, load
from certify.processes import is_installed

_VARIABLE = "certify"
_FIELDS = ("serial", "wwn", "model", "size", "rotational", "name")


class Secret(Model, frozen=True):
    """Where a password is: exactly one of an environment variable, a file (its first line), ``service/user`` in a keyring."""

    env: str | None = None
    file: str | None = None
    keyring: str | None = None

    def read(self) -> str:
        """The password. Raises UsageError with the name of what is missing, never its content."""
        try:
            if self.env is not None:
                return os.environ[self.env]
            if self.file is not None:
                return Path(self.file).expanduser().read_text(encoding="utf-8").splitlines()[0]
        except KeyError:
            raise UsageError(
                f"the environment variable {self.env} is not set", "set it to the BMC's password"
            ) from None
        except (OSError, IndexError, UnicodeDecodeError):
            raise UsageError(
                f"{self.file}: no password in its first line", "write it there, readable for you"
            ) from None
        return self._from_keyring()

    def _from_keyring(self) -> str:
        if not is_installed("keyring"):
            raise UsageError("passwords in a keyring need the package keyring", "pip install keyring")
        import keyring

        service, _, user = str(self.keyring).rpartition("/")
        found = keyring.get_password(service, user)
        if found is None:
            raise UsageError(f"the keyring has no password for {self.keyring}", f"keyring set {service} {user}")
        return str(found)


class BmcLogin(Model, frozen=True):
    """A baseboard management controller: ``https://`` for Redfish, ``ipmi://`` for IPMI 2.0. ``ca`` is a PEM file to trust beside
    the system's; ``system`` the path of the ComputerSystem, where the service has several."""

    address: Annotated[str, Meta(pattern="^(https?|ipmi)://[^/@]+(/.*)?$")]
    username: str
    password: Secret
    system: str | None = None
    ca: str | None = None


class DiskSelector(Model, frozen=True):
    """Which disk: every field given must hold. ``size`` is exact ("64GiB") or a bound (">=64GiB", "<=2048GiB")."""

    serial: str | None = None
    wwn: str | None = None
    model: str | None = None
    size: Annotated[str, Meta(pattern="^(>=|<=)?[0-9]+(KiB|MiB|GiB|B)$")] | None = None
    rotational: bool | None = None
    name: str | None = None

    def asked(self) -> dict[str, Any]:
        """The fields that are given."""
        return {name: getattr(self, name) for name in _FIELDS if getattr(self, name) is not None}


class MetalNode(Model, frozen=True):
    """One test node. ``address`` is this host's as the node sees it, ``media_address`` as its BMC sees it; by default the
    one that the route to the BMC has. ``console`` is ``file:PATH``, or ``sol`` for serial-over-LAN by IPMI."""

    bmc: BmcLogin
    root_disk: DiskSelector
    uuid: str | None = None
    serial: str | None = None
    keep: tuple[DiskSelector, ...] = ()
    address: str | None = None
    media_address: str | None = None
    console: Annotated[str, Meta(pattern="^(file:.+|sol)$")] | None = None
    firmware: Annotated[str, Meta(pattern="^(uefi|bios)$")] | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def identity(self) -> str:
        """What two inventories would share of this node."""
        return self.uuid or f"{self.bmc.address} {self.serial}"


class Inventory(Model, frozen=True):
    """``nodes.yaml``."""

    nodes: Annotated[dict[str, MetalNode], Meta(min_length=1)]
    version: Annotated[int, Meta(ge=1, le=1)] = 1


def load_inventory(path: Path) -> Inventory:
    """Read ``nodes.yaml``, or an Ansible inventory whose hosts carry a variable ``certify``. Raises ConfigError."""
    inventory = _from_ansible(path) or load(path, Inventory)
    for name, node in inventory.nodes.items():
        _check(path, name, node)
    return inventory


def _check(path: Path, name: str, node: MetalNode) -> None:
    where = f"{path}: nodes.{name}"
    secret = node.bmc.password
    if sum(value is not None for value in (secret.env, secret.file, secret.keyring)) != 1:
        raise ConfigError(
            f"{where}.bmc.password: name exactly one place", "env: NAME, file: PATH or keyring: SERVICE/USER"
        )
    if node.uuid is None and node.serial is None:
        raise ConfigError(
            f"{where}: nothing says which machine this must be",
            "give its uuid or serial; `certify doctor --metal` prints it",
        )
    if node.console == "sol" and not node.bmc.address.startswith("ipmi:"):
        raise ConfigError(f"{where}.console: serial-over-LAN is IPMI's", "console: file:PATH, or an ipmi:// address")
    for what, selector in (("root_disk", node.root_disk), *((f"keep.{i}", disk) for i, disk in enumerate(node.keep))):
        if not selector.asked():
            raise ConfigError(f"{where}.{what}: matches every disk", f"give one or more of {', '.join(_FIELDS)}")


def _from_ansible(path: Path) -> Inventory | None:
    """None when the file is no Ansible inventory: those have ``all`` or groups with ``hosts`` at the top."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None  # reading it as nodes.yaml tells what is wrong with it
    groups = tree if isinstance(tree, dict) and "nodes" not in tree else {}
    found: dict[str, Any] = {}
    for group in groups.values():
        _gather(group, found)
    if not found:
        return None
    try:
        return Inventory(msgspec.convert(found, dict[str, MetalNode]))
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{path}: a host's variable {_VARIABLE!r}: {error}", "see the guide “certify on metal”"
        ) from None


def _gather(group: Any, found: dict[str, Any], depth: int = 0) -> None:
    """Hosts of an Ansible group and its children that have our variable."""
    if not isinstance(group, dict) or depth > 16:
        return
    for name, variables in (group.get("hosts") or {}).items():
        if isinstance(variables, dict) and _VARIABLE in variables:
            found[str(name)] = variables[_VARIABLE]
    for child in (group.get("children") or {}).values():
        _gather(child, found, depth + 1)
