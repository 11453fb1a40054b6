"""The boot path: what firmware asks, what workloads say, and the bytes that go out."""
