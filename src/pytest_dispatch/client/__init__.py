"""A Python client of the lab's HTTP API, used by the pytest plugin."""
