"""Find the URLs in the EFI boot options that this machine may have been booted by."""

import re
from pathlib import Path
from typing import Callable, List, Tuple

from .urls import is_url

#: Told what was looked for in vain, one line each.
Note = Callable[[str], None]

_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"  # EFI_GLOBAL_VARIABLE, UEFI 2.10, section 3.3
_OPTION = re.compile(rf"Boot[0-9A-F]{{4}}-{_GLOBAL}", re.IGNORECASE)
_MOST = 65536  # bytes of a variable; firmware keeps them far smaller
_MAC, _URI = (0x03, 0x0B), (0x03, 0x18)  # messaging device path nodes, UEFI 2.10, sections 10.3.4.11 and .23
_END = 0x7F


def boot_urls(folder: Path, note: Note) -> List[str]:
    """Return the URLs of all boot options that lead over the network, the one that was booted first.

    Args:
        folder: efivarfs: each variable a file named `NAME-GUID`, four bytes of attributes before the value.
        note: Told why there are none.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if _OPTION.fullmatch(path.name))
    except OSError as error:
        note(f"EFI variables: {folder}: {error.strerror}")
        return []
    current = _read(folder / f"BootCurrent-{_GLOBAL}", lambda _: None)[4:6]
    booted = f"BOOT{int.from_bytes(current, 'little'):04X}" if len(current) == 2 else ""
    names.sort(key=lambda name: name[:8].upper() != booted)
    urls = [boot_url(_read(folder / name, note)) for name in names]
    found = list(dict.fromkeys(url for url in urls if is_url(url)))
    if not found:
        note(f"EFI variables: {folder}: none of {len(names)} boot options holds a URL behind a MAC address")
    return found


def _read(path: Path, note: Note) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST)
    except OSError as error:
        note(f"EFI variables: {path}: {error.strerror}")
        return b""


def boot_url(variable: bytes) -> str:
    """Return the URL in a boot option: the last node of its device path, if a MAC address stands before it.

    Args:
        variable: Attributes, then an EFI_LOAD_OPTION (UEFI 2.10, section 3.1.3).

    Returns:
        The URL, or nothing where there is none or the variable is cut short.
    """
    option = variable[4:]
    path_at = next((at + 2 for at in range(6, len(option) - 1, 2) if option[at : at + 2] == b"\0\0"), 0)
    if not path_at:
        return ""
    length = int.from_bytes(option[4:6], "little")
    nodes = _nodes(option[path_at : path_at + length])
    kinds = [kind for kind, _ in nodes]
    if not nodes or kinds[-1] != _URI or _MAC not in kinds:
        return ""
    return nodes[-1][1].rstrip(b"\0").decode("ascii", "replace")


def _nodes(path: bytes) -> List[Tuple[Tuple[int, int], bytes]]:
    """Return kind and data of each node of the first device path (UEFI 2.10, 10.3.1); none if it is cut short."""
    nodes: List[Tuple[Tuple[int, int], bytes]] = []
    at = 0
    while at + 4 <= len(path) and path[at] != _END:
        length = int.from_bytes(path[at + 2 : at + 4], "little")
        if length < 4 or at + length > len(path):
            return []
        nodes.append(((path[at], path[at + 1]), path[at + 4 : at + length]))
        at += length
    return nodes
