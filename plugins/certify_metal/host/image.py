"""Builds the installer's boot medium: an ISO image for UEFI and BIOS, from Debian packages, kept by the digest of its recipe.

For each attempt a few bytes of it are replaced while it is served: the attempt's configuration, in an initramfs archive of
its own (:func:`configured`). So a medium is built once and every attempt boots bytes that nobody else gets. Beside the ISO
lie its kernel and archives by themselves, for nodes that boot from the network (:mod:`certify_metal.host.netboot`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec

from certify.errors import EngineUnavailable
from certify.files import write_whole
from certify.images.store import Store
from certify.locks import locked

#: Bytes of configuration that an attempt may have.
CONFIG_SIZE = 16384
_PACKAGES = "busybox-static,kmod,python3-minimal,libpython3-stdlib,openssl,linux-image-amd64"
_SUITE = "bookworm"
_DRIVERS = """
virtio_pci virtio_blk virtio_scsi virtio_net virtio_rng ahci ata_piix sd_mod nvme usb_storage uas xhci_pci ehci_pci
megaraid_sas mpt3sas hpsa smartpqi aacraid mptsas vmw_pvscsi sdhci_pci mmc_block
e1000 e1000e igb igc ixgbe i40e ice tg3 bnxt_en bnx2x be2net mlx4_en mlx5_core qede r8169 vmxnet3 ena hv_netvsc hv_storvsc
efivarfs tpm_tis tpm_crb
"""
_LEFT_OUT = ("test", "idlelib", "lib2to3", "pydoc_data", "ensurepip", "distutils", "unittest", "xml", "sqlite3", "dbm")
_UNUSED = (
    "libsqlite",
    "libdb-",
    "libncurses",
    "libreadline",
    "libtirpc",
    "libnsl",
    "libtic",
    "libpanel",
    "libform",
    "libmenu",
)
#: What the kernel is told, however it was loaded.
ARGUMENTS = "console=tty0 console=ttyS0,115200 quiet panic=10"
ISO, KERNEL, INITRD, CONFIG = "installer.iso", "vmlinuz", "initrd.img", "config.img"
_GRUB = f"""set timeout=0
terminal_input console
terminal_output console
insmod all_video
set gfxpayload=keep
linux /{KERNEL} {ARGUMENTS}
initrd /{INITRD} /{CONFIG}
boot
"""
_TOOLS = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_NEEDS = "apt-get install mmdebstrap busybox-static kmod zstd grub-common grub-pc-bin grub-efi-amd64-bin xorriso mtools"


@dataclass(frozen=True)
class BootMedium:
    """The installer's files in ``folder``, and of those that carry the attempt's configuration the byte where it begins."""

    folder: Path
    config_at: dict[str, int]


def recipe_digest() -> str:
    """Changes whenever anything that is ours and goes into the medium does."""
    own = resources.files("certify_metal.node") / "installer"
    parts = [_PACKAGES, _SUITE, _DRIVERS, _GRUB, str(CONFIG_SIZE)]
    parts += [part.read_text() for part in sorted(own.iterdir(), key=lambda p: p.name) if part.is_file()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def medium(store: Store) -> BootMedium:
    """The medium, from the store or built now (about a minute). Raises EngineUnavailable with what is missing."""
    folder = store.folder("installer") / recipe_digest()
    with locked(folder.with_suffix(".lock")):
        if not (folder / "places").exists():
            _build(folder)
    return BootMedium(folder, msgspec.json.decode((folder / "places").read_bytes(), type=dict[str, int]))


def configured(config: bytes) -> bytes:
    """The bytes that take the placeholder's place. Raises EngineUnavailable when they do not fit."""
    if len(config) > CONFIG_SIZE:
        raise EngineUnavailable("the attempt's configuration does not fit into the medium", "use a shorter address")
    return config.ljust(CONFIG_SIZE)


def _build(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="certify-installer-", dir=folder.parent) as place:
        work = Path(place)
        tree, iso = work / "tree", work / "iso"
        (iso / "boot/grub").mkdir(parents=True)
        mode = "root" if os.geteuid() == 0 else "unshare"
        run_tool(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=extract",
                f"--mode={mode}",
                f"--include={_PACKAGES}",
                _SUITE,
                f"{tree}.tar",
            ]
        )
        tree.mkdir()
        run_tool(["tar", "-x", "-C", str(tree), "-f", f"{tree}.tar", "--no-same-owner", "--exclude=./dev/*"])
        root = _select(tree, work / "root")
        shutil.copy(next((tree / "boot").glob("vmlinuz-*")), iso / KERNEL)
        archive(root, iso / INITRD)
        config = work / "config"
        (config / "certify").mkdir(parents=True)
        mark = os.urandom(32).hex().encode()
        (config / "certify/config.json").write_bytes(mark.ljust(CONFIG_SIZE))
        archive(config, iso / CONFIG, packed=False)
        (iso / "boot/grub/grub.cfg").write_text(_GRUB)
        run_tool(
            [
                "grub-mkrescue",
                "-o",
                str(work / ISO),
                str(iso),
                "--fonts=",
                "--locales=",
                "--themes=",
            ]
        )
        folder.mkdir(exist_ok=True)
        (work / ISO).replace(iso / ISO)
        places = {name: _place(iso / name, mark) for name in (ISO, CONFIG)}
        for name in (ISO, KERNEL, INITRD, CONFIG):
            (iso / name).replace(folder / name)
        write_whole(folder / "places", msgspec.json.encode(places))


def _place(path: Path, mark: bytes) -> int:
    """The one byte at which the configuration begins."""
    content = path.read_bytes()
    at = content.find(mark)
    if at < 0 or content.find(mark, at + 1) >= 0:
        raise EngineUnavailable(
            f"the installer's {path.name} has no place for its configuration", "report this as a defect"
        )
    return at


def _select(tree: Path, root: Path) -> Path:
    """Of the extracted packages, what the installer runs."""
    version = next((tree / "lib/modules").iterdir()).name
    run_tool(["depmod", "-b", str(tree), version])
    for name in ("bin/busybox", "bin/kmod", "usr/bin/openssl", "usr/bin/python3.11", "etc/ssl/openssl.cnf"):
        _copy(tree, root, name)
    for folder in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"):
        for library in (tree / folder).glob("*.so*"):
            if not library.name.startswith(_UNUSED):
                _copy(tree, root, str(library.relative_to(tree)))
    _copy(tree, root, "lib64/ld-linux-x86-64.so.2")
    shutil.copytree(
        tree / "usr/lib/python3.11", root / "usr/lib/python3.11", symlinks=True,
        ignore=shutil.ignore_patterns("__pycache__", "config-3*", *_LEFT_OUT),
    )  # fmt: skip
    for link, target in (("usr/bin/python3", "python3.11"), ("usr/sbin/modprobe", "/bin/kmod")):
        (root / link).parent.mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(target)
    _modules(tree, root, version)
    own = resources.files("certify_metal.node") / "installer"
    (root / "certify/installer").mkdir(parents=True)
    for part in own.iterdir():
        if part.name in ("init", "dhcp"):
            program = root / ("init" if part.name == "init" else "certify/dhcp")
            program.write_text(part.read_text())
            program.chmod(0o755)
        elif part.name.endswith(".py"):
            (root / "certify/installer" / part.name).write_text(part.read_text())
    return root


def _copy(tree: Path, root: Path, name: str) -> None:
    """A file and, where it is a link, what it leads to; both at their places."""
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2((tree / name).resolve(), target)


def _modules(tree: Path, root: Path, version: str) -> None:
    """The drivers and all that they depend on, with the tables that modprobe reads."""
    source, target = tree / "lib/modules" / version, root / "lib/modules" / version
    target.mkdir(parents=True)
    wanted: set[str] = set()
    for driver in _DRIVERS.split():
        done = subprocess.run(
            ["modprobe", "-d", str(tree), "-S", version, "--show-depends", driver],
            capture_output=True, text=True, check=False, env=_TOOLS,
        )  # fmt: skip
        wanted |= {line.split()[1] for line in done.stdout.splitlines() if line.startswith("insmod")}
    for path in wanted:
        inside = (
            Path(path).relative_to(source) if path.startswith(str(source)) else Path(path.split(f"{version}/", 1)[1])
        )
        (target / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / inside, target / inside)
    for table in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy2(source / table, target / table)
    run_tool(["depmod", "-b", str(root), version])


def archive(root: Path, target: Path, *, packed: bool = True) -> None:
    """An initramfs archive (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst), everything root's."""
    names = "\n".join(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
    command = ["busybox", "cpio", "-o", "-H", "newc", "-R", "0:0"]
    done = subprocess.run(command, input=names.encode(), cwd=root, capture_output=True, check=True, env=_TOOLS)
    target.write_bytes(done.stdout)
    if packed:
        run_tool(["zstd", "-q", "-12", "--rm", str(target), "-o", f"{target}.zst"])
        Path(f"{target}.zst").replace(target)


def run_tool(command: list[str]) -> None:
    """Run a program of the system's. Raises EngineUnavailable with its last word, or with what is missing."""
    try:
        subprocess.run(command, check=True, capture_output=True, env=_TOOLS, text=True)
    except FileNotFoundError:
        raise EngineUnavailable(f"the installer cannot be built: {command[0]} is missing", _NEEDS) from None
    except subprocess.CalledProcessError as error:
        words = (error.stderr.strip().splitlines() or ["no word"])[-1]
        raise EngineUnavailable(f"the installer cannot be built: {command[0]}: {words[:200]}", _NEEDS) from None
