"""The daemon that serves leases to programs without privilege, and its client."""
