"""Simulated machines: a scripted UEFI client that speaks the real protocol."""
