"""Reads workloads' reports (JSON, JUnit, TAP, KTAP), and writes results (timelines, JUnit files)."""
