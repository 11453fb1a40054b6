"""The way to GitHub, the same for API calls and downloads: whom TLS trusts, and which proxy leads there.

Both come from the environment, by the names that curl, git, requests and `gh` know.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.support.network_errors import Origin, is_loopback, reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Each names certificates to trust instead of the system's. What several name is trusted together.
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")  # how `openssl rehash` names certificates, which OpenSSL finds by that alone
_PROXIES = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that the environment names.

    Attributes:
        variable: What names it.
        url: Where it is. It may hold a password, so that it is shown nowhere.
    """

    variable: str
    url: str = field(repr=False)

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"the proxy {host}:{parts.port or _PROXIES[parts.scheme]} ({self.variable})"


def client_options(url: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """What an httpx client needs to ask for a URL, be it one that waits or one for asyncio.

    Raises:
        ConfigError: The environment names certificates or a proxy that cannot be used.
    """
    import httpx

    proxy = proxy_for(url, environ)
    if not url.startswith("https:"):
        # By http only this computer is asked: none of the world's certificates are for it, and loading takes long.
        return {"trust_env": False, "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
    trusted = trusted_by(environ)
    through = None if proxy is None else httpx.Proxy(proxy.url, ssl_context=trusted if _by_tls(proxy) else None)
    return {"trust_env": False, "verify": trusted, "proxy": through}


def why_unreachable(error: Exception, timeout: float, proxy: Proxy | None) -> str:
    """Why a request failed, in a few words, and which proxy it was sent through.

    Args:
        error: What httpx raised.
        timeout: Seconds after which it was told to give up.
        proxy: What the request went through.
    """
    if proxy is None:
        return reason_of(error, timeout)
    import httpx

    refused = isinstance(error, httpx.ProxyError)
    reason = f"it answered {plain_line(str(error), 80)}" if refused else reason_of(error, timeout)
    return f"through {proxy}: {reason}"


def trusted_by(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Whom to trust: what the variables of `CERTIFICATES` name, else the system.

    Raises:
        ConfigError: A variable names something else than certificates.
    """
    return _trusted(tuple((name, value) for name in CERTIFICATES if (value := environ.get(name, ""))))


@cache  # as it takes a tenth of a second
def _trusted(named: tuple[tuple[str, str], ...]) -> ssl.SSLContext:
    context: ssl.SSLContext | None = None
    for name, value in named:
        for path in map(Path, value.split(":") if name == "SSL_CERT_DIR" else [value]):
            context = _trusting(context, name, path)
    return context or _trusted_by_the_system()


def _trusting(context: ssl.SSLContext | None, name: str, path: Path) -> ssl.SSLContext:
    in_folder = path.is_dir() and name != "SSL_CERT_FILE"
    if in_folder and not _has_certificates(path):
        raise ConfigError(f"{name}: expected certificates in {path}, named as `openssl rehash` does, got none")
    place: dict[str, Any] = {"capath": path} if in_folder else {"cafile": path}
    try:
        if context is None:  # given a place, it does not load the system's as well
            return ssl.create_default_context(**place)
        context.load_verify_locations(**place)
    except OSError as error:  # which `ssl.SSLError` is
        why = plain_line(error.strerror or str(error))
        raise ConfigError(f"{name}: expected certificates in PEM format, got {str(path)!r}: {why}") from error
    return context


def _trusted_by_the_system() -> ssl.SSLContext:
    places = ssl.get_default_verify_paths()  # whose other fields heed variables, also those that are empty
    file, folder = Path(places.openssl_cafile), Path(places.openssl_capath)
    known: dict[str, Any] = {"cafile": file} if file.is_file() else {}
    known |= {"capath": folder} if _has_certificates(folder) else {}
    if known:
        return ssl.create_default_context(**known)
    import httpx

    return httpx.create_ssl_context(trust_env=False)  # Mozilla's, where the system has none, as in small containers


def _has_certificates(folder: Path) -> bool:
    return folder.is_dir() and any(_HASHED.fullmatch(path.name) for path in folder.iterdir())


def proxy_for(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that leads to a URL; `None` where it is to be asked itself.

    That is `https_proxy`, else `all_proxy`, unless `no_proxy` has the host; each also in capitals, where small letters
    come first. This computer is never asked through a proxy.

    Raises:
        ConfigError: The variable does not say where a proxy is.
    """
    origin = Origin.of(url)
    if origin.scheme != "https" or is_loopback(origin.host) or _is_exempt(origin, _named("no_proxy", environ)[1]):
        return None
    for name in ("https_proxy", "all_proxy"):
        variable, text = _named(name, environ)
        if text:
            return _proxy(variable, text if "://" in text else f"http://{text}")
    return None


def _named(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    variable = name if name in environ else name.upper()
    return variable, environ.get(variable, "").strip()


def _proxy(variable: str, url: str) -> Proxy:
    origin = Origin.of(url) if _is_whole(url) else Origin("", "", 0)
    if origin.scheme not in _PROXIES or not origin.host or origin.port == 0:
        # Not shown: a part of it that is out of place may be the password.
        raise ConfigError(
            f"{variable}: expected where the proxy is, as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT with signs"
            " such as / and @ percent-encoded, got something else"
        )
    if origin.scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigError(f"{variable}: a SOCKS proxy needs the package socksio; pip install 'httpx[socks]'")
    return Proxy(variable, url)


def _is_whole(url: str) -> bool:
    """Whether all of a proxy's URL is read as it was meant: no password with a slash ends the host's name."""
    import httpx

    try:
        parts = urlsplit(url)
        _ = parts.port, httpx.Proxy(url)
    except (ValueError, httpx.InvalidURL):
        return False
    return url.isprintable() and " " not in url and "@" not in f"{parts.path}{parts.query}{parts.fragment}"


def _by_tls(proxy: Proxy) -> bool:
    return proxy.url.startswith("https:")


def _is_exempt(origin: Origin, listed: str) -> bool:
    """Whether `no_proxy` has a host: by `*`, its name, its domain, its address, or the network that it is in."""
    return any(_fits(origin, entry) for entry in listed.lower().replace(",", " ").split())


def _fits(origin: Origin, entry: str) -> bool:
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(origin.host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass  # one of them is a name
    try:
        parts = urlsplit(f"//{entry.rpartition('://')[2]}")
        name, port = (parts.hostname or "").removeprefix("*").removeprefix("."), parts.port
    except ValueError:
        return False  # no host is called so
    return bool(name) and f".{origin.host}".endswith(f".{name}") and port in (None, origin.port)
