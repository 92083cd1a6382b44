"""What speaks to a node's BMC: one interface, one file per protocol."""
