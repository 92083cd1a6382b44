"""Metal test nodes by Redfish: the ``metal`` platform. sushy is imported when something is used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from certify.hooks import hookimpl

if TYPE_CHECKING:
    from certify.config import Config
    from certify.nodes.platform import Platform


@hookimpl
def certify_platforms(config: Config) -> Iterable[Platform]:
    try:
        from certify_redfish.platform import RedfishPlatform
    except ImportError:  # the extra is not installed; `certify doctor` says how
        return []
    return [RedfishPlatform(config.platforms.metal, config.images)]
