"""Boot workloads: machines boot them over UEFI HTTP boot, and they report by a beacon."""
