"""Attachments for Allure: what a person needs to understand a failure."""

from __future__ import annotations

import allure
import msgspec

from certify.errors import CertifyError
from certify.evidence.redact import shortened
from certify.nodes.node import Node

#: Of a console or journal, the end is what explains a failure.
_MOST = 262_144


def attach_failure(node: Node, transcript: str) -> None:
    """Attach the failing check's commands to the current Allure result; with a node's first failure also its console,
    journal and facts, which the others would only repeat."""
    text = allure.attachment_type.TEXT
    allure.attach(transcript or "no command was run", "transcript", text)
    if node.lost:
        allure.attach(node.lost, "node", text)
    if "told in allure" in node.extras:
        return
    node.extras["told in allure"] = True
    _attach_console(node)
    if not node.lost:
        _attach_inside(node)


def attach_console(console: bytes) -> None:
    """Attach what a node had said."""
    allure.attach(_tail(console), "console", allure.attachment_type.TEXT)


def _attach_inside(node: Node) -> None:
    try:
        journal = node.run("journalctl -b --no-pager -n 2000 2>/dev/null")
        if journal.stdout:
            allure.attach(_tail(journal.stdout), "journal", allure.attachment_type.TEXT)
        facts = msgspec.json.format(msgspec.json.encode(node.facts.to_json()))
        allure.attach(facts.decode(), "facts", allure.attachment_type.JSON)
    except CertifyError as error:
        allure.attach(error.message, "node", allure.attachment_type.TEXT)


def _attach_console(node: Node) -> None:
    """What a person in front of the machine would see; a lost node's console is kept, its screen perhaps not."""
    try:
        attach_console(node.console())
        picture = node.screenshot()
        if picture is not None:
            allure.attach(picture, "screen", allure.attachment_type.PNG)
    except CertifyError as error:
        allure.attach(error.message, "console", allure.attachment_type.TEXT)


def _tail(data: bytes) -> str:
    cut = f"[… {len(data) - _MOST} bytes before this]\n" if len(data) > _MOST else ""
    return cut + shortened(data[-_MOST:].decode("utf-8", "replace"))
