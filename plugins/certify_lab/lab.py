"""The lab: its own libvirt daemon for an unprivileged user, domains with two disks each, and Redfish or IPMI for them.

Nothing of the host's libvirt is used or changed: the daemon, its configuration, its sockets and the disks are below the lab's
directory, and go with it. Guests run as a user that owns nothing else.
"""

from __future__ import annotations

import ipaddress
import json
import os
import pwd
import secrets
import shutil
import socket
import stat
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import bcrypt
import libvirt
import msgspec
import requests
import yaml

from certify.errors import EngineUnavailable, UsageError
from certify.files import write_whole
from certify.locks import locked
from certify.nodes.lab import LabNode
from certify.nodes.platform import Progress
from certify.waiting import until
from certify_lab.domain import DATA_GIB, ROOT_GIB, node_xml
from certify_lab.processes import Daemon
from certify_metal.bmc.ipmi import IpmiBmc
from certify_metal.host.inventory import MetalNode
from certify_metal.host.keys import self_signed
from certify_metal.host.netboot import write_programs

_USER = "admin"
_HOST = "10.0.2.2"  # this host, as QEMU's user network shows it to a node
_LONGEST = 48  # characters of the lab's directory: sockets below it must fit into a socket's address
_READY_SECONDS = 60.0
_MARK = "# Written by `certify lab up`; it is written again by the next."


class VirtualLab:
    """Implements :class:`certify.nodes.lab.Lab`."""

    def __init__(self, folder: Path | None = None) -> None:
        default = os.environ.get("CERTIFY_LAB_FOLDER") or f"/var/tmp/certify-lab-{os.getuid()}"
        self.folder = (folder or Path(default)).absolute()
        if len(str(self.folder)) > _LONGEST:
            raise UsageError(f"--folder {self.folder}: too long for sockets", f"at most {_LONGEST} characters")
        libvirt.registerErrorHandler(lambda *_: None, None)  # its library would print what it raises, too
        self._daemon = Daemon("libvirtd", self.folder / "libvirtd.pid")
        self._redfish = Daemon("sushy-emulator", self.folder / "sushy.pid")
        self._ipmi = Daemon("virtualbmc", self.folder / "virtualbmc.pid")

    # -- up --------------------------------------------------------------------------------------------------------

    def up(self, nodes: int, inventory: Path, progress: Progress, *, bmc: str = "redfish") -> list[LabNode]:
        _check_inventory(inventory)
        self._prepare()
        with self._lock():
            if not self._daemon.runs():
                progress("starting libvirtd")
                self._start_libvirt()
            with self._connection() as connection:
                self._make_pool(connection)
                names = [f"metal-{number}" for number in range(1, nodes + 1)]
                for name in names:
                    self._make_node(connection, name, progress)
                made = sorted(domain.name() for domain in connection.listAllDomains(0))
            identities = [self._uuid(name) for name in made]
            if self._settings_changed(identities) or not self._redfish.runs():
                progress("starting the Redfish service")
                self._redfish.stop()
                self._start_redfish(identities)
            if bmc == "ipmi" and not self._ipmi.runs():
                progress("starting the IPMI service")
                self._start_ipmi(made)
            write_whole(inventory, self._inventory(made, bmc).encode())
        return self.status()

    def _prepare(self) -> None:
        """Directories: ours, and what the unprivileged user needs in them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        own = self.folder.stat()
        if own.st_uid not in (os.getuid(), self._user.pw_uid):
            raise UsageError(f"{self.folder} is somebody else's", "name another with --folder")
        self.folder.chmod(0o711)
        for name in ("home", "run", "pool", "nodes", "netboot"):
            path = self.folder / name
            path.mkdir(exist_ok=True, mode=0o700)
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    @property
    def _user(self) -> pwd.struct_passwd:
        """Who runs the guests: ourselves, or, where we are root, the user that Debian's libvirt made for that."""
        if os.getuid() != 0:
            return pwd.getpwuid(os.getuid())
        with suppress(KeyError):
            return pwd.getpwnam("libvirt-qemu")
        raise EngineUnavailable("there is no user libvirt-qemu", "apt-get install libvirt-daemon-system")

    def _lock(self) -> AbstractContextManager[None]:
        return locked(self.folder / "lock")

    # -- libvirt ---------------------------------------------------------------------------------------------------

    @property
    def _uri(self) -> str:
        return f"qemu+unix:///session?socket={self.folder}/run/libvirt/libvirt-sock"

    def _start_libvirt(self) -> None:
        settings = self.folder / "home/config/libvirt"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "qemu.conf").write_text('stdio_handler = "file"\n')
        (settings / "libvirtd.conf").write_text('log_outputs = "3:stderr"\n')
        for path in (settings.parent, *settings.rglob("*"), settings):
            os.chown(path, self._user.pw_uid, self._user.pw_gid)
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.folder / "home"),
            "XDG_CONFIG_HOME": str(self.folder / "home/config"),
            "XDG_CACHE_HOME": str(self.folder / "home/cache"),
            "XDG_DATA_HOME": str(self.folder / "home/data"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
        }
        program = shutil.which("libvirtd", path="/usr/sbin:/usr/bin")
        if program is None:
            raise EngineUnavailable("libvirtd is missing", "apt-get install libvirt-daemon-system")
        self._daemon.start([program], environment, self.folder / "home", user=self._user)
        self._wait(self._daemon, lambda: libvirt.open(self._uri).close(), (libvirt.libvirtError,))

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        try:
            connection = libvirt.open(self._uri)
        except libvirt.libvirtError as error:
            raise EngineUnavailable(
                f"the lab's libvirt does not answer: {error}", "certify lab down, then up"
            ) from None
        try:
            yield connection
        except libvirt.libvirtError as error:
            raise EngineUnavailable(f"the lab's libvirt: {error}", f"see {self.folder}/libvirtd.log") from None
        finally:
            connection.close()

    def _make_pool(self, connection: Any) -> None:
        """The emulator keeps inserted media in the pool ``default``."""
        if "default" not in {pool.name() for pool in connection.listAllStoragePools(0)}:
            path = self.folder / "pool"
            connection.storagePoolCreateXML(
                f"<pool type='dir'><name>default</name><target><path>{path}</path></target></pool>", 0
            )

    def _make_node(self, connection: Any, name: str, progress: Progress) -> None:
        if name in {domain.name() for domain in connection.listAllDomains(0)}:
            return
        progress(f"making node {name}")
        folder = self.folder / "nodes" / name
        folder.mkdir(exist_ok=True, mode=0o700)
        for disk, size in (("root", ROOT_GIB), ("data", DATA_GIB)):
            with (folder / disk).open("ab") as file:
                file.truncate(size * 1024**3)
        (folder / "console.log").touch()
        shutil.copyfile("/usr/share/OVMF/OVMF_VARS_4M.fd", folder / "nvram")
        for path in (folder, *folder.iterdir()):
            os.chown(path, self._user.pw_uid, self._user.pw_gid)
        connection.defineXML(node_xml(name, self._uuid(name), folder, self.folder / "netboot", kvm=self._may_use_kvm()))

    def _may_use_kvm(self) -> bool:
        """Whether guests of this user can be accelerated: the device is there for them, and a probe ran on it."""
        from certify.images.store import Store
        from certify_libvirt.acceleration import prove
        from certify_libvirt.hypervisor import connect

        with suppress(OSError):
            mode = Path("/dev/kvm").stat()
            ours = (mode.st_uid == self._user.pw_uid and mode.st_mode & stat.S_IRUSR) or mode.st_mode & stat.S_IROTH
            if ours or (mode.st_gid == self._user.pw_gid and mode.st_mode & stat.S_IRGRP):
                store = Store(Path("~/.cache/certify"))
                return prove(store, "auto", connect("embed", store).qemu_version).name == "kvm"
        return False

    def _uuid(self, name: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.folder}/{name}"))

    # -- Redfish ---------------------------------------------------------------------------------------------------

    def _settings_changed(self, identities: list[str]) -> bool:
        """Write the emulator's settings where they are missing or for other nodes."""
        path = self.folder / "sushy.conf"
        first = "# " + " ".join(identities)
        if path.exists() and path.read_text().startswith(first + "\n"):
            return False
        (self.folder / "state").mkdir(exist_ok=True, mode=0o700)
        certificate, key = self_signed([ipaddress.ip_address("127.0.0.1")])
        write_whole(self.folder / "ca.pem", certificate)
        self._private("key.pem", key)
        password = secrets.token_urlsafe(18)
        self._private("password", password.encode())
        digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(6)).decode()
        self._private("users", f"{_USER}:{digest}\n".encode())
        port = self._port() or _free_port()
        settings = {
            "SUSHY_EMULATOR_LISTEN_IP": "127.0.0.1",
            "SUSHY_EMULATOR_LISTEN_PORT": port,
            "SUSHY_EMULATOR_SSL_CERT": str(self.folder / "ca.pem"),
            "SUSHY_EMULATOR_SSL_KEY": str(self.folder / "key.pem"),
            "SUSHY_EMULATOR_AUTH_FILE": str(self.folder / "users"),
            "SUSHY_EMULATOR_LIBVIRT_URI": self._uri,
            "SUSHY_EMULATOR_STATE_DIR": str(self.folder / "state"),
            "SUSHY_EMULATOR_ALLOWED_INSTANCES": identities,
        }
        lines = [first, *(f"{name} = {value!r}" for name, value in settings.items())]
        write_whole(path, ("\n".join(lines) + "\n").encode())
        return True

    def _private(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)

    def _port(self) -> int:
        with suppress(OSError):
            for line in (self.folder / "sushy.conf").read_text().splitlines():
                if line.startswith("SUSHY_EMULATOR_LISTEN_PORT = "):
                    return int(line.rpartition(" ")[2])
        return 0

    def _start_redfish(self, identities: list[str]) -> None:
        program = Path(sys.executable).parent / "sushy-emulator"
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.folder)}
        self._redfish.start([str(program), "--config", str(self.folder / "sushy.conf")], environment, self.folder)
        self._wait(
            self._redfish, lambda: self._ask(f"/redfish/v1/Systems/{identities[0]}"), (OSError, EngineUnavailable)
        )

    # -- IPMI ------------------------------------------------------------------------------------------------------

    def _start_ipmi(self, names: list[str]) -> None:
        """Nodes with IPMI have no virtual media: they find their installer by DHCP and TFTP."""
        write_programs(self.folder / "netboot", _HOST)
        settings = {
            "uri": self._uri,
            "user": _USER,
            "password": str(self.folder / "password"),
            "nodes": [self._ipmi_node(name) for name in names],
        }
        self._private("ipmi.json", json.dumps(settings).encode())
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.folder)}
        command = [sys.executable, "-m", "certify_lab.ipmi", str(self.folder / "ipmi.json")]
        self._ipmi.start(command, environment, self.folder)
        probe = IpmiBmc(names[0], msgspec.convert(self._entry(names[0], "ipmi"), MetalNode))
        self._wait(self._ipmi, probe.connect, (EngineUnavailable,))

    def _ipmi_node(self, name: str) -> dict[str, Any]:
        console = self.folder / "nodes" / name / "console.sock"
        return {"name": name, "uuid": self._uuid(name), "port": _free_port(socket.SOCK_DGRAM), "console": str(console)}

    def _ipmi_port(self, name: str) -> int:
        nodes = json.loads((self.folder / "ipmi.json").read_text())["nodes"]
        return next(int(node["port"]) for node in nodes if node["name"] == name)

    def _ask(self, path: str) -> dict[str, Any]:
        answer = requests.get(
            f"https://127.0.0.1:{self._port()}{path}", verify=str(self.folder / "ca.pem"), timeout=10,
            auth=(_USER, (self.folder / "password").read_text()),
        )  # fmt: skip
        if answer.status_code != 200:
            raise EngineUnavailable(
                f"the lab's Redfish service answers {answer.status_code}", f"see {self.folder}/sushy-emulator.log"
            )
        return dict(answer.json())

    def _wait(self, daemon: Daemon, ask: Callable[[], Any], not_yet: tuple[type[Exception], ...]) -> None:
        said = ""

        def ready() -> bool:
            nonlocal said
            try:
                ask()
            except not_yet as error:
                said = str(error)
                if daemon.runs():
                    return False
                raise EngineUnavailable(f"{daemon.name} has ended: {said}", f"see {daemon.log}") from None
            return True

        if not until(ready, _READY_SECONDS, 0.1):
            raise EngineUnavailable(f"{daemon.name} does not get ready: {said}", f"see {daemon.log}")

    # -- inventory -------------------------------------------------------------------------------------------------

    def _inventory(self, names: list[str], bmc: str) -> str:
        nodes = {name: self._entry(name, bmc) for name in names}
        return f"{_MARK}\n{yaml.safe_dump({'version': 1, 'nodes': nodes}, sort_keys=False)}"

    def _entry(self, name: str, bmc: str) -> dict[str, Any]:
        identity = self._uuid(name)
        who = {"username": _USER, "password": {"file": str(self.folder / "password")}}
        redfish = {
            "address": f"https://127.0.0.1:{self._port()}",
            "system": f"/redfish/v1/Systems/{identity}",
            **who,
            "ca": str(self.folder / "ca.pem"),
        }
        return {
            "bmc": redfish if bmc == "redfish" else {"address": f"ipmi://127.0.0.1:{self._ipmi_port(name)}", **who},
            "uuid": identity,
            "root_disk": {"serial": "root"},
            "keep": [{"serial": "data"}],
            "address": _HOST,
            "console": f"file:{self.folder}/nodes/{name}/console.log" if bmc == "redfish" else "sol",
            "labels": {"lab": "virtual"},
        }

    # -- down, status ----------------------------------------------------------------------------------------------

    def down(self, progress: Progress) -> bool:
        if not self.folder.exists():
            return False
        with self._lock():
            if self._daemon.runs():
                with suppress(EngineUnavailable), self._connection() as connection:
                    for domain in connection.listAllDomains(0):
                        progress(f"removing node {domain.name()}")
                        if domain.isActive():
                            domain.destroy()
            for daemon in (self._ipmi, self._redfish, self._daemon):
                progress(f"stopping {daemon.name}")
                daemon.stop()
            shutil.rmtree(self.folder)
        return True

    def status(self) -> list[LabNode]:
        if not self._redfish.runs():
            return []
        found = []
        members = self._ask("/redfish/v1/Systems")["Members"]
        for path in sorted(member["@odata.id"] for member in members):
            system = self._ask(path)
            bmc = f"https://127.0.0.1:{self._port()}{path}"
            found.append(LabNode(str(system["Name"]), str(system["UUID"]), bmc, str(system["PowerState"])))
        return sorted(found, key=lambda node: node.name)


def _check_inventory(path: Path) -> None:
    """A person's inventory is not written over. Raises UsageError."""
    with suppress(FileNotFoundError):
        if not path.read_text(encoding="utf-8", errors="replace").startswith(_MARK):
            raise UsageError(f"{path} exists and is not the lab's", "move it, or name another with --inventory")


def _free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
