"""Machines that a lab brings up itself, a file for each kind."""
