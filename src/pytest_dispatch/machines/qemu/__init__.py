"""QEMU machines: real UEFI firmware that boots over HTTP from the lab."""
