"""`beacon`: reports from inside a workload that it runs, and its result.

It runs on machines that have just booted, so it needs only Python 3.6 or newer and its standard library, and imports
nothing else of this package. `archive.py` packs it into a single file, beacon.pyz, in which this folder is a top-level
package; that is why its imports are relative.
"""
