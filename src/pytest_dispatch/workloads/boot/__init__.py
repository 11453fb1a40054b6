"""Workloads that machines boot over UEFI HTTP boot, and that report by a beacon."""
