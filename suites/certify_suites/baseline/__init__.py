"""Is the system sane: packages, accounts, privileges, ssh, kernel settings?"""

from typing import Any

VERSION = "1.0"
DEFAULTS: dict[str, Any] = {
    "forbidden_packages": ["telnetd", "inetutils-telnetd", "rsh-server", "nis", "tftpd", "xinetd", "talkd"],
    "time_zone": "UTC",
    "changed_files_allowed": [],
    "login_shells_allowed": ["root", "sync"],
    "umask_max": 0o027,
    "ssh_max_auth_tries": 4,
    "sysctl_weak": {
        "kernel.randomize_va_space": ["0", "1"],
        "fs.protected_hardlinks": ["0"],
        "fs.protected_symlinks": ["0"],
        "fs.suid_dumpable": ["1", "2"],
        "net.ipv4.conf.all.accept_source_route": ["1"],
        "net.ipv4.conf.all.accept_redirects": ["1"],
        "net.ipv4.tcp_syncookies": ["0"],
        "kernel.kptr_restrict": ["0"],
    },
}
