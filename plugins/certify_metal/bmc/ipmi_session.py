"""One IPMI 2.0 session (RMCP+) in a process of its own: JSON requests on standard input, JSON answers on standard output.

pyghmi shares one event loop and its sessions among everything in a process, and waits without a deadline. Here it has one
session, and whoever asks (:class:`certify_metal.bmc.ipmi.IpmiBmc`) ends the process when an answer takes too long.

``python -m certify_metal.bmc.ipmi_session``; the first line is ``{"host", "port", "user", "password"}``.
Each answer is ``{"answer": …}`` or ``{"error": words}``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from pyghmi.ipmi.command import Command


def main() -> int:
    """Answer until standard input ends."""
    given = json.loads(sys.stdin.readline())
    where = {"bmc": given["host"], "port": given["port"], "userid": given["user"], "password": given["password"]}
    session: Any = None

    def log_in() -> bool:
        nonlocal session
        session = Command(**where, keepalive=False)
        return True

    if not _say(log_in):
        return 1
    for line in sys.stdin:
        request = json.loads(line)
        _say(lambda request=request: _done(session, request))  # type: ignore[misc]
    return 0


def _done(session: Any, request: dict[str, Any]) -> Any:
    what = request.pop("ask")
    if what == "raw":
        answer = session.raw_command(**request)
        return {"code": answer.get("code", 0), "error": answer.get("error"), "data": list(answer.get("data", b""))}
    if what == "boot":
        return session.set_bootdev(request["device"], persist=request["persist"], uefiboot=request["uefi"])
    ask: dict[str, Callable[[], Any]] = {
        "boot device": session.get_bootdev,
        "product": lambda: session.get_inventory_of_component("System"),
        "events": lambda: list(session.get_event_log()),
    }
    return ask[what]()


def _say(ask: Callable[[], Any]) -> bool:
    """Answer with what ``ask`` returns, or with its error: pyghmi raises anything for what a BMC sends."""
    try:
        said = {"answer": ask()}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        said = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(said, default=str), flush=True)
    return "answer" in said


if __name__ == "__main__":
    sys.exit(main())
