"""The domain XML of a node (libvirt.org/formatdomain.html): pure text from a profile and the node's files."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from certify_libvirt.access import AGENT_PORT, DEBUG_SHELL, credentials, shell_ports

_OVMF = "/usr/share/OVMF"
#: Firmware → its code and the template of its variables (Debian's ovmf); secure boot's has Microsoft's keys enrolled.
FIRMWARE_FILES = {
    "uefi": (f"{_OVMF}/OVMF_CODE_4M.fd", f"{_OVMF}/OVMF_VARS_4M.fd"),
    "uefi-secure": (f"{_OVMF}/OVMF_CODE_4M.ms.fd", f"{_OVMF}/OVMF_VARS_4M.ms.fd"),
}
NODE_NAMESPACE = "https://certify.dev/node"
_FIRST_NIC_SLOT = 0x10
_SMBIOS = '<smbios mode="sysinfo"/>'


@dataclass(frozen=True)
class Profile:
    """The machine: what a memory snapshot depends on beside the disk. ``memory`` in bytes; ``access`` the ways in that it
    offers, none for a machine that serves."""

    acceleration: str
    firmware: str
    memory: int
    cpus: int
    nics: int
    network: str
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""
    access: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeFiles:
    """A node's files, by path on the hypervisor's side. ``sockets`` is a directory for its sockets, empty where the daemon
    chooses. ``forwards`` are ports of the hypervisor's address ``listen`` that lead to the guest's. ``ram`` is the file behind
    its memory: shared while a snapshot is made, private in a fork."""

    disk: str
    seed: str = ""
    data: str = ""
    nvram: str = ""
    sockets: str = ""
    ram: str = ""
    ram_shared: bool = False
    incoming: bool = False
    forwards: dict[int, int] = field(default_factory=dict)
    listen: str = "127.0.0.1"


#: After a reset QEMU still has its translations of what an emulated guest ran before. Firmware that writes to memory which held
#: such code is a thousand times slower there, and stands still when its timer's handler does; with a small buffer little is left.
TRANSLATIONS = '<tcg><tb-cache unit="MiB">64</tb-cache></tcg>'


def marks_xml(what: str, namespace: str, marks: dict[str, str]) -> str:
    """What is kept in a domain for those who find it later: an element of libvirt's ``<metadata>``."""
    place = f"{{{namespace}}}" if namespace else ""
    element = ElementTree.Element(f"{place}{what}")
    for key, value in marks.items():
        ElementTree.SubElement(element, f"{place}{key}").text = value
    return ElementTree.tostring(element, "unicode")


def domain_xml(name: str, profile: Profile, files: NodeFiles, marks: str) -> str:
    """The whole document. ``marks`` are from :func:`marks_xml`."""
    kvm = profile.acceleration == "kvm"
    return f"""<domain type="{"kvm" if kvm else "qemu"}" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
<name>{name}</name>
<metadata>{marks}</metadata>
<memory unit="b">{profile.memory}</memory>
<vcpu>{profile.cpus}</vcpu>
<os>{_boot(profile, files)}{_SMBIOS if "credentials" in profile.access else ""}</os>
{_sysinfo(profile)}
<features><acpi/><apic/>{'<smm state="on"/>' if profile.firmware == "uefi-secure" else ""}{"" if kvm else TRANSLATIONS}</features>
<cpu mode="{"host-passthrough" if kvm else "maximum"}"/>
<clock offset="utc"/>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>preserve</on_crash>
<genid/>
<devices>
{_disks(files)}
<controller type="virtio-serial" index="0"/>
{_serial(files, 0, "console")}{_serial(files, 1, "debug") if profile.kernel and profile.access else ""}
{"".join(_port(name, files) for name in port_names() if profile.access)}
<video><model type="vga" vram="16384"/></video>
<rng model="virtio"><backend model="random">/dev/urandom</backend></rng>
<memballoon model="none"/>
<panic model="isa"/>
</devices>
{_commandline(profile, files)}
</domain>"""


def _sysinfo(profile: Profile) -> str:
    entries = "".join(f"<entry>{entry}</entry>" for entry in credentials())
    return (
        f'<sysinfo type="smbios"><oemStrings>{entries}</oemStrings></sysinfo>'
        if "credentials" in profile.access
        else ""
    )


def port_names() -> list[str]:
    """Every virtio-serial port a node has from the start."""
    return [name for port in shell_ports() for name in (port.both, port.errors)] + [AGENT_PORT]


def wake_port(name: str, files: NodeFiles) -> str:
    """A port to plug in while the guest runs."""
    return _port(name, files)


def _boot(profile: Profile, files: NodeFiles) -> str:
    machine = '<type arch="x86_64" machine="q35">hvm</type>'
    if profile.firmware in FIRMWARE_FILES:
        code, template = FIRMWARE_FILES[profile.firmware]
        secure = ' secure="yes"' if profile.firmware == "uefi-secure" else ""
        machine += f'<loader readonly="yes"{secure} type="pflash">{code}</loader>'
        machine += (
            f"<nvram template={quoteattr(template)}>{_text(files.nvram)}</nvram>"
            if files.nvram
            else f"<nvram template={quoteattr(template)}/>"
        )
    if profile.kernel:
        initrd = f"<initrd>{_text(profile.initrd)}</initrd>" if profile.initrd else ""
        cmdline = f"<cmdline>{_text(f'{profile.cmdline} {DEBUG_SHELL}')}</cmdline>"
        return f"{machine}<kernel>{_text(profile.kernel)}</kernel>{initrd}{cmdline}"
    return f'{machine}<boot dev="hd"/>'


def _disks(files: NodeFiles) -> str:
    def disk(path: str, target: str, *, kind: str = "disk", form: str = "qcow2") -> str:
        bus = "virtio" if kind == "disk" else "scsi"  # kernels for clouds have virtio drivers and no SATA
        cache = ' cache="unsafe"' if kind == "disk" else ""
        serial = f"<serial>certify-{target}</serial>" if kind == "disk" else "<readonly/>"
        return (
            f'<disk type="file" device="{kind}"><driver name="qemu" type="{form}"{cache}/><source file={quoteattr(path)}/>'
            f'<target dev="{target}" bus="{bus}"/>{serial}</disk>'
        )

    found = disk(files.disk, "vda")
    found += disk(files.data, "vdb") if files.data else ""
    if files.seed:
        found += disk(files.seed, "sda", kind="cdrom", form="raw") + '<controller type="scsi" model="virtio-scsi"/>'
    return found


def _serial(files: NodeFiles, number: int, name: str) -> str:
    if files.sockets:
        source = f'<serial type="unix"><source mode="bind" path={quoteattr(f"{files.sockets}/{name}")}/>'
    else:
        source = '<serial type="pty">'
    return f'{source}<target port="{number}"/><alias name="ua-{name}"/></serial>'


def _port(name: str, files: NodeFiles) -> str:
    source = f'<source mode="bind" path={quoteattr(f"{files.sockets}/{name}")}/>' if files.sockets else ""
    return f'<channel type="unix">{source}<target type="virtio" name="{name}"/></channel>'


def _commandline(profile: Profile, files: NodeFiles) -> str:
    arguments: list[str] = []
    for number in range(profile.nics):
        options = ["user", f"id=net{number}"] + (["restrict=on"] if profile.network == "internal" else [])
        if number == 0:
            options += [f"hostfwd=tcp:{files.listen}:{outside}-:{inside}" for outside, inside in files.forwards.items()]
        mac = f"52:54:00:ce:27:{number:02x}"
        slot = f"bus=pcie.0,addr={_FIRST_NIC_SLOT + number:#x}"
        arguments += [
            "-netdev",
            ",".join(options),
            "-device",
            f"virtio-net-pci,netdev=net{number},mac={mac},romfile=,{slot}",
        ]
    if files.ram:
        share = "on" if files.ram_shared else "off"
        backend = f"memory-backend-file,id=certify-ram,mem-path={files.ram},size={profile.memory},share={share}"
        arguments += ["-object", backend, "-machine", "memory-backend=certify-ram"]
    if files.incoming:
        arguments += ["-incoming", "defer"]
    if profile.firmware == "bios":
        arguments += ["-machine", "graphics=off"]  # SeaBIOS speaks on the serial console too
    return (
        "<qemu:commandline>" + "".join(f"<qemu:arg value={quoteattr(a)}/>" for a in arguments) + "</qemu:commandline>"
    )


def _text(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;")
