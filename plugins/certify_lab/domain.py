"""A virtual metal node as libvirt's XML: what a small server has, on emulated hardware."""

from __future__ import annotations

from pathlib import Path

from certify_libvirt.domain import TRANSLATIONS

ROOT_GIB, DATA_GIB = 8, 1
_MEMORY_MIB = 1024
_CPUS = 2
#: What DHCP tells a node that boots from the network to load.
BOOT_PROGRAM = "certify.efi"
_OVMF = "/usr/share/OVMF/OVMF_CODE_4M.fd"


def node_xml(name: str, identity: str, folder: Path, netboot: Path, *, kvm: bool) -> str:
    """Two disks (serials ``root`` and ``data``), one network card, UEFI, a serial line that is kept in a file and offered on a
    socket. DHCP names a boot program below ``netboot``: that is QEMU's own user network, of which libvirt knows less.
    """
    disks = "".join(
        f"<disk type='file' device='disk'><driver name='qemu' type='raw' cache='writeback' discard='unmap'/>"
        f"<source file='{folder}/{disk}'/><target dev='{target}' bus='virtio'/><serial>{disk}</serial></disk>"
        for disk, target in (("root", "vda"), ("data", "vdb"))
    )
    processor = "<cpu mode='host-passthrough'/>" if kvm else ""
    return f"""<domain type='{"kvm" if kvm else "qemu"}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>{name}</name><uuid>{identity}</uuid>
<memory unit='MiB'>{_MEMORY_MIB}</memory><vcpu>{_CPUS}</vcpu>{processor}
<os><type arch='x86_64' machine='q35'>hvm</type>
<loader readonly='yes' type='pflash'>{_OVMF}</loader><nvram>{folder}/nvram</nvram><boot dev='hd'/></os>
<features><acpi/>{"" if kvm else TRANSLATIONS}</features>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices>{disks}
<interface type='user'><model type='virtio'/><alias name='ua-net'/></interface>
<serial type='unix'><source mode='bind' path='{folder}/console.sock'/><log file='{folder}/console.log' append='on'/>
<target port='0'/></serial>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
<video><model type='vga'/></video>
</devices>
<qemu:commandline>
<qemu:arg value='-netdev'/><qemu:arg value='user,id=site,tftp={netboot},bootfile={BOOT_PROGRAM}'/>
</qemu:commandline>
<qemu:override><qemu:device alias='ua-net'><qemu:frontend>
<qemu:property name='netdev' type='string' value='site'/>
</qemu:frontend></qemu:device></qemu:override>
</domain>"""
