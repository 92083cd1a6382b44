"""A libvirt daemon with a storage pool, reached directly and over ssh."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import free_port, wait_for

SYSTEM = "qemu:///system"


def virsh(*arguments: str) -> str:
    return subprocess.run(["virsh", "-c", SYSTEM, *arguments], capture_output=True, text=True, check=True).stdout


def _answers() -> bool:
    return subprocess.run(["virsh", "-c", SYSTEM, "list"], capture_output=True).returncode == 0


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """libvirtd, started if none answers, and a pool of its own; yields the pool's name."""
    started = []
    if not _answers():
        for program in ("virtlogd", "libvirtd"):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            started.append(subprocess.Popen([f"/usr/sbin/{program}"], **quiet))
    wait_for(_answers, "libvirtd", 30)
    folder = Path("/var/lib/libvirt") / f"certify-test-{os.getpid()}"  # where the daemon's user may read
    folder.mkdir()
    pool = folder.name
    virsh("pool-create-as", pool, "dir", "--target", str(folder))
    yield pool
    virsh("pool-destroy", pool)
    shutil.rmtree(folder)
    for process in reversed(started):
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def over_ssh(daemon: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same daemon as a remote one: an ssh server of our own on loopback; yields a libvirt URI."""
    del daemon
    folder, port = tmp_path_factory.mktemp("ssh"), free_port()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    config = folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"StrictModes no\nPermitRootLogin prohibit-password\nUsePAM no\nPidFile {folder}/pid\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    yield f"qemu+ssh://{user}@127.0.0.1:{port}/system?keyfile={folder}/user&no_verify=1&no_tty=1"
    server.terminate()
    server.wait()
