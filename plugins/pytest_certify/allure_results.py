"""Allure's results as they are written: in one go each, and without the secrets that a check found.

allure-pytest's own writer makes a file of a result by Python's slowest JSON encoder; it was half of what a short check cost.
"""

from __future__ import annotations

import io
import json
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import allure_commons
import msgspec
import pytest
from allure_commons.model2 import TestResultContainer
from allure_pytest.listener import AllureListener

from certify.evidence.redact import may_hold_secrets, shortened, shortened_json

#: What Allure names its files by (:mod:`allure_commons.model2`).
_WRITTEN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-(result|container|globals|attachment)\.\w+")
#: Attachments that no reader takes for text.
_PICTURES = (".png", ".jpg", ".gif", ".bmp", ".tiff", ".mp4", ".ogg", ".webm", ".pdf", ".pcap")


class AllureResults:
    """What Allure hands out to be kept (:mod:`allure_commons._hooks`), as files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @allure_commons.hookimpl
    def report_result(self, result: Any) -> None:
        """A check's result."""
        self._keep_item(result)

    @allure_commons.hookimpl
    def report_container(self, container: TestResultContainer) -> None:
        """What a fixture did for some checks. Those of plain parameters are for none, and no report shows them."""
        if container.children:
            self._keep_item(container)

    @allure_commons.hookimpl
    def report_globals(self, globals_item: Any) -> None:
        """What belongs to the whole run."""
        self._keep_item(globals_item)

    @allure_commons.hookimpl
    def report_attached_data(self, body: str | bytes, file_name: str) -> None:
        """An attachment's content."""
        self._keep(file_name, _attachment(body.encode() if isinstance(body, str) else bytes(body), file_name))

    @allure_commons.hookimpl
    def report_attached_file(self, source: str, file_name: str) -> None:
        """An attachment that lies somewhere as a file."""
        self._keep(file_name, _attachment(Path(source).read_bytes(), file_name))

    def _keep_item(self, item: Any) -> None:
        told = msgspec.json.encode(_filled(item), enc_hook=str)
        if may_hold_secrets(told.decode()):
            told = msgspec.json.encode(shortened_json(msgspec.json.decode(told)))
        self._keep(item.file_pattern.format(prefix=uuid.uuid4()), told)

    def _keep(self, name: str, data: bytes) -> None:
        """The file is there whole or not at all."""
        path = os.fspath(self._folder / name)
        partial = f"{path}.tmp"
        with io.FileIO(partial, "w") as file:
            file.write(data)
        os.rename(partial, path)  # noqa: PTH104 - pathlib takes longer than the kernel


def keep_results(config: pytest.Config, folder: Path) -> None:
    """From now on, what Allure reports of this process's checks is kept in ``folder``."""
    listener, results = AllureListener(config), AllureResults(folder)
    config.pluginmanager.register(listener, "allure_listener")
    for plugin in (listener, results):
        allure_commons.plugin_manager.register(plugin)
        config.add_cleanup(_taking_away(plugin))


def shorten_others(folder: Path) -> None:
    """Shorten secrets in what others have written into ``folder`` by themselves: Allure's own files have none any more."""
    for path in folder.iterdir():
        if path.is_file() and not _WRITTEN.fullmatch(path.name):
            written = path.read_bytes()
            told = _attachment(written, path.name)
            if told != written:
                path.write_bytes(told)


def _taking_away(plugin: object) -> Callable[[], None]:
    return lambda: allure_commons.plugin_manager.unregister(plugin)


def _filled(value: Any) -> Any:
    """One of Allure's documents as plain data, without what is empty."""
    if isinstance(value, list):
        return [_filled(item) for item in value]
    if not hasattr(type(value), "__attrs_attrs__"):
        return value
    return {name: _filled(item) for name, item in vars(value).items() if item or item is False}


def _attachment(data: bytes, name: str) -> bytes:
    """With secrets shortened, if it is text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        if name.endswith(_PICTURES):
            return data
        text = data.decode("utf-8", "surrogateescape")
    told = _document(text) if name.endswith(".json") else shortened(text)
    return data if told == text else told.encode("utf-8", "surrogateescape")


def _document(text: str) -> str:
    try:
        document = json.loads(text)
    except ValueError:
        return shortened(text)  # it only says that it is JSON
    told = shortened_json(document)
    return text if told == document else json.dumps(told)
