"""MAAS (Metal as a Service): its API, version 2.0."""
