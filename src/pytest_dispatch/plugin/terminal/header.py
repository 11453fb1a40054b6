"""The header line: the workloads, and where machines boot from."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_dispatch.core.media import BOOT, mark_of
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.secrets import ways_to_sign_in

if TYPE_CHECKING:
    from pytest_dispatch.client.lab_client import LabClient
    from pytest_dispatch.plugin.settings import Settings
    from pytest_dispatch.sources.base import Listing

ANNOUNCING = 4.0  # longest wait for the lab's mDNS name, in seconds
LEFT_OUT = 8  # maximum number of left-out files that are named
SHOWN = 3  # maximum number of addresses in the line


def header(
    settings: Settings,
    listing: Listing,
    client: LabClient | None,
    session: str,
    *,
    resumed: bool,
    version: str = "",
) -> str:
    """Return the header line.

    Args:
        settings: The settings.
        listing: The workloads.
        client: The lab's client; None if no lab is running.
        session: Id of the session; empty if no lab is running.
        resumed: Whether this is an interrupted session that was resumed.
        version: The version of a lab that others use too.
    """
    facts = [listing.name, _kinds(listing)]
    if client is not None and settings.shared is not None:
        facts += _shared(client, listing, session, version)
        facts += ["resumed" if resumed else "nothing to resume"] * settings.plan.resume
    elif client is not None:
        boots = not listing.workloads or any(workload.kind == BOOT for workload in listing.workloads)
        facts += [f"boot URL {_boot_urls(settings, client.url)}"] * boots
        facts += [f"machines {', '.join(spec.text for spec in settings.plan.machines)}"] * bool(settings.plan.machines)
        facts += ["resumed" if resumed else "nothing to resume"] * settings.plan.resume
        if settings.plan.announce:
            facts.append(f"mDNS {_announced(client, session)}")
    if settings.issues:
        filed = settings.plan.token is not None or settings.shared is not None
        how = f"no token: issues are not filed (it comes by {ways_to_sign_in(settings.plan.api_url)})"
        facts.append(f"issues to {settings.plan.issues_repo}" if filed else how)
    return f"dispatch: {plain_line('; '.join(facts), 400)}"


def _shared(client: LabClient, listing: Listing, session: str, version: str) -> Iterator[str]:
    """Yield what is known of a lab that others use too."""
    yield f"lab {client.url} (version {version})"
    wanted = [(tuple(map(str, each.requires)), each.group) for each in listing.workloads if each.kind == BOOT]
    if not wanted:
        return
    found = client.outlook(session, wanted)
    held = f" ({found.held} held)" if found.held else ""
    yield f"{found.machines} machine{' fits' if found.machines == 1 else 's fit'}{held}"
    yield f"{found.ahead} run{'s' * (found.ahead != 1)} ahead"
    if found.starts_in is not None:
        from pytest_dispatch.core.explanation import Starts, told_start

        yield told_start(Starts(earliest=found.starts_in, latest=found.starts_in), now=0.0)


def left_out(listing: Listing) -> list[str]:
    """Return a line for each file that looks like a workload and is not one, at most `LEFT_OUT` and a count."""
    lines = [f"dispatch: left out: {plain_line(f'{name}: {why}', 400)}" for name, why in listing.left_out]
    more = len(lines) - LEFT_OUT
    return lines if more <= 0 else [*lines[:LEFT_OUT], f"dispatch: left out: … and {more} more"]


def _kinds(listing: Listing) -> str:
    kinds = Counter(map(mark_of, listing.workloads))
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "no workload"


def _announced(client: LabClient, session: str) -> str:
    """Wait for the lab's mDNS name, which usually takes two seconds to register, and return it."""
    give_up = time.monotonic() + ANNOUNCING
    while not (name := client.session(session).mdns) and time.monotonic() < give_up:
        time.sleep(0.1)
    return name or "not yet announced"


def _boot_urls(settings: Settings, url: str) -> str:
    """Return the boot URLs for machines; the lab's own URL may be valid only on this computer."""
    if settings.plan.host not in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not listened on
        return f"{url}{settings.plan.path}"
    port = url.rpartition(":")[2]
    urls = [f"http://{host}:{port}{settings.plan.path}" for host in _own_hosts(settings.plan.host)]
    return " or ".join(urls[:SHOWN]) or f"{url}{settings.plan.path}"


def _own_hosts(bound: str) -> Iterator[str]:
    """Yield this computer's addresses that other computers can reach, as host parts of a URL."""
    import ifaddr

    from pytest_dispatch.server.mdns import reachable

    ips = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for card in ifaddr.get_adapters() for ip in card.ips]
    for address in reachable(ipaddress.ip_address(ip) for ip in ips):
        if address.version == 4:
            yield str(address)
        elif bound == "::":
            yield f"[{address}]"
