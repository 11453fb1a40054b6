"""The lab as a program: built from a configuration, and controlled by its parent with lines of JSON."""
