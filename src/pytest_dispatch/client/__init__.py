"""The lab's HTTP API for Python callers: what pytest's side, and one day other programs, ask a lab by."""
