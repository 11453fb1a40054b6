"""Test doubles and contract suites, for this project's tests and for those of its users."""
