"""Detects requests that no booting machine makes: those of browsers, and of HTTP tools that people and monitors use.

A client that matches neither table may be any kind of firmware, and is served. So the tables contain no name that boot
clients use too: LinuxBoot calls itself `Go-http-client`, U-Boot `lwIP`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

#: Suffix of the boot path under which people can look at the lab's state without taking a workload.
LOOK = "/look"

#: User-Agent names, in lower case, of tools that people and monitors use. Some initrds contain such a tool too.
TOOLS = frozenset(
    (
        # in shells, in scripts, in desktop programs
        *("curl", "wget", "wget2", "httpie", "xh", "hurl", "aria2", "axel", "fetch libfetch", "lwp-request"),
        *("python-requests", "python-httpx", "python-urllib", "python-urllib3", "aiohttp", "powershell"),
        *("lynx", "links", "elinks", "w3m", "postmanruntime", "insomnia", "bruno-runtime", "vscode-restclient"),
        # monitors
        *("blackbox exporter", "prometheus", "telegraf", "kube-probe", "consul health check", "datadog agent"),
        *("check_http", "check_curl", "zabbix", "uptime-kuma", "gatus", "monit"),
        # load tests and scanners
        *("apachebench", "hey", "nmap", "nikto", "masscan", "whatweb", "sqlmap", "gobuster", "feroxbuster"),
    )
)

_NAMES = "|".join(sorted(map(re.escape, TOOLS), reverse=True))
#: Before its own name, aiohttp puts Python's, and PowerShell a browser's.
_TOOL = re.compile(rf"(?:python/\S+ |mozilla/.* (?:windows)?(?=powershell/))?({_NAMES})(?![\w.-])", re.IGNORECASE)
#: Browsers, and system programs that fetch audio and video for some of them, from any address that a page names.
_BROWSER = re.compile(r"(?:mozilla|opera|applecoremedia|stagefright)/(?!.*powershell/)", re.IGNORECASE)
_CONTENT = re.compile(r"(?:^|[,\s])((?:image|audio|video)/|text/html|text/css)", re.IGNORECASE)

#: Headers that browsers add to a page's requests. Of these, a page can suppress only Referer. User-Agent is not among
#: them, because in some browsers a page can change it.
_OF_PAGES = ("origin", "referer", "accept-language", "sec-")


def browsers_mark(request: web.Request) -> str:
    """Return the header that shows that a browser sent the request; empty if there is none."""
    header = next((name for name in request.headers if name.lower().startswith(_OF_PAGES)), "")
    if header:
        return header.title()
    if any(map(_BROWSER.match, request.headers.getall("User-Agent", ()))):
        return "such a User-Agent"
    wants = request.method in ("GET", "HEAD") and _CONTENT.search(", ".join(request.headers.getall("Accept", ())))
    return f"Accept: {wants[1].lower()}" if wants else ""


def tool_of(request: web.Request) -> str:
    """Return the tool, as in `TOOLS`, that sent a GET or HEAD; else empty. Any tool may send a report (POST, PUT)."""
    agent = _TOOL.match(request.headers.get("User-Agent", ""))
    return agent[1].lower() if agent and request.method in ("GET", "HEAD") else ""
