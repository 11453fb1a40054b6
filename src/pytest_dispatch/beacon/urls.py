"""URLs of servers: checks them, and removes secrets before they are shown."""

from urllib.parse import urlsplit


def is_url(text: str) -> bool:
    """Return whether the text is an http or https URL with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or IPv6 address
        return False


def without_query(url: str) -> str:
    """Return the URL without its query, which may contain the machine's token."""
    return url.partition("?")[0]
