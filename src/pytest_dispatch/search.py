"""Where a booted workload finds its server: in the EFI variables that it was booted by, else on the local network.

Standard library alone, so that `beacon` starts fast; zeroconf is imported when the network is searched. Which server
took the boot message is noted until the machine is reset, so that the report goes there too.
"""

from __future__ import annotations

import ipaddress
import os
import queue
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from pytest_dispatch.core.duration import format_duration

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, Zeroconf

#: Told what was looked for in vain, one line each.
Note = Callable[[str], None]

SERVICE = "_dispatch._tcp.local."
PATH = "/dispatch"  # where a server answers that does not say where

_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"  # EFI_GLOBAL_VARIABLE, UEFI 2.10, section 3.3
_OPTION = re.compile(rf"Boot[0-9A-F]{{4}}-{_GLOBAL}", re.IGNORECASE)
_MOST = 65536  # bytes of a variable; firmware keeps them far smaller
_MAC, _URI = (0x03, 0x0B), (0x03, 0x18)  # messaging device path nodes, UEFI 2.10, sections 10.3.4.11 and .23
_END = 0x7F
_RESOLVE = 3.0  # seconds for the addresses of a server that was announced
_NAMES = 32  # servers of which the addresses are asked for in one search
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # another one after each reset


def is_url(text: str) -> bool:
    """Whether this is an http or https URL with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, or a broken IPv6 address
        return False


def without_query(url: str) -> str:
    """The URL as it may be shown: its query holds the machine's token."""
    return url.partition("?")[0]


def remember(url: str) -> None:
    """Note which server took the boot message; where nothing can be written, each search begins anew."""
    with suppress(OSError):
        note = _note_file()
        note.touch(0o600)  # the URL may hold the machine's token
        note.write_text(url)


def remembered() -> str:
    """The server that took the boot message, if that is noted."""
    with suppress(OSError, UnicodeError):
        url = _note_file().read_text()
        return url if is_url(url) else ""
    return ""


def forget() -> None:
    """Drop the note: a workload that says anew that it runs may have found another server."""
    with suppress(OSError):
        _note_file().unlink()


def _note_file() -> Path:
    """In a folder that nobody else may write to; named for this run of the system, so that an old note counts no more.

    Raises:
        OSError: There is none.
    """
    folder = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR")
    folder = os.environ.get("DISPATCH_RUN") or folder  # the former for tests
    if not folder:
        raise FileNotFoundError
    return Path(folder, f"dispatch-beacon-{_BOOT_ID.read_text().strip()}")


def boot_urls(folder: Path, note: Note) -> list[str]:
    """URLs of all boot options that lead over the network, the one that was booted first.

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
    """The URL in a boot option: the last node of its device path, if a MAC address stands before it.

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


def _nodes(path: bytes) -> list[tuple[tuple[int, int], bytes]]:
    """Kind and data of each node of the first device path (UEFI 2.10, section 10.3.1); none if it is cut short."""
    nodes: list[tuple[tuple[int, int], bytes]] = []
    at = 0
    while at + 4 <= len(path) and path[at] != _END:
        length = int.from_bytes(path[at + 2 : at + 4], "little")
        if length < 4 or at + length > len(path):
            return []
        nodes.append(((path[at], path[at + 1]), path[at + 4 : at + length]))
        at += length
    return nodes


def announced_urls(seconds: float, note: Note, interfaces: Sequence[str] | None = None) -> Iterator[str]:
    """URLs of the servers that announce themselves over mDNS, as they answer.

    Args:
        seconds: How long to listen.
        note: Told what went wrong, or that nobody answered.
        interfaces: Addresses of the interfaces to listen on, and then whatever is announced there; None for all
            interfaces, and then without addresses that mean another computer here than there.
    """
    try:
        import zeroconf
    except ImportError:
        note("mDNS: not searched, the Python package zeroconf is not installed")
        return
    try:
        network = zeroconf.Zeroconf(interfaces=list(interfaces) if interfaces else zeroconf.InterfaceChoice.All)
    except (OSError, RuntimeError, zeroconf.Error) as error:  # RuntimeError: no interface at all
        note(f"mDNS: not searched: {getattr(error, 'strerror', None) or error}")
        return
    found = False
    try:
        for info in _services(network, time.monotonic() + seconds, note):
            for url in urls_of(info, everywhere=interfaces is not None):
                found = True
                yield url
    finally:
        network.close()
    if not found:
        note(f"mDNS: no server was announced within {format_duration(seconds)}")


def _services(network: Zeroconf, deadline: float, note: Note) -> Iterator[ServiceInfo]:
    """Services as they are announced, each with its addresses."""
    from zeroconf import DNSQuestionType, Error, ServiceBrowser, ServiceStateChange

    names: queue.SimpleQueue[str] = queue.SimpleQueue()
    # By multicast, as RFC 6762, section 15.1, has it: another program on this computer may share the port, and only one
    # of the two gets what is answered to the computer alone.
    how = DNSQuestionType.QM

    def changed(name: str, state_change: ServiceStateChange, **_: object) -> None:
        if state_change is not ServiceStateChange.Removed:
            names.put(name)

    ServiceBrowser(network, SERVICE, handlers=[changed], question_type=how)
    heard: set[str] = set()
    while len(heard) < _NAMES:
        try:  # what was heard in time has its turn also if one before it took long
            name = names.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return
        heard.add(name)
        try:
            info = network.get_service_info(SERVICE, name, round(1000 * _RESOLVE), how)
        except Error as error:  # anybody on the network may announce a name that is none
            note(f"mDNS: {error}")
            continue
        if info is not None:
            yield info


def urls_of(info: ServiceInfo, *, everywhere: bool) -> Iterator[str]:
    """Where a server that was announced can be reached.

    Args:
        info: What was announced; `path` in its TXT record is the path. Link-local addresses are taken where it has no
            other, as on a cable from one computer to another.
        everywhere: Take loopback addresses too.
    """
    path = (info.properties.get(b"path") or PATH.encode()).decode("utf-8", "replace")
    path = quote(path if path.startswith("/") else f"/{path}", safe="/%?=&")
    found = [ipaddress.ip_address(text) for text in info.parsed_scoped_addresses()]
    usable = [each for each in found if not each.is_unspecified and (everywhere or not each.is_loopback)]
    for address in [each for each in usable if not each.is_link_local] or usable:
        host = f"[{address}]" if address.version == 6 else str(address)
        yield f"http://{host}:{info.port}{path}"
