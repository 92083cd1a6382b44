"""Does the image behave as a container should: ports, user, signals, logs, code that cannot be changed?"""

from typing import Any

VERSION = "1.0"
DEFAULTS: dict[str, Any] = {
    "undeclared_ports_allowed": [],
    "root_ports": [22],
    "stop_seconds": 10,
    "labels_required": ["org.opencontainers.image.version"],
    "writable_code_allowed": [],
}
