"""Doubles and contract suites for tests, ours and our users'."""
