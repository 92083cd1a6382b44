"""Is it a good machine: firmware, disk, time, console, power, kernel, ssh, and the time it takes to boot?"""

from typing import Any

VERSION = "1.0"
DEFAULTS: dict[str, Any] = {
    "boot_budget_seconds": 6,
    "taint_allowed": 0,
    "clock_seconds": 5,
    "unsafe_cmdline": ["mitigations=off", "nopti", "nokaslr", "selinux=0", "apparmor=0", "nosmep", "nosmap"],
}
