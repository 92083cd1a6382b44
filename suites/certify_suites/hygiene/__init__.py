"""Is anything in the image that should not be: identities, secrets, leftovers of the build, dangerous files?"""

from typing import Any

VERSION = "1.0"
DEFAULTS: dict[str, Any] = {
    "setuid_allowed": [
        *(
            f"{place}/{name}"
            for place in ("/usr/bin", "/bin")
            for name in (
                "chfn",
                "chsh",
                "gpasswd",
                "mount",
                "newgrp",
                "passwd",
                "su",
                "sudo",
                "umount",
                "fusermount3",
                "pkexec",
            )
        ),
        "/usr/lib/dbus-1.0/dbus-daemon-launch-helper",
        "/usr/lib/openssh/ssh-keysign",
        "/usr/lib/polkit-1/polkit-agent-helper-1",
    ],
    "setgid_allowed": [
        "/usr/bin/chage",
        "/usr/bin/expiry",
        "/usr/bin/ssh-agent",
        "/usr/bin/crontab",
        "/usr/bin/wall",
        "/usr/bin/write*",
        "/usr/sbin/unix_chkpwd",
        "/usr/bin/dotlockfile",
        "/var/local",
        "/var/mail",
        "/var/log/journal*",
        "/run/log/journal*",
    ],
    "world_writable_allowed": [],
    "unowned_allowed": [],
    "capabilities_allowed": ["/usr/bin/ping", "/bin/ping"],
    "private_keys_allowed": [],
    "secrets_allowed": [],
    "logs_allowed": [],
    "build_tools_allowed": [],
    "search_in": [
        "/etc",
        "/root",
        "/home",
        "/opt",
        "/srv",
        "/usr/local",
        "/app",
        "/var/lib",
        "/var/www",
        "/usr/src",
        "/certs",
        "/tls",
    ],
}
