"""`lab.yaml`, the configuration of a lab as a service: its keys, how it is read, and what a lab gets from it.

Loaded for `dispatch serve --config` and `dispatch config` only; needs the extra `serve`.
"""
