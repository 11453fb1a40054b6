"""Terminal output: the header, the live table, and lines about changes."""
