"""What a device is and what surrounds it: chips, nodes, racks and sites, from facts with sources."""
