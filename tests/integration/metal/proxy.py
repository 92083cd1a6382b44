"""A Redfish proxy that breaks things: in front of the lab's real service, by rules that a test gives."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

from certify_metal.host.inventory import MetalNode

#: What a rule makes of a request: an answer (status, JSON, headers), "drop" (hang up, unanswered, not passed on),
#: "drop-after" (passed on, then hung up), or None (passed on).
_PASSED_ON = ("authorization", "content-type", "odata-version")
Verdict = tuple[int, dict[str, Any], dict[str, str]] | str | None


@dataclass
class Proxy:
    """``changes`` are the requests that were passed on and are no reading: (method, path, body)."""

    node: MetalNode
    rule: Callable[[str, str, dict[str, Any]], Verdict] = lambda method, path, body: None
    changes: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> Proxy:
        proxy = self
        upstream = self.node.bmc.address

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(length)
                body = json.loads(raw) if raw else {}
                proxy.seen.append((self.command, self.path))
                verdict = proxy.rule(self.command, self.path, body)
                if verdict == "drop":
                    self.close_connection = True
                    return
                if isinstance(verdict, tuple):
                    status, content, headers = verdict
                    self.reply(status, json.dumps(content).encode(), headers)
                    return
                if self.command != "GET":
                    proxy.changes.append((self.command, self.path, body))
                headers = {k: v for k, v in self.headers.items() if k.lower() in _PASSED_ON}
                url = upstream + self.path
                answer = requests.request(
                    self.command, url, data=raw, headers=headers, verify=proxy.node.bmc.ca, timeout=60
                )
                if verdict == "drop-after":
                    self.close_connection = True
                    return
                with suppress(BrokenPipeError):  # whoever asked was killed
                    self.reply(answer.status_code, answer.content, {})

            def reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(content)),
                    **({"Connection": "close"} if self.close_connection else {}),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = handle_any

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """Where the proxy listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def count(self, method: str, ending: str) -> int:
        """How many changes of a kind were passed on."""
        return sum(m == method and path.endswith(ending) for m, path, _ in self.changes)
