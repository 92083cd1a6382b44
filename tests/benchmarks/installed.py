"""The peer of a metal boot: the same packages installed on the same node, package by package, from a mirror on the loopback.

From off to the moment the installed system, booted from its disk, says that it runs: what certify's own time means, too. The
node boots a Debian from memory and runs what an installer runs: partition, make file systems, ``mmdebstrap`` (several times
faster than the ``debootstrap`` of Debian's installer, so the peer is flattered), kernel, boot loader, power off.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from certify_metal.bmc.redfish import RedfishBmc
from certify_metal.host.image import archive
from certify_metal.host.inventory import MetalNode
from tests.benchmarks.mirror import Mirror
from tests.images.builder import CACHE, MACHINE, PACKAGES

_HOST = "10.0.2.2"  # this host, as a node of the lab sees it
_LONGEST = 3600.0
_TOOLS = (
    "mmdebstrap,debian-archive-keyring,linux-image-cloud-amd64,kmod,busybox-static,fdisk,e2fsprogs,dosfstools,mount,"
    "ca-certificates"
)
_GRUB = "set timeout=0\nlinux /linux console=ttyS0,115200 quiet\ninitrd /initrd\nboot\n"
_INIT = r"""#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev; mount -t tmpfs tmpfs /run
exec </dev/null >/dev/ttyS0 2>&1
echo "peer: up"
modprobe -a virtio_pci virtio_blk virtio_net virtio_rng ext4 vfat nls_cp437 nls_ascii efivarfs
ip() { busybox ip "$@"; }
for card in /sys/class/net/e*; do
    busybox ifconfig "${card##*/}" up
    busybox udhcpc -i "${card##*/}" -n -q -s /dhcp
done
sh -ex /install
echo "peer: ended with status $?"
sync
busybox poweroff -f
"""
_DHCP = """#!/bin/sh
[ "$1" = bound ] || exit 0
busybox ifconfig $interface $ip netmask $subnet
busybox route add default gw $router
"""
_INSTALL = r"""
while [ ! -b /dev/vda ]; do busybox usleep 100000; done
printf 'label: gpt\nsize=64MiB, type=uefi\ntype=linux\n' | sfdisk -q /dev/vda
while [ ! -b /dev/vda2 ]; do busybox usleep 100000; done
mkfs.vfat /dev/vda1
mkfs.ext4 -q -L root -F /dev/vda2
mount /dev/vda2 /mnt
mkdir -p /mnt/boot/efi
mount -t vfat /dev/vda1 /mnt/boot/efi
mmdebstrap --variant=minbase --mode=root --skip=check/empty --include=@PACKAGES@,grub-efi-amd64 bookworm /mnt @MIRROR@
printf 'LABEL=root / ext4 defaults 0 1\n' >/mnt/etc/fstab
for place in dev proc sys; do mount --rbind /$place /mnt/$place; done
printf 'GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX="console=ttyS0,115200"\n' >>/mnt/etc/default/grub
chroot /mnt grub-install --target=x86_64-efi --removable --no-nvram
chroot /mnt update-grub
printf '[Match]\nName=e*\n[Network]\nDHCP=yes\n' >/mnt/etc/systemd/network/all.network
printf '%s\n' '[Unit]' 'After=network-online.target' 'Wants=network-online.target' '[Service]' 'Type=oneshot' \
    "ExecStart=/usr/bin/python3 -c 'import urllib.request as u; u.urlopen(\"@HOME@/runs\")'" \
    '[Install]' 'WantedBy=multi-user.target' >/mnt/etc/systemd/system/runs.service
chroot /mnt systemctl enable systemd-networkd systemd-networkd-wait-online runs
umount /mnt/boot/efi
busybox umount -l /mnt
"""


def install(name: str, node: MetalNode, more: str) -> float:
    """Seconds from off to running. ``more`` names the image's packages beside those of every machine."""
    bmc = RedfishBmc(name, node)
    bmc.connect()
    bmc.ensure_off(30)
    bmc.ensure_ejected(30)
    mirror = Mirror(CACHE / "mirror")
    with tempfile.TemporaryDirectory(prefix="certify-peer-", dir=CACHE) as folder:
        work = Path(folder)
        with _Home(work) as home:
            _medium(work, f"http://{_HOST}:{mirror.port}/debian", f"http://{_HOST}:{home.port}", more)
            began = time.monotonic()
            bmc.ensure_inserted(f"http://127.0.0.1:{home.port}/peer.iso", 60)
            bmc.ensure_boot("Cd", "Once", 30)
            bmc.ensure_on(30)
            _wait(lambda: bmc.power() == "Off", began, "the installation does not end")
            bmc.ensure_ejected(30)
            bmc.ensure_boot("Hdd", "Continuous", 30)
            bmc.ensure_on(30)
            _wait(home.called.is_set, began, "what was installed does not run")
            took = time.monotonic() - began
    mirror.close()
    bmc.ensure_off(30)
    return took


def _wait(over: Callable[[], bool], began: float, why: str) -> None:
    while not over():
        if time.monotonic() - began > _LONGEST:
            raise SystemExit(f"{why} within {_LONGEST:.0f} s: see the node's console")
        time.sleep(0.5)


class _Home:
    """Serves the medium, and is called by the system that runs."""

    def __init__(self, folder: Path) -> None:
        self.called = called = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = folder / Path(self.path).name
                if self.path == "/runs":
                    called.set()
                size = path.stat().st_size if path.exists() else 0
                self.send_response(200)
                self.send_header("Content-Length", str(size))
                self.end_headers()
                if size and self.command == "GET":
                    with path.open("rb") as file:
                        self.connection.sendfile(file)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]

    def __enter__(self) -> _Home:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _medium(work: Path, mirror: str, home: str, more: str) -> None:
    tree, own = work / "iso", work / "own"
    (tree / "boot/grub").mkdir(parents=True)
    own.mkdir()
    packages = ",".join([PACKAGES, MACHINE, more])
    script = _INSTALL.replace("@PACKAGES@", packages).replace("@MIRROR@", mirror).replace("@HOME@", home)
    for name, text in (("init", _INIT), ("dhcp", _DHCP), ("install", script)):
        (own / name).write_text(text)
        (own / name).chmod(0o755)
    archive(own, work / "own.cpio", packed=False)
    kernel, system = _system()
    (tree / "initrd").write_bytes((work / "own.cpio").read_bytes() + system.read_bytes())
    (tree / "linux").write_bytes(kernel.read_bytes())
    (tree / "boot/grub/grub.cfg").write_text(_GRUB)
    command = ["grub-mkrescue", "-o", str(work / "peer.iso"), str(tree)]
    subprocess.run(command, check=True, capture_output=True)


def _system() -> tuple[Path, Path]:
    """The kernel, and a Debian with the tools of an installer as an initramfs archive; made once."""
    key = hashlib.sha256(_TOOLS.encode()).hexdigest()[:16]
    kernel, system = CACHE / f"peer-{key}.vmlinuz", CACHE / f"peer-{key}.initrd"
    if not system.exists():
        with tempfile.TemporaryDirectory(prefix="certify-peer-", dir=CACHE) as name:
            root = Path(name) / "root"
            excluded = [
                f"--dpkgopt=path-exclude={path}"
                for path in ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
            ]
            mode = "root" if os.geteuid() == 0 else "unshare"
            command = ["mmdebstrap", "--quiet", "--variant=apt", f"--mode={mode}", f"--include={_TOOLS}", *excluded]
            hook = '--customize-hook=rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/boot/initrd*'
            subprocess.run([*command, hook, "bookworm", str(root)], check=True)
            next((root / "boot").glob("vmlinuz-*")).rename(kernel)
            partial = system.with_suffix(".partial")
            archive(root, partial)
            partial.rename(system)
    return kernel, system
