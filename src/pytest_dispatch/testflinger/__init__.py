"""Testflinger: the API of its server, version 1."""
