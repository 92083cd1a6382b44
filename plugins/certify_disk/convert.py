"""A disk in the formats that clouds take, compared with its origin bit by bit before anybody signs that it is the same.

``raw`` (Amazon), ``vhd`` (Azure: fixed, a whole number of MiB), ``vmdk`` (VMware: stream-optimised), ``qcow2``.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from certify.errors import ImageInvalid, UsageError
from certify.images.candidate import ImageSource
from certify_disk.confined import qemu_img
from certify_disk.transport import DiskSource

_MIB = 1024 * 1024
#: Our name → qemu's format and its options.
_OUTPUTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "raw": ("raw", ()),
    "qcow2": ("qcow2", ("-c",)),
    "vhd": ("vpc", ("-o", "subformat=fixed,force_size=on")),
    "vmdk": ("vmdk", ("-o", "subformat=streamOptimized")),
}


class DiskConverter:
    """Implements :class:`certify.images.convert.Converter`."""

    formats = tuple(_OUTPUTS)

    def convert(self, source: ImageSource, form: str, target: Path) -> str:
        """Write ``target`` and return its digest. What exists is not overwritten; what fails leaves nothing.

        Raises UsageError and ImageInvalid.
        """
        if not isinstance(source, DiskSource):
            raise UsageError(f"{source.candidate.reference} is no disk image", "convert takes disks")
        if target.exists():
            raise UsageError(f"{target} exists", "name another file, or remove it")
        partial = target.with_name(f".{target.name}.partial")
        try:
            self._write(source, form, partial)
            with partial.open("rb") as file:
                digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            partial.rename(target)
        finally:
            partial.unlink(missing_ok=True)
        return digest

    @staticmethod
    def _write(source: DiskSource, form: str, target: Path) -> None:
        name, options = _OUTPUTS[form]
        target = target.absolute()
        origin, given = source.path, source.format
        if form == "vhd" and source.virtual_size % _MIB:
            raise ImageInvalid(
                f"{source.candidate.reference}: Azure takes whole MiB only, the disk has {source.virtual_size} bytes",
                "enlarge it where it is built: qemu-img resize",
            )
        qemu_img(
            "convert", "-q", "-f", given, "-O", name, *options, str(origin), str(target), reads=[origin], writes=target
        )
        qemu_img("compare", "-q", "-f", given, "-F", name, str(origin), str(target), reads=[origin, target])
