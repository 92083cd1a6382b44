"""Is it at home on this hardware: the right disk, every card seen, firmware and drivers there, data disks untouched?"""

from typing import Any

VERSION = "1.0"
DEFAULTS: dict[str, Any] = {
    "dmesg_allowed": ["regulatory.db"],
    "drivers_missing_allowed": [],
    "memory_part": 0.9,
    "events_allowed": [],
}
