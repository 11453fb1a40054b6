"""The kinds of workloads, one package for each: payload, lifecycle, and the service that carries them out."""
