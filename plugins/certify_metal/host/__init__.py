"""What runs on the host that tests metal nodes: it serves installers, writes plans, and keeps leases."""
