"""Is one image the same system on every platform? Compares the facts of its nodes, pair by pair."""

from typing import Any

VERSION = "1.0"
#: ``kind:name`` patterns of what platforms cannot have in common, or what a boot makes anew on each.
DEFAULTS: dict[str, Any] = {
    "allowed": [
        "kernel:*",
        "sysctls:*",
        "units:*.mount",
        "units:*.automount",
        "units:*.swap",
        "units:*.device",
        "units:*.slice",
        "units:*.scope",
        "units:*.timer",
        "units:*.socket",
        "units:*.path",
        "units:certify-*",
        "units:*getty*",
        "units:systemd-*",
        "units:modprobe@*",
        "units:user*",
        "units:kmod*",
        "units:*.target",
        "units:e2scrub*",
        "units:ldconfig.service",
        "units:emergency.service",
        "units:rescue.service",
        "units:initrd-*",
        "units:apt-daily*",
        "units:fstrim.service",
        "units:dpkg-db-backup.service",
        "units:networking.service",
        "units:ssh-host-keys.service",
        "config_files:/etc/hostname",
        "config_files:/etc/hosts",
        "config_files:/etc/resolv.conf",
        "config_files:/etc/mtab",
        "config_files:/etc/machine-id",
        "config_files:/etc/ssh/ssh_host_*",
        "config_files:/etc/.updated",
        "config_files:/etc/ld.so.cache",
        "sockets:udp*/*/68",
        "sockets:udp*/*/546",
        "sockets:*/127.0.0.11/*",
    ],
}
