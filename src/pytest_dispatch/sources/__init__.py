"""Sources of workloads, and the cache that gets their bytes."""
