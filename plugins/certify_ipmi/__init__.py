"""Nodes whose BMC speaks IPMI: power, boot device and serial-over-LAN for the metal platform. pyghmi is imported when used."""
