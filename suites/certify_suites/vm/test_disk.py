"""The root filesystem: as large as its disk, mounted by what does not change."""

from __future__ import annotations

import re

import pytest

from certify.nodes.node import Node

_ENOUGH = 0.9


def test_root_fills_the_disk(node: Node) -> None:
    """Images are small and disks are large; a root that does not grow is full on the first day."""
    root = node.run_many(["findmnt -n -o SOURCE / || sed -n 's/^\\([^ ]*\\) \\/ .*/\\1/p' /proc/mounts"])[
        0
    ].text.split()[-1]
    name = root.rpartition("/")[2]
    disk = re.sub(r"p?\d+$", "", name)
    if disk == name:
        pytest.skip("its root is a whole disk, which nothing can be placed behind")
    sizes = node.run_many(
        [f"cat /sys/class/block/{disk}/size", f"cat /sys/class/block/{name}/start", "stat -f -c '%b %S' /"]
    )
    sectors, start = int(sizes[0].text), int(sizes[1].text)
    blocks, size = map(int, sizes[2].text.split())
    assert blocks * size >= (sectors - start) * 512 * _ENOUGH


def test_mounts_do_not_depend_on_device_names(node: Node) -> None:
    """/dev/sda on one platform is /dev/vda or /dev/nvme0n1 on the next."""
    lines = node.run("cat /etc/fstab").lines
    assert [line for line in lines if re.match(r"\s*/dev/(sd|vd|xvd|hd|nvme|mmcblk)", line)] == []


def test_root_is_writable_and_sound(node: Node) -> None:
    """A filesystem that met errors is remounted read-only, and everything looks well until something is written."""
    mounted = next(mount for mount in node.facts.mounts if mount.target == "/")
    assert "rw" in mounted.options or mounted.type in ("squashfs", "erofs", "overlay")
    assert node.run("cat /sys/fs/ext4/*/errors_count 2>/dev/null").text.replace("0", "").strip() == ""
