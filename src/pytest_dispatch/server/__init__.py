"""The HTTP server: boot, beacon, API."""
