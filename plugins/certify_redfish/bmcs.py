"""Which driver speaks to a node's BMC: the scheme of its address says it."""

from __future__ import annotations

from certify.errors import UsageError
from certify.nodes.inventory import MetalNode
from certify_redfish.bmc import Bmc


def bmc_of(name: str, node: MetalNode) -> Bmc:
    """The node's BMC, not connected. Raises UsageError for a driver that is not installed."""
    if not node.bmc.address.startswith("ipmi:"):
        from certify_redfish.redfish import RedfishBmc

        return RedfishBmc(name, node)
    try:
        from certify_ipmi.bmc import IpmiBmc
    except ImportError:
        raise UsageError(
            f"{name}: its BMC speaks IPMI, and pyghmi is not installed", "pip install 'certify[metal]'"
        ) from None
    return IpmiBmc(name, node)
