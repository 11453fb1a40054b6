"""Simulated machines: a scripted UEFI client that speaks the true protocol."""
