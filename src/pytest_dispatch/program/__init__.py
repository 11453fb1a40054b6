"""The lab's program: built from a configuration, run for pytest, told what to do by lines of JSON."""
