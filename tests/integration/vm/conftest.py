"""A libvirt daemon with a storage pool, reached directly and over ssh."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class UserDaemon:
    """URIs of one unprivileged daemon: by its socket, and over TLS."""

    session: str
    tls: str


@pytest.fixture(scope="session")
def user_daemon() -> Iterator[UserDaemon]:
    """libvirtd for an unprivileged user (where we are root, the one that Debian made for guests), with a pool ``default``."""
    user = pwd.getpwnam("libvirt-qemu") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    folder, port = Path(f"/var/tmp/ct-{secrets.token_hex(3)}"), free_port()  # sockets need a short path
    settings, pki = folder / "config/libvirt", folder / "pki"
    for path in (settings, pki, folder / "run", folder / "pool"):
        path.mkdir(parents=True)
    _certificates(pki)
    (settings / "qemu.conf").write_text('stdio_handler = "file"\n')
    (settings / "libvirtd.conf").write_text(
        f'listen_tls = 1\nlisten_tcp = 0\nlisten_addr = "127.0.0.1"\ntls_port = "{port}"\nkey_file = "{pki}/serverkey.pem"\n'
        f'cert_file = "{pki}/servercert.pem"\nca_file = "{pki}/cacert.pem"\n'
    )
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run")}
    environment |= {f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("CONFIG", "CACHE", "DATA")}
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(["/usr/sbin/libvirtd", "--listen"], env=environment, stdout=log, stderr=log, **who)
    uris = UserDaemon(
        f"qemu+unix:///session?socket={folder}/run/libvirt/libvirt-sock",
        f"qemu+tls://127.0.0.1:{port}/session?pkipath={pki}",
    )
    try:
        pool = ["pool-create-as", "default", "dir", "--target", str(folder / "pool")]
        wait_for(
            lambda: subprocess.run(["virsh", "-c", uris.session, *pool], capture_output=True).returncode == 0,
            "libvirtd",
        )
        yield uris
    finally:
        daemon.terminate()
        daemon.wait()
        shutil.rmtree(folder)


def _certificates(folder: Path) -> None:
    """libvirt's names for a certificate authority, a server's and a client's certificate (libvirt.org/kbase/tlscerts.html)."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ca", "-keyout", "cakey.pem", "-out", "cacert.pem"
    )
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    for name in ("server", "client"):
        openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", f"{name}key.pem", "-out", "csr"
        )
        signed = ("-CA", "cacert.pem", "-CAkey", "cakey.pem", "-CAcreateserial", "-extfile", "ext")
        openssl("x509", "-req", "-in", "csr", *signed, "-out", f"{name}cert.pem")
