"""Machines that MAAS has: powered on and off by it, and lent by it."""
