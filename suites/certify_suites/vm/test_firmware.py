"""The image boots with every firmware it is declared for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from certify.nodes.node import Node

_FIRMWARE = "if [ -d /sys/firmware/efi ]; then echo uefi; else echo bios; fi"
_SECURE = "od -An -t u1 /sys/firmware/efi/efivars/SecureBoot-*"


def test_boots_with_its_first_firmware(node: Node) -> None:
    """What runs is what was asked for; a fallback would hide a broken boot loader."""
    assert node.run(_FIRMWARE).text == str(node.how.details["firmware"]).removesuffix("-secure")


@pytest.mark.destructive
def test_boots_with_every_declared_firmware(node: Node, other_node: Callable[..., Node]) -> None:
    """Clouds differ: one boots by BIOS, another by UEFI, a third insists on secure boot."""
    others = [name for name in node.how.details.get("firmware_declared", []) if name != node.how.details["firmware"]]
    if not others:
        pytest.skip(f"declared for {node.how.details['firmware']} only")
    for firmware in others:
        other = other_node(firmware=firmware)
        assert other.run(_FIRMWARE).text == firmware.removesuffix("-secure")
        if firmware == "uefi-secure":
            assert other.run(_SECURE).text.split()[-1] == "1"
