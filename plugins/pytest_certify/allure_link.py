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
    if node.lost:
        allure.attach(node.lost, "node", text)
        return
    try:
        allure.attach(node.console().decode("utf-8", "replace"), "console", text)
        facts = msgspec.json.format(msgspec.json.encode(node.facts.to_json()))
        allure.attach(facts.decode(), "facts", allure.attachment_type.JSON)
    except CertifyError as error:
        allure.attach(error.message, "node", text)
