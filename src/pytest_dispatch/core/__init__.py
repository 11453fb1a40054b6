"""Domain model without I/O: values, lifecycles, and the queue with its rules."""
