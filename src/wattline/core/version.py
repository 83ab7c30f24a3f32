"""Which Wattline this is (semantic versioning, see CHANGELOG.md)."""

__version__ = "0.2.0.dev0"
