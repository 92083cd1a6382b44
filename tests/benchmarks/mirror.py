"""A Debian mirror on the loopback: each file comes once from a real one and is kept, so that no run waits for the network."""

from __future__ import annotations

import hashlib
import shutil
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

UPSTREAM = "http://deb.debian.org"


class Mirror:
    """Serves ``http://127.0.0.1:PORT/debian/…`` while it is open."""

    def __init__(self, cache: Path) -> None:
        cache.mkdir(parents=True, exist_ok=True)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                kept = cache / hashlib.sha256(self.path.encode()).hexdigest()
                try:
                    if not kept.exists():
                        partial = kept.with_suffix(f".{threading.get_ident()}")
                        with (
                            urllib.request.urlopen(UPSTREAM + self.path, timeout=60) as source,
                            partial.open("wb") as file,
                        ):
                            shutil.copyfileobj(source, file)
                        partial.rename(kept)
                except urllib.error.HTTPError as error:
                    self.send_response(error.code)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                size = kept.stat().st_size
                self.send_response(200)
                self.send_header("Content-Length", str(size))
                self.end_headers()
                if self.command != "HEAD":
                    with kept.open("rb") as file:
                        self.connection.sendfile(file)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
