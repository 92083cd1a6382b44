"""Does cloud-init do what it is told, without errors, and only once?"""

from typing import Any

VERSION = "1.0"
DEFAULTS: dict[str, Any] = {
    "datasource": "nocloud",
    "warnings_allowed": ["Getting data from <class", "did not find any data"],
}
