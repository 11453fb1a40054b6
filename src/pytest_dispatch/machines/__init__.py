"""Machines that a lab starts itself, one package for each kind."""
