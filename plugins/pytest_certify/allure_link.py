"""Attachments for Allure: what a person needs to understand a failure."""

from __future__ import annotations

import allure
import msgspec

from certify.errors import CertifyError
from certify.nodes.node import Node


def attach_failure(node: Node, transcript: str) -> None:
    """Attach the failing check's commands, the node's console and its facts to the current Allure result."""
    text = allure.attachment_type.TEXT
    allure.attach(transcript or "no command was run", "transcript", text)
    _attach_console(node)
    if node.lost:
        allure.attach(node.lost, "node", text)
        return
    try:
        journal = node.run_many(["journalctl -b --no-pager -n 2000 2>/dev/null"])[0]
        if journal.stdout:
            allure.attach(journal.stdout.decode("utf-8", "replace"), "journal", text)
        facts = msgspec.json.format(msgspec.json.encode(node.facts.to_json()))
        allure.attach(facts.decode(), "facts", allure.attachment_type.JSON)
    except CertifyError as error:
        allure.attach(error.message, "node", text)


def _attach_console(node: Node) -> None:
    """What a person in front of the machine would see; a lost node's console is kept, its screen perhaps not."""
    try:
        allure.attach(node.console().decode("utf-8", "replace"), "console", allure.attachment_type.TEXT)
        picture = node.screenshot()
        if picture is not None:
            allure.attach(picture, "screen", allure.attachment_type.PNG)
    except CertifyError as error:
        allure.attach(error.message, "console", allure.attachment_type.TEXT)
