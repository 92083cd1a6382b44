"""Which driver speaks to a node's BMC: the scheme of its address says it."""

from __future__ import annotations

from certify.errors import UsageError
from certify.processes import is_installed
from certify_metal.bmc.interface import Bmc
from certify_metal.host.inventory import MetalNode


def bmc_of(name: str, node: MetalNode) -> Bmc:
    """The node's BMC, not connected. Raises UsageError for a driver that is not installed."""
    if not node.bmc.address.startswith("ipmi:"):
        from certify_metal.bmc.redfish import RedfishBmc

        return RedfishBmc(name, node)
    if not is_installed("pyghmi"):
        raise UsageError(
            f"{name}: its BMC speaks IPMI, and pyghmi is not installed", "pip install 'pytest-certify[metal]'"
        )
    from certify_metal.bmc.ipmi import IpmiBmc

    return IpmiBmc(name, node)
