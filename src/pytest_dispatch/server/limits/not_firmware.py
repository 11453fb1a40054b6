"""Requests that no machine makes which boots: those of pages in browsers, and of tools with which people look.

Whoever is in neither table may be firmware of whatever kind, and is served. So no name is in them that boot clients
have too: `Go-http-client` is what LinuxBoot calls itself, `lwIP` is U-Boot.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

#: What the paths of looks end in, behind the boot URL's.
LOOK = "/look"

#: Tools that people and monitors look with, as they call themselves, in lower case. Initrds have some of them too.
TOOLS = frozenset(
    (
        # HTTP in a shell, in scripts, in a desktop program
        *("curl", "wget", "wget2", "httpie", "xh", "hurl", "aria2", "axel", "fetch libfetch", "lwp-request"),
        *("python-requests", "python-httpx", "python-urllib", "python-urllib3", "aiohttp", "powershell"),
        *("lynx", "links", "elinks", "w3m", "postmanruntime", "insomnia", "bruno-runtime", "vscode-restclient"),
        # monitors
        *("blackbox exporter", "prometheus", "telegraf", "kube-probe", "consul health check", "datadog agent"),
        *("check_http", "check_curl", "zabbix", "uptime-kuma", "gatus", "monit"),
        # loads and scans
        *("apachebench", "hey", "nmap", "nikto", "masscan", "whatweb", "sqlmap", "gobuster", "feroxbuster"),
    )
)

_NAMES = "|".join(sorted(map(re.escape, TOOLS), reverse=True))
#: aiohttp names Python first, as PowerShell does with a browser.
_TOOL = re.compile(rf"(?:python/\S+ |mozilla/.* (?:windows)?(?=powershell/))?({_NAMES})(?![\w.-])", re.IGNORECASE)
#: Some have another program of the system fetch sound and films, by whatever address a page names.
_BROWSER = re.compile(r"(?:mozilla|opera|applecoremedia|stagefright)/(?!.*powershell/)", re.IGNORECASE)
_CONTENT = re.compile(r"(?:^|[,\s])((?:image|audio|video)/|text/html|text/css)", re.IGNORECASE)

#: Headers of pages. A page can leave out its Referer, and in some browsers change its User-Agent; the others it cannot.
_OF_PAGES = ("origin", "referer", "accept-language", "sec-")


def browsers_mark(request: web.Request) -> str:
    """What in a request shows that a browser sent it, for whichever page; empty if nothing does."""
    header = next((name for name in request.headers if name.lower().startswith(_OF_PAGES)), "")
    if header:
        return header.title()
    if any(map(_BROWSER.match, request.headers.getall("User-Agent", ()))):
        return "such a User-Agent"
    wants = request.method in ("GET", "HEAD") and _CONTENT.search(", ".join(request.headers.getall("Accept", ())))
    return f"Accept: {wants[1].lower()}" if wants else ""


def tool_of(request: web.Request) -> str:
    """The tool that asks what there is, as in `TOOLS`; empty for anybody else. What tools report is as good as any."""
    agent = _TOOL.match(request.headers.get("User-Agent", ""))
    return agent[1].lower() if agent and request.method in ("GET", "HEAD") else ""
