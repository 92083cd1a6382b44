"""The run's own servers: boot media and disk chunks by HTTP, plans and reports by HTTPS, shells of booted nodes by TLS.

Everything is under a token that only one attempt knows. What is served by plain HTTP is worth nothing without what comes by
HTTPS: chunks are verified against a manifest that a signed plan names.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from certify.errors import EngineUnavailable
from certify_metal.host.image import CONFIG, INITRD, ISO, KERNEL, BootMedium
from certify_metal.host.keys import RunKeys
from certify_metal.host.netboot import PORT, script
from certify_metal.host.raw import RawDisk

_PIECE = 65536
_LARGEST_REPORT = 1024 * 1024
_HELLO_SECONDS = 20.0


@dataclass
class Attempt:
    """One installation as its node reports it. ``config`` replaces the medium's placeholder; ``plan`` is set when it is made,
    ``again`` when the installer calls once more after it was done.

    Reports are hostile data: they are kept and shown, and only the fields that are asked for are looked at.
    """

    medium: BootMedium
    config: bytes = b""
    disk: RawDisk | None = None
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    guest_token: str = field(default_factory=lambda: secrets.token_hex(16))
    script: str = ""
    plan: dict[str, str] | None = None
    fetched: bool = False
    hello: dict[str, Any] | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    done: dict[str, Any] | None = None
    again: bool = False
    guests: list[tuple[ssl.SSLSocket, dict[str, Any]]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def tell(self, **news: Any) -> None:
        """Set fields and wake whoever waits."""
        with self.changed:
            for name, value in news.items():
                setattr(self, name, value)
            self.changed.notify_all()

    def wait(self, ready: Callable[[], Any], deadline: float, look: Callable[[], None]) -> Any:
        """The first true answer of ``ready``; None at the deadline. ``look`` is called about twice a second, and may raise."""
        while True:
            with self.changed:
                found = ready()
                if found or time.monotonic() > deadline:
                    return found or None
                self.changed.wait(0.5)
            look()  # it may ask a slow BMC: who has news must not wait for that


class Controller:
    """Servers on one address. Stop them with :meth:`close`."""

    def __init__(self, address: str, keys: RunKeys) -> None:
        self.address = address
        self.keys = keys
        self._attempts: dict[str, Attempt] = {}
        self._plain = _server(address, _Media, self._attempts)
        self._control = _server(address, _Control, self._attempts)
        self._control.socket = keys.context.wrap_socket(
            self._control.socket, server_side=True, do_handshake_on_connect=False
        )
        self._shells = socket.create_server((address, 0), backlog=64)
        self._netboot: _Server | None = None
        self._lock = threading.Lock()
        for server in (self._plain, self._control):
            self._serving(server)
        threading.Thread(target=self._accept, name="certify-controller", daemon=True).start()

    @property
    def ports(self) -> tuple[int, int, int]:
        """Of boot media and chunks, of plans and reports, of shells."""
        return self._plain.server_address[1], self._control.server_address[1], self._shells.getsockname()[1]

    def add(self, attempt: Attempt) -> None:
        """Serve an attempt."""
        self._attempts[attempt.token] = attempt
        self._attempts[attempt.guest_token] = attempt

    def offer(self, attempt: Attempt, uuid: str, host: str) -> None:
        """Have the machine with this UUID boot the installer from the network; ``host`` is ours as the node sees it.

        Raises EngineUnavailable when another run listens where netboot programs ask.
        """
        with self._lock:
            if self._netboot is None:
                self._netboot = self._serving(_server(self.address, _Netboot, {}, PORT))
            self._netboot.attempts[uuid] = attempt
            attempt.script = script(f"{host}:{self.ports[0]}", attempt.token)

    def drop(self, attempt: Attempt) -> None:
        """Serve it no more: its tokens are worth nothing from now on."""
        self._attempts.pop(attempt.token, None)
        self._attempts.pop(attempt.guest_token, None)
        if self._netboot is not None:
            for uuid in [uuid for uuid, offered in self._netboot.attempts.items() if offered is attempt]:
                del self._netboot.attempts[uuid]

    def close(self) -> None:
        """End all servers."""
        for server in filter(None, (self._plain, self._control, self._netboot)):
            server.shutdown()
            server.server_close()
        self._shells.close()

    @staticmethod
    def _serving(server: _Server) -> _Server:
        threading.Thread(target=server.serve_forever, args=(0.1,), name="certify-controller", daemon=True).start()
        return server

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._shells.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._greet, args=(connection,), name="certify-guest", daemon=True).start()

    def _greet(self, connection: socket.socket) -> None:
        """A booted node says in one line who it is; what does not know a token is hung up on."""
        connection.settimeout(_HELLO_SECONDS)
        guest: Any = connection
        try:
            guest = self.keys.context.wrap_socket(connection, server_side=True)
            line = b""
            while not line.endswith(b"\n") and len(line) < 65536:
                piece = guest.recv(1)
                if not piece:
                    break
                line += piece
            said = msgspec.json.decode(line, type=dict[str, Any])
            attempt = self._attempts.get(str(said.get("token")))
            if attempt is None or said.get("token") != attempt.guest_token:
                raise ValueError("no such token")
        except (OSError, ValueError, msgspec.DecodeError):
            guest.close()
            return
        with attempt.changed:
            attempt.guests.append((guest, said))
            attempt.changed.notify_all()


class _Server(ThreadingHTTPServer):
    """A server whose handlers find the attempts."""

    daemon_threads = True
    attempts: dict[str, Attempt]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A BMC or node that hangs up, or is no TLS client, is not worth a traceback; a defect of ours is."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _server(address: str, handler: type[_Handler], attempts: dict[str, Attempt], port: int = 0) -> _Server:
    try:
        server = _Server((address, port), handler)
    except OSError as error:
        where = f"{address}:{port}" if port else address
        raise EngineUnavailable(
            f"cannot listen on {where}: {error.strerror}",
            "another run boots nodes from the network; wait for it" if port else "platforms.metal.listen",
        ) from None
    server.attempts = attempts
    return server


class _Handler(BaseHTTPRequestHandler):
    """What both servers share. HTTP/1.1, so that one connection carries many chunks."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: addresses hold tokens."""

    def attempt(self) -> tuple[Attempt, str] | None:
        """The attempt that the path's token is of, and what is asked of it; None after a 404."""
        match = re.fullmatch(r"/([0-9a-f]{32})/([a-z.]+)", self.path)
        found = self.server.attempts.get(match[1]) if match else None
        if match is None or found is None or match[1] != found.token:
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return found, match[2]

    def answer(self, content: bytes, kind: str = "application/json") -> None:
        """200 with ``content``."""
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


class _Media(_Handler):
    """The installer's files, ``manifest``, ``blocks`` and ``disk`` of an attempt; one range (RFC 9110, section 14) or all."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        found = self.attempt()
        if found is None:
            return
        attempt, what = found
        if what in (ISO, KERNEL, INITRD, CONFIG):
            place = attempt.medium.config_at.get(what)
            self._file(attempt.medium.folder / what, patch=(place or 0, b"" if place is None else attempt.config))
            attempt.tell(fetched=True)
        elif what == "manifest" and attempt.disk is not None:
            self.answer(attempt.disk.manifest.encoded())
        elif what in ("blocks", "disk") and attempt.disk is not None:
            self._file(attempt.disk.path if what == "disk" else attempt.disk.blocks)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _file(self, path: Path, patch: tuple[int, bytes] = (0, b"")) -> None:
        size = path.stat().st_size
        start, end = 0, size - 1
        asked = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", self.headers.get("Range", ""))
        if asked:
            start, end = int(asked[1]), min(int(asked[2] or end), end)
            if start > end:
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start + 1))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        with path.open("rb") as file:
            if not patch[1]:
                self.connection.sendfile(file, start, end - start + 1)  # from the page cache, past this process
                return
            for at in range(start, end + 1, _PIECE):
                piece = os.pread(file.fileno(), min(_PIECE, end + 1 - at), at)
                self.wfile.write(_patched(piece, at, *patch))


class _Netboot(_Handler):
    """``/boot/<uuid>``: what the netboot program of a machine is to do, while something is offered to it."""

    def do_GET(self) -> None:
        attempt = self.server.attempts.get(self.path.removeprefix("/boot/").lower())
        if attempt is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self.answer(attempt.script.encode(), "text/plain")


class _Control(_Handler):
    """``hello``, ``plan``, ``progress`` and ``done`` of an attempt."""

    def do_GET(self) -> None:
        found = self.attempt()
        if found is None:
            return
        attempt, what = found
        if what != "plan":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        plan = None
        if attempt.done is None:  # one attempt is one plan: a disk is not written again because its installer came back
            plan = attempt.wait(lambda: attempt.plan, time.monotonic() + 300, lambda: None)
        self.answer(msgspec.json.encode(plan)) if plan else self.send_error(HTTPStatus.GONE)

    def do_POST(self) -> None:
        found = self.attempt()
        length = self.headers.get("Content-Length", "")
        if found is None:
            return
        if not length.isdigit() or int(length) > _LARGEST_REPORT:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        attempt, what = found
        try:
            said = msgspec.json.decode(self.rfile.read(int(length)), type=dict[str, Any])
        except msgspec.DecodeError:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        if what not in ("hello", "progress", "done"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        if what == "hello" and attempt.done is not None:
            attempt.tell(again=True)
            self.send_error(HTTPStatus.GONE)
            return
        self.answer(b"{}")
        attempt.tell(**{what: said})


def _patched(piece: bytes, at: int, where: int, new: bytes) -> bytes:
    """``piece``, which begins at byte ``at``, with ``new`` in its place at byte ``where``."""
    first, last = max(at, where), min(at + len(piece), where + len(new))
    if first >= last:
        return piece
    return piece[: first - at] + new[first - where : last - where] + piece[last - at :]
