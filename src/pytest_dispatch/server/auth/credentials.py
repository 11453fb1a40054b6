"""Secrets that the lab makes: tokens, and what browsers keep in cookies. The lab keeps only digests of them."""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "dsp_"  # by which people and scanners recognise a token of a lab


def new_secret() -> str:
    """Return a random secret of 256 bits: nobody can guess it, so that a plain digest of it is safe to keep."""
    return secrets.token_urlsafe(32)


def new_token() -> str:
    """Return the secret of a new API token."""
    return PREFIX + new_secret()


def new_id() -> str:
    """Return an id by which people name a token."""
    return secrets.token_hex(4)


def digest_of(secret: str) -> str:
    """Return the digest of a secret, by which it is found."""
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def csrf_of(secret: str) -> str:
    """Return what a browser with this secret must send with every change; it does not reveal the secret."""
    return hashlib.sha256(b"csrf:" + secret.encode(errors="surrogateescape")).hexdigest()
