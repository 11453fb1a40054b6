"""Limits for the server's callers: who may ask, how much, and how fast."""
