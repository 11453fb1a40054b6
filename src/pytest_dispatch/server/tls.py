"""The certificate of the API."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.support.file_stamp import UNKNOWN, FileStamp

LOOK = 5.0  # seconds between looks at the files of a certificate

_log = logging.getLogger(__name__)


class ServerCertificate:
    """A certificate that is read again when its files change.

    Connections that are open stay as they are; new ones get the new certificate. Files that cannot be used, such as
    those that are only half written, change nothing until they change again.

    Args:
        certificate: File with the certificate and those that signed it, in PEM.
        key: File with its private key, in PEM, without a password.

    Attributes:
        context: For the server: always the same one, which hands each connection to the newest.

    Raises:
        ConfigError: The files cannot be read, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._stamps = self._look()
        self.context = tls_context(certificate, key)
        self._newest = self.context
        self.context.sni_callback = self._hand_over  # called for each handshake, whether it names a host or not

    def renew(self) -> bool:
        """Read the files again if they have changed; return whether there is a new certificate."""
        stamps = self._look()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        try:
            self._newest = tls_context(*self._files)
        except ConfigError as error:
            _log.warning("the certificate stays as it was: %s", error)
            return False
        return True

    async def look_after(self) -> None:
        """Read the files again whenever they change, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            if await asyncio.to_thread(self.renew):
                _log.info("new connections get the certificate that is now in %s", self._files[0])

    def _look(self) -> tuple[FileStamp, ...]:
        return tuple(map(_stamp, self._files))

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the context of a server with this certificate.

    Args:
        certificate: File with the certificate and those that signed it, in PEM.
        key: File with its private key, in PEM, without a password.

    Raises:
        ConfigError: They cannot be read, or do not belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"server.tls: expected a certificate and its key in PEM, got {certificate} and {key} ({why})"
        ) from None
    return context


def _no_password() -> str:
    """Return no password, so that no terminal is asked for one."""
    return ""


def _stamp(file: Path) -> FileStamp:
    try:
        return FileStamp.of(file)
    except OSError:
        return UNKNOWN
