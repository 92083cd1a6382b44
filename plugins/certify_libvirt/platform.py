"""The ``vm`` platform on libvirt: implements :class:`certify.nodes.platform.Platform`.

A node is a fork of a memory snapshot where it may be, and booted cold where it must be: the first time, when it is asked
for (``NodeSpec.cold``), with another firmware, or on a hypervisor whose memory is not ours to map.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from certify.config import Images
from certify.errors import BootFailed, CertifyError, EngineUnavailable, UsageError
from certify.images.candidate import Candidate, ImageSource
from certify.images.store import Store
from certify.locks import Held
from certify.models import size_bytes
from certify.nodes.budget import available_cpus
from certify.nodes.owner import this_process
from certify.nodes.platform import CLOCK_JUMP, FROM_CACHE, MachineFacts, NodeSpec, Progress
from certify.nodes.shell import Shell
from certify_libvirt.acceleration import Acceleration, prove
from certify_libvirt.access import credentials
from certify_libvirt.disks import LocalDisks, NodeDisks
from certify_libvirt.domain import FIRMWARE_FILES, NodeFiles, Profile, domain_xml
from certify_libvirt.hypervisor import Hypervisor, connect, remember_probes
from certify_libvirt.machine import LibvirtMachine, MachineSettings
from certify_libvirt.serial import SerialConsole
from certify_libvirt.settings import VmSettings
from certify_libvirt.snapshot import Snapshot, SnapshotCache, in_use, load, save

_CLOCK_ERROR = 0.3  # seconds a fork's clock may be off, where the host is quick enough
_CLOCK_TRIES = 5
_OVERHEAD = 128 * 1024**2  # QEMU itself, beside the guest's memory


class LibvirtPlatform:
    """Boots disk and OCI candidates as virtual machines. One per run; boots may run side by side."""

    name = "vm"
    driver = "libvirt"

    def __init__(self, settings: VmSettings, images: Images) -> None:
        self.settings = settings
        self._store = Store(Path(images.store))
        self._lock = threading.Lock()
        self._busy = threading.Semaphore(max(1, available_cpus() // settings.cpus))
        self._checked: dict[str, Snapshot] = {}
        self._uses: list[Held] = []
        self._declared: list[str] = []

    # -- what it can -----------------------------------------------------------------------------------------------

    def why_not(self, candidate: Candidate) -> str | None:
        return None if candidate.kind in ("disk", "oci") else f"the vm platform boots no {candidate.kind} images"

    def offers(self, candidate: Candidate) -> frozenset[str]:
        del candidate
        return frozenset({"systemd", "reboot", "kernel"} | ({"network"} if self.settings.network == "user" else set()))

    def memory_needed(self, candidate: Candidate) -> int:
        del candidate
        return size_bytes(self.settings.memory) + _OVERHEAD

    @property
    def nodes_at_once(self) -> None:
        return None

    @cached_property
    def _hypervisor(self) -> Hypervisor:
        return connect(self.settings.uri, self._store)

    @cached_property
    def _acceleration(self) -> Acceleration:
        if self._hypervisor.embedded:
            return prove(self._store, self.settings.acceleration, self._hypervisor.qemu_version)
        name = "kvm" if self.settings.acceleration == "kvm" else "tcg"
        return Acceleration(name, f"configured for {self.settings.uri}", 1.0 if name == "kvm" else 5.0)

    @cached_property
    def _snapshots(self) -> SnapshotCache:
        return SnapshotCache(self._store, size_bytes(self.settings.snapshot_cache))

    @property
    def _forks(self) -> bool:
        return self.settings.forks and self._hypervisor.embedded

    # -- booting ---------------------------------------------------------------------------------------------------

    def prepare(self, source: ImageSource, run_id: str, progress: Progress) -> None:
        del run_id
        progress("preparing its disk")
        with self._lock:
            if "_acceleration" not in self.__dict__:
                progress("proving acceleration")
                _ = self._acceleration
            self._disks.base(source, progress)

    @cached_property
    def _disks(self) -> NodeDisks:
        if self._hypervisor.embedded:
            return LocalDisks(self._store, self.settings)
        from certify_libvirt.pool_disks import PoolDisks

        return PoolDisks(self._hypervisor, self._store, self.settings)

    def boot(self, source: ImageSource, spec: NodeSpec, progress: Progress) -> LibvirtMachine:
        self.prepare(source, spec.run_id, progress)
        try:
            return self._boot(source, spec, progress)
        except EngineUnavailable as error:  # the infrastructure's fault, so once more is fair
            progress(f"booting again: {error.message[:80]}")
            machine = self._boot(source, spec, progress)
            machine.facts.details["retried"] = error.message
            return machine

    def _boot(self, source: ImageSource, spec: NodeSpec, progress: Progress) -> LibvirtMachine:
        profile = self._profile(source, spec.firmware or self.settings.firmware[0])
        other = spec.user_data or spec.firmware not in ("", self.settings.firmware[0])
        if not self._forks or spec.cold or self.settings.data_disk or other:
            return self._cold(source, spec, profile, progress)
        snapshot, made_now = self._snapshot(source, spec, profile, progress)
        progress("forking")
        return self._fork(spec, profile, (snapshot, made_now))

    def _cold(
        self, source: ImageSource, spec: NodeSpec, profile: Profile, progress: Progress, ram: Path | None = None
    ) -> LibvirtMachine:
        with self._busy:
            progress(f"booting ({profile.acceleration}, {profile.firmware})")
            started = time.monotonic()
            folder = self._folder()
            files = self._disks.make(source, folder, profile, spec)
            if ram is not None:
                files = replace(files, ram=str(ram), ram_shared=True)
            console = SerialConsole(self.settings.console_ignore, spec.watch)
            machine = self._machine(spec, (profile, files), folder, console, boot="cold")
            try:
                machine.define(self._metadata(spec))
                machine.go()
                machine.wait_ready()
            except BaseException as error:
                if isinstance(error, CertifyError):
                    error.console = console.contents
                machine.remove()
                raise
            machine.facts.details.update(ready_seconds=round(time.monotonic() - started, 3), access=machine.access)
            if self._hypervisor.embedded:
                remember_probes(self._hypervisor, self._store)
            return machine

    def _fork(self, spec: NodeSpec, profile: Profile, origin: tuple[Snapshot, bool]) -> LibvirtMachine:
        snapshot, made_now = origin
        started = time.monotonic()
        folder = self._folder()
        files = replace(self._disks.fork(folder, snapshot), ram=str(snapshot.ram), incoming=True)
        console = SerialConsole(self.settings.console_ignore, spec.watch, snapshot.console)
        machine = self._machine(spec, (profile, files), folder, console, boot="restored")
        try:
            machine.define(self._metadata(spec))
            load(machine.domain, snapshot.device, f"{files.sockets}/migration")
            machine.go()
            _settle(machine, spec)
        except BaseException:
            machine.remove()
            raise
        machine.facts.details.update(
            ready_seconds=round(time.monotonic() - started, 3),
            cold_boot_seconds=snapshot.ready_seconds,
            snapshot="made in this run" if made_now else FROM_CACHE,
        )
        return machine

    # -- snapshots -------------------------------------------------------------------------------------------------

    def _snapshot(
        self, source: ImageSource, spec: NodeSpec, profile: Profile, progress: Progress
    ) -> tuple[Snapshot, bool]:
        """The snapshot to fork from, and whether this run has booted it."""
        key = SnapshotCache.key(
            digest=source.candidate.digest,
            domain=domain_xml("", profile, NodeFiles("", seed="-"), ""),
            disk=self.settings.disk,
            boot_files=[_identity(path) for path in (profile.kernel, profile.initrd) if path],
            user_data=self._disks.user_data().hex(),
            ways=profile.access,
            qemu=self._hypervisor.qemu_version,
            access=credentials(),
        )
        with self._lock:
            known = self._checked.get(key)
        if known is not None:
            return known, known.folder.name in self._made
        progress("waiting for the first boot of this image")
        with self._snapshots.held(key):
            with self._lock:
                known = self._checked.get(key)
            if known is None:
                progress("checking the memory snapshot")
                known = self._snapshots.find(key)
                use = in_use(known) if known else None
                if known is None or use is None:  # none, or one that another process is just letting go of
                    known = self._make_snapshot(key, source, spec, profile, progress)
                    use = in_use(known)
                with self._lock:
                    self._checked[key] = known
                    self._uses += [use] if use else []
        return known, known.folder.name in self._made

    @cached_property
    def _made(self) -> set[str]:
        return set()

    def _make_snapshot(
        self, key: str, source: ImageSource, spec: NodeSpec, profile: Profile, progress: Progress
    ) -> Snapshot:
        """Boot cold with the memory in a file, save at ready, and let the machine go: its forks live on."""
        partial = self._snapshots.begin(key)
        template = replace(spec, node_id=f"{spec.node_id}-template")
        machine = self._cold(source, template, profile, progress, ram=partial / "ram")
        try:
            progress("saving a memory snapshot")
            save(machine.domain, partial / "device", f"{machine.files.sockets}/migration")
            console = machine.console()
        finally:
            machine.keep_disk(partial)
            machine.remove()
        self._made.add(key)
        return self._snapshots.finish(key, machine.facts.details["ready_seconds"], console)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _profile(self, source: ImageSource, firmware: str) -> Profile:
        settings = self.settings
        boot = self._disks.kernel(source)
        found = ["bios"] if boot[0] else self._disks.firmware(source)
        self._declared = [name for f in settings.firmware for name in (found if f == "auto" else [f])]
        chosen = firmware if firmware != "auto" else found[0]
        if chosen in FIRMWARE_FILES and self._hypervisor.embedded and not Path(FIRMWARE_FILES[chosen][0]).exists():
            raise EngineUnavailable(f"{FIRMWARE_FILES[chosen][0]} is missing", "apt-get install ovmf")
        return Profile(
            acceleration=self._acceleration.name,
            firmware=chosen,
            memory=size_bytes(settings.memory),
            cpus=settings.cpus,
            nics=settings.nics,
            network=settings.network,
            kernel=boot[0],
            initrd=boot[1],
            cmdline=settings.cmdline if boot[0] else "",
            access=tuple(settings.access),
        )

    def _folder(self) -> Path:
        root = self._hypervisor.root or self._store.folder("nodes")
        folder = root / f"n{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        return folder

    def _machine(
        self, spec: NodeSpec, domain: tuple[Profile, NodeFiles], folder: Path, console: SerialConsole, *, boot: str
    ) -> LibvirtMachine:
        profile, files = domain
        details = {
            "uri": self.settings.uri,
            "acceleration": profile.acceleration,
            "acceleration_reason": self._acceleration.why,
            "qemu": self._hypervisor.qemu_version,
            "libvirt": self._hypervisor.libvirt_version,
            "firmware": profile.firmware,
            "firmware_declared": self._declared,
            "patience": self._acceleration.patience,
            "machine": f"q35, {profile.cpus} cpus, {self.settings.memory}, {profile.nics} nics ({profile.network})",
        }
        name = f"certify-{re.sub(r'[^a-zA-Z0-9-]', '-', spec.node_id)[:40]}-{folder.name}"
        settings = MachineSettings(self.settings, self._acceleration.patience, self._password())
        facts = MachineFacts(self.name, self.driver, boot, details)
        cleanup = self._cleanup(folder, files)
        return LibvirtMachine(
            self._hypervisor, (name, profile, files), facts, settings, console=console, cleanup=cleanup
        )

    def _cleanup(self, folder: Path, files: NodeFiles) -> Callable[[], None]:
        def cleanup() -> None:
            self._disks.remove(files)
            shutil.rmtree(folder, ignore_errors=True)

        return cleanup

    def _password(self) -> str:
        login = self.settings.login
        if login is None:
            return ""
        if login.password_env not in os.environ:
            raise UsageError(
                f"vm.login: the environment variable {login.password_env} is not set", "set it, or remove vm.login"
            )
        return os.environ[login.password_env]

    @staticmethod
    def _metadata(spec: NodeSpec) -> dict[str, str]:
        return {"run": spec.run_id, "owner": this_process()}

    def close(self, run_id: str) -> None:
        del run_id  # nodes take their own files away; the hypervisor's directory goes with the process
        for use in self._uses:
            use.release()
        self._uses.clear()


def _settle(machine: LibvirtMachine, spec: NodeSpec) -> None:
    """After a restore: set the clock, stir the entropy pool (vmgenid has reseeded it already), and answer the first command.

    Raises BootFailed.
    """
    name = spec.node_id[-40:].strip("-.").lower()
    identity = f"; echo {name} >/proc/sys/kernel/hostname; {_new_mac()}" if spec.own_identity else ""
    stir = f"printf %s {secrets.token_hex(64)} >/dev/urandom"
    shell = Shell(machine.open_channel, timeout=30)
    try:
        stood = _set_clock(shell, f"; {stir}{identity}")
    finally:
        shell.close()
    machine.facts.details[CLOCK_JUMP] = stood


def _set_clock(shell: Shell, then: str) -> int:
    """Set the guest's clock, and again while the order took so long that its time was old on arrival; run ``then`` once.

    Returns how many seconds the clock was behind. Raises BootFailed.
    """
    behind: int | None = None
    for _ in range(_CLOCK_TRIES):
        now = time.time()
        result = shell.run(f"date -u +%s; date -u -s @{now:.3f} >/dev/null{then}; :")
        stood = result.lines[0] if result.lines else ""
        if not stood.isdigit():
            raise BootFailed(
                f"its clock cannot be set: {result.stderr[:200].decode('utf-8', 'replace')}",
                "platforms.vm.forks: false",
            )
        behind = int(now) - int(stood) if behind is None else behind
        if time.time() - now < _CLOCK_ERROR:
            break
        then = ""
    return behind or 0


def _new_mac() -> str:
    mac = "52:54:00:" + ":".join(uuid.uuid4().hex[i : i + 2] for i in (0, 2, 4))
    return f"n=$(ls /sys/class/net | grep -v lo | head -n 1); [ -z $n ] || ip link set dev $n address {mac} 2>/dev/null"


def _identity(path: str) -> list[int]:
    """What changes when a file does, without reading it."""
    seen = Path(path).stat()
    return [seen.st_ino, seen.st_size, seen.st_mtime_ns]
