"""`beacon`: says from inside a workload that it runs, and what came of it.

It runs on machines that have just booted, so it stands alone: Python 3.6 or newer and its standard library, and nothing
else of this package. `archive.py` makes a single file of it, beacon.pyz, in which this folder is a package of its own:
hence the relative imports.
"""
