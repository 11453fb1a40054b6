"""The boot path: requests of firmware, messages of workloads, and the sending of files."""
