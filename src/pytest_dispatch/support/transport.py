"""Connection settings for servers of others, the same for API calls and downloads: trusted certificates and the proxy.

Both come from the environment, from variables that curl, git, requests and `gh` use too.
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

#: Variables that name certificates to trust instead of the system's; those of several variables are all trusted.
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")  # file names made by `openssl rehash`; OpenSSL finds no others in a folder
_PROXIES = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that the environment names.

    Attributes:
        variable: Name of the variable.
        url: URL of the proxy. It may contain a password, so it is never shown.
    """

    variable: str
    url: str = field(repr=False)

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"the proxy {host}:{parts.port or _PROXIES[parts.scheme]} ({self.variable})"


def client_options(url: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of an httpx client, synchronous or asynchronous, for requests to a URL.

    Raises:
        ConfigError: The environment names certificates or a proxy that cannot be used.
    """
    import httpx

    proxy = proxy_for(url, environ)
    if not url.startswith("https:"):
        # Only this computer is reached over http: it needs no certificates, and loading them takes long.
        return {"trust_env": False, "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
    trusted = trusted_by(environ)
    through = None if proxy is None else httpx.Proxy(proxy.url, ssl_context=trusted if _by_tls(proxy) else None)
    return {"trust_env": False, "verify": trusted, "proxy": through}


def why_unreachable(error: Exception, timeout: float, proxy: Proxy | None) -> str:
    """Return why a request failed, in a few words, and through which proxy it was sent.

    Args:
        error: Exception of httpx.
        timeout: Timeout of the request in seconds.
        proxy: Proxy of the request.
    """
    if proxy is None:
        return reason_of(error, timeout)
    import httpx

    refused = isinstance(error, httpx.ProxyError)
    reason = f"it answered {plain_line(str(error), 80)}" if refused else reason_of(error, timeout)
    return f"through {proxy}: {reason}"


def trusted_by(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return a context that trusts the certificates named by `CERTIFICATES`, else those of the system.

    Raises:
        ConfigError: A variable names something other than certificates.
    """
    return _trusted(tuple((name, value) for name in CERTIFICATES if (value := environ.get(name, ""))))


@cache  # loading takes 0.1 s
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
        if context is None:  # with a place given, Python does not load the system's certificates
            return ssl.create_default_context(**place)
        context.load_verify_locations(**place)
    except OSError as error:  # `ssl.SSLError` is a subclass
        why = plain_line(error.strerror or str(error))
        raise ConfigError(f"{name}: expected certificates in PEM format, got {str(path)!r}: {why}") from error
    return context


def _trusted_by_the_system() -> ssl.SSLContext:
    locations = ssl.get_default_verify_paths()  # its other fields depend on variables, even if these are empty
    file, folder = Path(locations.openssl_cafile), Path(locations.openssl_capath)
    known: dict[str, Any] = {"cafile": file} if file.is_file() else {}
    known |= {"capath": folder} if _has_certificates(folder) else {}
    if known:
        return ssl.create_default_context(**known)
    import httpx

    return httpx.create_ssl_context(trust_env=False)  # Mozilla's: small containers have no system certificates


def _has_certificates(folder: Path) -> bool:
    return folder.is_dir() and any(_HASHED.fullmatch(path.name) for path in folder.iterdir())


def proxy_for(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for a URL; None for a direct connection.

    The proxy is `https_proxy`, else `all_proxy`, unless `no_proxy` lists the host. Each variable may also be in capital
    letters; lower case comes first. This computer is never reached through a proxy.

    Raises:
        ConfigError: The variable is not the URL of a proxy.
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
        # Do not show the URL: a misplaced part of it may be the password.
        raise ConfigError(
            f"{variable}: expected where the proxy is, as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT with signs"
            " such as / and @ percent-encoded, got something else"
        )
    if origin.scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigError(f"{variable}: a SOCKS proxy needs the package socksio; pip install 'httpx[socks]'")
    return Proxy(variable, url)


def _is_whole(url: str) -> bool:
    """Return whether a proxy's URL is parsed completely: an unquoted slash in a password would cut it short."""
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
    """Return whether `no_proxy` lists the host: by `*`, its name, its domain, its address or its network."""
    return any(_fits(origin, entry) for entry in listed.lower().replace(",", " ").split())


def _fits(origin: Origin, entry: str) -> bool:
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(origin.host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass  # the host or the entry is a name
    try:
        parts = urlsplit(f"//{entry.rpartition('://')[2]}")
        name, port = (parts.hostname or "").removeprefix("*").removeprefix("."), parts.port
    except ValueError:
        return False  # not a valid host name
    return bool(name) and f".{origin.host}".endswith(f".{name}") and port in (None, origin.port)
