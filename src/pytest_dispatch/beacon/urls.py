"""URLs of servers: which may be asked, and how they are shown."""

from urllib.parse import urlsplit


def is_url(text: str) -> bool:
    """Tell whether this is an http or https URL with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, or a broken IPv6 address
        return False


def without_query(url: str) -> str:
    """Return the URL as it may be shown: its query holds the machine's token."""
    return url.partition("?")[0]
