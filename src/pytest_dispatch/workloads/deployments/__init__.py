"""Deployments: Testflinger's agents install machines of a MAAS, and the lab judges by what really happened."""
