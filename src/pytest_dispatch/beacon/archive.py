"""Make beacon.pyz, `beacon` as a single file for machines that have Python and nothing else of this package.

    python src/pytest_dispatch/beacon/archive.py beacon.pyz

The bytes depend on the sources alone, not on when, where and by which Python it is made.
"""

import errno
import io
import sys
import zipfile
from pathlib import Path

_START = b"#!/usr/bin/env python3\n"
_MAIN = """import sys

if sys.version_info < (3, 6):  # no newer syntax up to here
    sys.exit("beacon: expected Python 3.6 or newer, this is %d.%d" % sys.version_info[:2])

from beacon.command import main

sys.exit(main())
"""
_NOT_IN_IT = ("archive.py", "__main__.py")


def archive() -> bytes:
    """Return the file: a zip archive that Python runs.

    Raises:
        OSError: The sources cannot be read.
    """
    folder = Path(__file__).parent
    sources = sorted(path for path in folder.glob("*.py") if path.name not in _NOT_IN_IT)
    if not sources:  # an installation of compiled files alone
        raise FileNotFoundError(errno.ENOENT, "no sources here", str(folder))
    file = io.BytesIO()
    file.write(_START)
    with zipfile.ZipFile(file, "w") as inside:
        _put(inside, "__main__.py", _MAIN.encode())
        for path in sources:
            _put(inside, f"beacon/{path.name}", path.read_bytes())
    return file.getvalue()


def _put(inside: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Add a file as it is: what a compressor makes of it depends on the compressor."""
    entry = zipfile.ZipInfo(name)  # of 1980
    entry.create_system = 3  # Unix, wherever it is made
    entry.external_attr = 0o644 << 16
    inside.writestr(entry, data)


def main(path: Path) -> None:
    """Write the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = archive()
    path.write_bytes(data)
    path.chmod(0o755)
    print(f"{path}: {len(data)} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("expected where to write it, as in: archive.py beacon.pyz")
    try:
        main(Path(sys.argv[1]))
    except OSError as error:
        sys.exit(f"cannot make beacon.pyz: {error.filename}: {error.strerror}")
