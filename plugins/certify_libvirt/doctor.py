"""What ``certify doctor`` says about virtual machines."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from certify.config import Config
from certify.hooks import Finding
from certify.models import size_bytes
from certify.nodes.budget import available_bytes, available_cpus
from certify_libvirt.settings import VmSettings

_PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "bwrap": "bubblewrap"}
_FOR_OCI = {"fakeroot": "fakeroot", "mke2fs": "e2fsprogs"}
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def examine(config: Config) -> Iterator[Finding]:
    """Programs, acceleration, firmware files, memory. Problems are problems only where vm is asked for in certify.yaml."""
    asked = any("vm" in channel.requires.platforms for channel in config.channels.values())
    severity = "problem" if asked else "warning"
    if importlib.util.find_spec("libvirt") is None:
        yield Finding(
            "libvirt",
            severity,
            "libvirt-python is not installed",
            "pip install 'pytest-certify[vm]' (apt-get install libvirt-dev)",
        )
        return
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        yield Finding(
            "qemu", severity, "not installed", f"apt-get install {' '.join(missing)} libvirt-daemon-driver-qemu"
        )
        return
    yield from _hypervisor(config, severity)
    yield from _firmware(config, severity)
    for program, package in _FOR_OCI.items():
        if shutil.which(program, path=_SYSTEM_PATH) is None:
            yield Finding(
                program,
                "warning",
                "missing: container images cannot be booted as machines",
                f"apt-get install {package}",
            )
    memory = config.of_platform("vm", VmSettings).memory
    wanted = size_bytes(memory)
    fits = available_bytes() // wanted
    yield Finding(
        "vm memory",
        "ok" if fits else severity,
        f"{fits} machines of {memory} fit, {available_cpus()} processors",
        "" if fits else "lower platforms.vm.memory in certify.yaml",
    )


def versions() -> Iterator[tuple[str, str]]:
    """libvirt's library and QEMU's program, as far as they are here; no connection is opened."""
    if importlib.util.find_spec("libvirt") is not None:
        import libvirt

        number = libvirt.getVersion()
        yield "libvirt", f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
    program = shutil.which("qemu-system-x86_64")
    if program is not None:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        yield "QEMU", said.partition("version ")[2].partition("\n")[0] or "unknown"


def _hypervisor(config: Config, severity: str) -> Iterator[Finding]:
    from certify.errors import CertifyError
    from certify.images.store import Store
    from certify_libvirt.acceleration import prove
    from certify_libvirt.hypervisor import connect

    settings, store = config.of_platform("vm", VmSettings), Store(Path(config.images.store))
    try:
        hypervisor = connect(settings.uri, store)
        versions = f"libvirt {hypervisor.libvirt_version}, QEMU {hypervisor.qemu_version}"
        yield Finding("libvirt", "ok", f"{versions} ({settings.uri})")
        if not hypervisor.embedded:
            return
        found = prove(store, settings.acceleration, hypervisor.qemu_version)
    except CertifyError as error:
        yield Finding("libvirt", severity, error.message, error.hint)
        return
    if found.name == "kvm":
        yield Finding("acceleration", "ok", "kvm: a guest ran with it")
    else:
        yield Finding(
            "acceleration",
            "warning",
            f"tcg (software), because {found.why}; deadlines are stretched {found.patience:g} times",
            ""
            if Path("/dev/kvm").exists() and os.access("/dev/kvm", os.W_OK)
            else "use a host with hardware virtualisation",
        )


def _firmware(config: Config, severity: str) -> Iterator[Finding]:
    from certify_libvirt.domain import FIRMWARE_FILES

    wanted = {name for name in config.of_platform("vm", VmSettings).firmware if name in FIRMWARE_FILES}
    missing = sorted(name for name, files in FIRMWARE_FILES.items() if not all(Path(file).exists() for file in files))
    if not missing:
        yield Finding("firmware", "ok", "BIOS, UEFI and UEFI with secure boot")
    else:
        status = severity if wanted & set(missing) else "warning"
        yield Finding("firmware", status, f"no files for {', '.join(missing)}", "apt-get install ovmf")
