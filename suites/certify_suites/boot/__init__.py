"""Does the system come up whole: target reached, nothing failed, nothing logged as an error, and again after a restart?"""

from typing import Any

VERSION = "1.0"
DEFAULTS: dict[str, Any] = {
    "target": "multi-user.target",
    "failed_units_allowed": [],
    "journal_errors_allowed": [],
    "console_allowed": [],
    "not_running_allowed": ["getty@*", "console-getty.service", "serial-getty@*", "e2scrub_reap.service"],
}
