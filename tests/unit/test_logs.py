"""Logs say what was called, how long it took and how it ended, and never a secret."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests

from certify.errors import UsageError
from certify.logs import responses, show, timed

LOG = logging.getLogger("certify.a_test")


def test_a_call_is_told_with_its_duration_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "certify")
    with timed(LOG, "asking"):
        pass
    with pytest.raises(ZeroDivisionError), timed(LOG, "dividing"):
        1 // 0  # noqa: B018
    assert [message.partition(":")[0] for message in caplog.messages] == ["asking", "dividing"]
    assert caplog.messages[0].endswith(" s")
    assert caplog.messages[1].endswith(" s, ZeroDivisionError")


def test_no_header_query_or_body_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    caplog.set_level(logging.DEBUG, "certify")
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.handle_request).start()
        with requests.Session() as session:
            session.hooks["response"].append(responses(LOG))
            where = f"http://user:hunter2@127.0.0.1:{server.server_port}/v2/x?token=hunter2"
            session.post(where, data="hunter2", headers={"X-Key": "hunter2"})
    assert f"127.0.0.1:{server.server_port}/v2/x: 204" in caplog.text
    assert "hunter2" not in caplog.text


def test_nothing_is_told_to_those_who_did_not_ask() -> None:
    code = (
        "import logging; logging.getLogger('certify.x').debug('quiet'); {}logging.getLogger('certify.x').debug('told')"
    )
    for asked, told in (("", ""), ("from certify.logs import show; show('debug'); ", "told")):
        done = subprocess.run([sys.executable, "-c", code.format(asked)], capture_output=True, text=True)
        assert done.stderr.strip().rpartition(" ")[2] == told
    with pytest.raises(UsageError, match="no such level"):
        show("loud")
