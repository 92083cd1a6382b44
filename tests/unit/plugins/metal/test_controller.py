"""The run's servers and the guest's shell, on loopback: tokens, ranges, reports, the medium's configuration, frames."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.errors import EngineUnavailable, ShellUnavailable
from certify.nodes.shell import Shell
from certify_metal.host.channel import GuestChannel
from certify_metal.host.chunks import make_manifest
from certify_metal.host.controller import Attempt, Controller, _patched
from certify_metal.host.image import CONFIG_SIZE, BootMedium, configured
from certify_metal.host.keys import make_keys
from certify_metal.host.raw import RawDisk
from certify_metal.node import guest
from certify_metal.node.installer.agent import Home, Refused
from certify_metal.node.installer.fetch import Remote
from certify_metal.node.installer.medium import WriteFailed


@pytest.fixture
def controller() -> Iterator[Controller]:
    made = Controller("127.0.0.1", make_keys())
    yield made
    made.close()


def made_raw(disk: Path) -> RawDisk:
    manifest, blocks = make_manifest(disk, "sha256:00")
    disk.with_suffix(".blocks").write_bytes(blocks)
    return RawDisk(disk, manifest, disk.with_suffix(".blocks"))


def piece(url: str, first: int, last: int) -> bytes:
    into = bytearray(last + 1 - first)
    with closing(Remote(url)) as remote:
        remote.piece(first, memoryview(into))
    return bytes(into)


def whole(url: str) -> bytes:
    with closing(Remote(url)) as remote:
        return remote.whole()


@pytest.fixture
def attempt(controller: Controller, tmp_path: Path) -> Attempt:
    iso, disk = tmp_path / "installer.iso", tmp_path / "disk"
    iso.write_bytes(b"a" * 3_000_000)
    disk.write_bytes(bytes(range(256)) * 8192)
    made = Attempt(BootMedium(tmp_path, {"installer.iso": 1_048_570}), b"configured", made_raw(disk))
    controller.add(made)
    return made


def url(controller: Controller, token: str, what: str) -> str:
    return f"http://127.0.0.1:{controller.ports[0]}/{token}/{what}"


def status(address: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def home(controller: Controller, attempt: Attempt, token: str = "") -> Home:
    config = {"control": f"https://127.0.0.1:{controller.ports[1]}", "token": token or attempt.token}
    return Home({**config, "certificate": controller.keys.certificate})


def test_the_medium_carries_the_attempts_configuration(controller: Controller, attempt: Attempt) -> None:
    with urllib.request.urlopen(url(controller, attempt.token, "installer.iso"), timeout=10) as answer:
        content = answer.read()
    assert content[1_048_570:1_048_580] == b"configured"
    assert content.count(b"a") == 3_000_000 - 10 + content[1_048_570:1_048_580].count(b"a")
    assert attempt.wait(lambda: attempt.fetched, time.monotonic() + 10, lambda: None)  # told after the last byte


def test_ranges(controller: Controller, attempt: Attempt) -> None:
    where = url(controller, attempt.token, "disk")
    assert attempt.disk is not None
    assert piece(where, 1000, 70_000) == attempt.disk.path.read_bytes()[1000:70_001]
    assert status(where, Range="bytes=9999999-") == 416
    assert status(where, Range="lines=1-2") == 200
    assert json.loads(whole(url(controller, attempt.token, "manifest")))["candidate"] == "sha256:00"
    blocks = whole(url(controller, attempt.token, "blocks"))
    assert hashlib.sha256(blocks).hexdigest() == attempt.disk.manifest.blocks


@pytest.mark.parametrize(
    "path", ["/", "/x/disk", f"/{'0' * 32}/disk", "/../disk", f"/{'0' * 32}/disk/../../etc/passwd"]
)
def test_nothing_without_the_token(controller: Controller, attempt: Attempt, path: str) -> None:
    assert status(f"http://127.0.0.1:{controller.ports[0]}{path}") == 404
    assert status(url(controller, attempt.guest_token, "disk")) == 404
    controller.drop(attempt)
    assert status(url(controller, attempt.token, "disk")) == 404


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"206 Partial\r\nConnection: close\r\n\r\nshort", "the stream ends early, 2 times"),
        (b"206 Partial\r\nContent-Length: 100\r\nConnection: close\r\n\r\nshort", "the stream ends early, 2 times"),
        (b"206 Partial\r\nContent-Length: 5\r\n\r\nshort", "100 bytes were asked for, and 5 came"),
        (b"206 Partial\r\nConnection: close\r\n\r\n" + b"x" * 101, "more came than the 100 bytes"),
        (b"200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100, "sends no ranges"),
        (b"404 Gone\r\nContent-Length: 0\r\n\r\n", "does not have it"),
    ],
)
def test_a_server_that_does_not_send_what_was_asked_for_is_told(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, why: str
) -> None:
    monkeypatch.setattr("certify_metal.node.installer.fetch._TRIES", 2)
    with serving(answer) as where, pytest.raises(WriteFailed, match=why):
        piece(where, 0, 99)


@pytest.mark.parametrize("answer", [b"503 Busy\r\nContent-Length: 0\r\n\r\n", b"nonsense", b""])
def test_a_server_that_fails_is_asked_again_and_then_given_up(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr("certify_metal.node.installer.fetch._TRIES", 2)
    with serving(answer) as where, pytest.raises(OSError):
        piece(where, 0, 99)


@contextmanager
def serving(answer: bytes) -> Iterator[str]:
    """A server that answers everything so, and hangs up."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                link, _ = server.accept()
                link.recv(4096)
                link.sendall(b"HTTP/1.1 " + answer if answer else b"")
                link.close()

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}/disk"
    server.close()


def test_a_machine_that_boots_from_the_network_is_offered_its_installer(
    controller: Controller, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its UUID, while its attempt lasts; nobody else gets anything, and no second run can take the port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setattr("certify_metal.host.controller.PORT", port)
    identity = "4c4c4544-0034-4810-8053-b4c04f4e4d32"
    controller.offer(attempt, identity, "10.0.2.2")
    where = f"http://127.0.0.1:{port}/boot"
    with urllib.request.urlopen(f"{where}/{identity.upper()}", timeout=10) as answer:
        script = answer.read().decode()
    assert f"linux (http,10.0.2.2:{controller.ports[0]})/{attempt.token}/vmlinuz " in script
    assert status(f"{where}/{identity[:-1]}3") == status(f"http://127.0.0.1:{port}/{attempt.token}/disk") == 404
    other = Controller("127.0.0.1", controller.keys)
    with pytest.raises(EngineUnavailable, match=f"cannot listen on 127.0.0.1:{port}"):
        other.offer(attempt, identity, "10.0.2.2")
    other.close()
    controller.drop(attempt)
    assert status(f"{where}/{identity}") == 404


def test_reports_and_the_plan(controller: Controller, attempt: Attempt) -> None:
    agent = home(controller, attempt)
    agent.call({"uuid": "u"})
    assert attempt.hello == {"uuid": "u"}
    threading.Timer(0.2, lambda: attempt.tell(plan={"plan": "p", "signature": "s"})).start()
    assert agent.ask("plan")[0] == {"plan": "p", "signature": "s"}
    agent.ask("done", {"error": "no"})
    assert attempt.wait(lambda: attempt.done, time.monotonic() + 5, lambda: None) == {"error": "no"}


def test_an_installer_that_comes_back_is_given_nothing(controller: Controller, attempt: Attempt) -> None:
    """The machine booted its medium once more: that is seen, and no plan is obeyed twice."""
    agent = home(controller, attempt)
    agent.call({"uuid": "u"})
    attempt.tell(plan={"plan": "p", "signature": "s"})
    agent.ask("done", {"disk": {}})
    with pytest.raises(Refused, match="this attempt is over"):
        agent.call({"uuid": "u"})
    assert attempt.again
    with pytest.raises(urllib.error.HTTPError, match="410"):
        agent.ask("plan")


def test_another_home_is_not_believed(controller: Controller, attempt: Attempt) -> None:
    other = make_keys()
    agent = Home(
        {
            "control": f"https://127.0.0.1:{controller.ports[1]}",
            "token": attempt.token,
            "certificate": other.certificate,
        }
    )
    with pytest.raises((ssl.SSLError, OSError)):
        agent.ask("plan", timeout=5)


def test_a_report_that_is_too_large_or_no_json_is_refused(controller: Controller, attempt: Attempt) -> None:
    agent = home(controller, attempt)
    with pytest.raises(OSError, match=r"413|reset|[Pp]ipe|EOF"):  # hung up on while still sending
        agent.ask("hello", "x" * 2_000_000)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        agent.ask("hello", ["not", "a", "mapping"])
    assert attempt.hello is None


def test_a_configuration_that_does_not_fit() -> None:
    assert len(configured(b"{}")) == CONFIG_SIZE
    with pytest.raises(EngineUnavailable, match="does not fit"):
        configured(b"x" * (CONFIG_SIZE + 1))


@given(st.binary(max_size=60), st.integers(0, 70), st.binary(max_size=20), st.integers(1, 9))
def test_a_patched_file_is_the_same_in_any_pieces(whole: bytes, where: int, new: bytes, size: int) -> None:
    wanted = bytearray(whole)
    for offset, byte in enumerate(new):
        if where + offset < len(wanted):
            wanted[where + offset] = byte
    pieces = [_patched(whole[at : at + size], at, where, new) for at in range(0, len(whole), size)]
    assert b"".join(pieces) == wanted


# -- the guest ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def booted(controller: Controller, attempt: Attempt, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The guest's program, as a process of this host."""
    config: dict[str, Any] = {
        "host": "127.0.0.1", "port": controller.ports[2], "token": attempt.guest_token,
        "certificate": controller.keys.certificate, "digest": "sha256:00", "give_up": None,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    with subprocess.Popen([sys.executable, str(guest.__file__), str(tmp_path / "config.json")]) as process:
        yield process
        process.kill()


def link_of(attempt: Attempt) -> Any:
    found = attempt.wait(lambda: attempt.guests, time.monotonic() + 10, lambda: None)
    assert found
    return found.pop(0)


@pytest.mark.usefixtures("booted")
def test_the_guest_says_who_it_is_and_offers_shells(attempt: Attempt) -> None:
    link, said = link_of(attempt)
    assert said["digest"] == "sha256:00"
    assert said["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    shell = Shell(lambda: GuestChannel(link), timeout=20)
    assert shell.run("echo out; echo err >&2; exit 3").status == 3
    assert len(shell.run("head -c 2000000 /dev/zero").stdout) == 2_000_000
    other = Shell(lambda: GuestChannel(link_of(attempt)[0]), timeout=20)
    assert other.run("echo $$").text != shell.run("echo $$").text
    shell.close()
    assert other.run("echo on").text == "on"
    other.close()


def test_a_stranger_is_hung_up_on(controller: Controller, attempt: Attempt) -> None:
    context = ssl.create_default_context(cadata=controller.keys.certificate)
    context.check_hostname = False
    for line in (b'{"token": "wrong"}\n', b"[]\n", b"\xff\n", b'{"token": "%s"}\n' % attempt.token.encode()):
        plain = socket.create_connection(("127.0.0.1", controller.ports[2]), timeout=10)
        with context.wrap_socket(plain) as link, suppress(OSError):
            link.sendall(line)
            assert link.recv(1) == b""
    assert attempt.guests == []


@given(st.binary(min_size=5, max_size=40).filter(lambda data: data[0] not in (1, 2) or data[1:3] > b"\0\1"))
def test_what_is_no_frame_ends_the_channel(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = object.__new__(GuestChannel)
        channel._link, channel._left = ours, data  # type: ignore[assignment]
        with pytest.raises(ShellUnavailable, match="no frame"):
            channel.receive(0.1)
