"""Where workloads come from, and how their bytes are had."""
