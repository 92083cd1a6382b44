"""Hostile images: none reads a file of the host, fills it, speaks to its terminal, or hides what is in it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from certify.config import Images
from certify.errors import CertifyError, DigestMismatch, ImageInvalid
from certify.images.layers import require_layers
from certify.images.reference import parse
from certify.images.resolve import Resolver
from certify_docker.boot_mode import plan
from certify_docker.cgroup import Engine
from certify_docker.settings import ContainerSettings
from tests.integration.conftest import DEMO, MakeImage, Workspace, left_behind
from tests.unit.images.imagefiles import blob, image, layout

ENGINE = Engine("1", "cgroupfs")
BUSYBOX = {"copy": "/usr/bin/busybox", "mode": "0755"}


def with_layer(path: Path, stored: bytes, diff_id: str, media: str = "tar+gzip", **more: Any) -> Path:
    """An OCI layout of one layer, whatever its config says of it."""
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}, **more}
    raw = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **blob(raw)},
        "layers": [{"mediaType": f"application/vnd.oci.image.layer.v1.{media}", **blob(stored)}],
    }
    document = json.dumps(manifest).encode()
    blobs = {blob(x)["digest"]: x for x in (stored, raw, document)}
    found = {"mediaType": "application/vnd.oci.image.manifest.v1+json", **blob(document)}
    return layout(path, blobs, [found])


def tar(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def opened(path: Path) -> Any:
    return Resolver([]).open(f"oci:{path}")


def test_a_layer_that_is_not_what_the_config_names_is_refused(tmp_path: Path) -> None:
    """What was certified must be what booted: an engine that has the config already would boot other layers."""
    good, other = tar(a=b"good"), tar(a=b"other")
    require_layers(opened(with_layer(tmp_path / "good", gzip.compress(good), blob(good)["digest"])), Images())
    with pytest.raises(DigestMismatch, match="not the one that the image's config names"):
        require_layers(opened(with_layer(tmp_path / "bad", gzip.compress(other), blob(good)["digest"])), Images())


@pytest.mark.deep
@pytest.mark.parametrize("size", [2**31, 2**28])
def test_a_layer_that_unpacks_without_end_is_refused_early(tmp_path: Path, size: int) -> None:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9) as file:
        for _ in range(size // 2**20):
            file.write(bytes(2**20))
    assert len(packed.getvalue()) < size / 200
    source = opened(with_layer(tmp_path / "bomb", packed.getvalue(), "sha256:" + "a" * 64))
    started = time.monotonic()
    with pytest.raises(ImageInvalid, match="unpack to more than"):
        require_layers(source, Images())
    assert time.monotonic() - started < 20


def test_a_layer_larger_than_anything_is_refused(tmp_path: Path) -> None:
    data = tar(a=bytes(2**21))
    source = opened(with_layer(tmp_path / "large", data, blob(data)["digest"], media="tar"))
    with pytest.raises(ImageInvalid, match="unpack to more than"):
        require_layers(source, Images(max_size="1MiB"))


@pytest.mark.parametrize("name", ["architecture", "os", "created"])
@pytest.mark.parametrize("value", ["\x1b]0;owned\x07amd64", "amd64\nx", 5, ["amd64"], "a" * 200, "\u202eamd64"])
def test_what_a_config_says_of_itself_is_plain(work: Workspace, name: str, value: Any) -> None:
    data = tar(a=b"x")
    path = with_layer(work.path / "odd", data, blob(data)["digest"], media="tar", **{name: value})
    with pytest.raises(CertifyError) as caught:
        opened(path)
    assert "\x1b" not in caught.value.message


def test_nothing_foreign_reaches_the_terminal_raw(work: Workspace) -> None:
    blobs, descriptor = image()
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": "\x1b]0;owned\x07"}
    layout(work.path / "odd", blobs, [descriptor, descriptor])
    done = work.certify("inspect", "oci:odd:v1")
    assert done.status == 2
    assert "\x1b" not in done.text
    assert "\x07" not in done.text


@pytest.mark.deep
@pytest.mark.parametrize("path", ["oci:{0}", "oci-archive:{0}", "docker-archive:{0}", "{0}.qcow2"])
def test_a_pipe_is_no_image(work: Workspace, path: str) -> None:
    for name in ("pipe", "pipe.qcow2"):
        os.mkfifo(work.path / name)
    done = work.certify("inspect", path.format("pipe"), timeout=20)
    assert done.status == 2


@pytest.mark.deep
@pytest.mark.parametrize("name", ["index.json", "oci-layout", "blobs"])
def test_a_pipe_inside_a_layout_is_no_document(work: Workspace, name: str) -> None:
    blobs, descriptor = image()
    layout(work.path / "odd", blobs, [descriptor])
    path = work.path / "odd" / name
    if name == "blobs":
        path = next((path / "sha256").iterdir())
    path.unlink()
    os.mkfifo(path)
    assert work.certify("inspect", "oci:odd", timeout=20).status == 2


@pytest.mark.deep
@pytest.mark.parametrize("name", ["certify.yaml", "certify.lock"])
def test_a_pipe_is_no_configuration(work: Workspace, name: str) -> None:
    if name == "certify.lock":
        work.write("certify.yaml", "product: app\n")
    os.mkfifo(work.path / name)
    assert work.certify("gate", DEMO + "scratch", "--channel", "staging", timeout=20).status == 2


class Trickle:
    """A registry that answers, a byte now and then, for ever."""

    def __init__(self, *, headers: bool) -> None:
        self._headers = headers
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._over = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        try:
            connection.recv(65536)
            if not self._headers:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            else:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not self._over.wait(0.2):
                connection.sendall(b"a")
        except OSError:
            connection.close()

    def close(self) -> None:
        self._over.set()
        self._server.close()


@pytest.fixture
def trickle(request: pytest.FixtureRequest) -> Iterator[Trickle]:
    found = Trickle(headers=request.param)
    yield found
    found.close()


@pytest.mark.deep
@pytest.mark.parametrize("trickle", [True, False], indirect=True)
def test_a_registry_that_never_ends_is_left(trickle: Trickle, monkeypatch: pytest.MonkeyPatch) -> None:
    from certify_registry import transport

    monkeypatch.setattr(transport, "_TOTAL", 2)
    started = time.monotonic()
    with pytest.raises(CertifyError, match="too slow|does not answer within"):
        transport.RegistryTransport().open(parse(f"docker://{trickle.host}/app:1"))
    assert time.monotonic() - started < 15


def test_a_token_service_elsewhere_gets_no_credentials() -> None:
    from certify_registry.transport import Registry

    challenge = requests.Response()
    challenge.headers["WWW-Authenticate"] = 'Bearer realm="http://169.254.169.254/token",service="x"'
    with pytest.raises(ImageInvalid, match="sends credentials to"):
        Registry("127.0.0.1:5000", "app", "x")._authenticate(challenge)


# -- booted ------------------------------------------------------------------------------------------------------------


@pytest.mark.deep
def test_a_program_called_init_gets_nothing_for_its_name(work: Workspace, make_image: MakeImage) -> None:
    """SYS_ADMIN would let it mount and read the host's disks."""
    from dataclasses import replace

    from certify.images.candidate import ImageConfig
    from certify.testing.local import FakeSource

    for program, mode in (("/sbin/init", "init"), ("/init", "service"), ("/app/init", "service")):
        candidate = replace(FakeSource().candidate, config=ImageConfig(entrypoint=(program,)))
        made = plan(candidate, ContainerSettings(), engine=Engine("1", "cgroupfs"), container="c")
        assert made.mode == mode
        assert "cap_add" not in made.host
    reference = make_image("init", entrypoint=["/sbin/init"], files={"/sbin/init": BUSYBOX, "/bin/sh": BUSYBOX})
    work.write(
        "checks/test_x.py",
        "def test_x(node):\n"
        "    assert not node.run('/bin/sh -c \"mount -t proc proc /mnt\"').ok\n"
        "    assert not node.run('/bin/sh -c \"mknod /disk b 8 0\"').ok\n",
    )
    done = work.pytest("--image", reference, "--suite", "./checks", "-q", timeout=60)
    assert done.status == 0, done.text


@pytest.mark.parametrize("image_user", ["app", pytest.param("1000", marks=pytest.mark.deep)])
def test_a_key_below_a_folder_that_only_its_user_may_read_is_found(
    work: Workspace, make_image: MakeImage, engine: docker.DockerClient, image_user: str
) -> None:
    """Without capabilities the node's root could not look into it, and every check of it would pass."""
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\n" + base64.b64encode(os.urandom(300)).decode() + "\n"
    reference = make_image(
        f"secret-{image_user}",
        user=image_user,
        folders={"/srv/app": {"mode": "0700", "uid": 1000}},
        command=["/bin/sh", "-c", "sleep 600"],
        files={
            "/bin/sh": BUSYBOX,
            "/bin/busybox": BUSYBOX,
            "/bin/sleep": BUSYBOX,
            "/etc/passwd": {"content": "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv/app:/bin/sh\n"},
            "/srv/app/id_ed25519": {"content": key, "mode": "0600", "uid": 1000},
        },
    )
    done = work.pytest("--image", reference, "--suite", "hygiene", "-q", "--tb=short")
    assert work.outcomes()["test_no_private_keys"] == "failed", done.text
    assert "/srv/app/id_ed25519" in done.out
    work.write("checks/test_root.py", "def test_root(host):\n    assert host.file('/srv/app/id_ed25519').exists\n")
    assert work.pytest("--image", reference, "--suite", "./checks", "-q").status == 0, "the node's root sees it too"
    told = "".join(p.read_text(errors="replace") for p in (work.path / ".certify/runs").rglob("*") if p.is_file())
    assert key.splitlines()[1] not in told, "what was found is not told"
    assert left_behind(engine, work.last_run["id"]) == []


@pytest.mark.deep
def test_what_the_boot_hides_is_in_the_image_all_the_same(work: Workspace, make_image: MakeImage) -> None:
    """Files in /tmp and /run, and those that an entrypoint takes away before anybody looks."""
    token = "ghp_" + "a1B2" * 9
    reference = make_image(
        "hides",
        command=["/bin/sh", "-c", "rm -rf /srv/hidden /root/.netrc; sleep 600"],
        files={
            "/bin/sh": BUSYBOX,
            "/bin/busybox": BUSYBOX,
            "/bin/rm": BUSYBOX,
            "/bin/sleep": BUSYBOX,
            "/etc/passwd": {"content": "root:x:0:0::/root:/bin/sh\n"},
            "/tmp/left": {"content": "x"},
            "/srv/hidden/token": {"content": token},
            "/root/.netrc": {"content": "machine x login y password z"},
        },
    )
    work.pytest("--image", reference, "--suite", "hygiene", "-q")
    found = work.outcomes()
    assert (found["test_no_temporary_files"], found["test_no_tokens"]) == ("failed", "failed")
    assert found["test_no_credential_files"] == "failed"


def test_a_service_that_changes_the_node_between_two_checks_is_seen(work: Workspace, make_image: MakeImage) -> None:
    reference = make_image(
        "writes",
        command=["/bin/sh", "-c", "while :; do usleep 100000; test -e /want && echo x >/made; done"],
        files=dict.fromkeys(("/bin/sh", "/bin/busybox", "/bin/usleep", "/bin/test"), BUSYBOX),
    )
    work.write(
        "checks/test_x.py",
        "import time\n"
        "def test_1(host):\n    assert not host.file('/made').exists\n    host.run('echo >/want')\n    time.sleep(2)\n"
        "def test_2(host):\n    assert host.file('/made').exists\n    assert host.file('/made').size == 2\n",
    )
    done = work.pytest("--image", reference, "--suite", "./checks", "-q")
    assert done.status == 0, done.text


@pytest.mark.deep
def test_failures_do_not_fill_the_disk(work: Workspace, make_image: MakeImage) -> None:
    """Eight failures once made 51 MB of evidence, the same console and journal again and again."""
    program = f"i=0; while [ $i -lt 60000 ]; do echo $i {'a' * 60}; i=$((i+1)); done; sleep 600"
    reference = make_image(
        "loud", command=["/bin/sh", "-c", program], files=dict.fromkeys(("/bin/sh", "/bin/sleep"), BUSYBOX)
    )
    checks = "".join(f"def test_{i}(node):\n    assert node.run('echo {'b' * 5000}').ok is None\n" for i in range(8))
    work.write("checks/test_x.py", checks)
    assert work.pytest("--image", reference, "--suite", "./checks", "-q").status == 1
    run = (work.path / ".certify/runs/latest").resolve()
    assert sum(p.stat().st_size for p in run.rglob("*") if p.is_file()) < 8_000_000


@pytest.mark.deep
@pytest.mark.parametrize("program", ["exit 3", "exit 0", "kill -6 $$"])
def test_a_container_that_ends_by_itself_is_a_failure_with_its_console(
    work: Workspace, make_image: MakeImage, program: str
) -> None:
    name = "ends-" + "".join(c for c in program if c.isalnum())
    command = ["/bin/sh", "-c", f"echo last words; {program}"]
    reference = make_image(name, command=command, files={"/bin/sh": BUSYBOX})
    work.write("checks/test_x.py", "def test_x(node): pass\n")
    done = work.pytest("--image", reference, "--suite", "./checks", "-q")
    assert done.status == 1, done.text
    assert "last words" in done.out
