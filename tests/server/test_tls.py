"""The certificate of the API: taken when it changes, and no connection is dropped for it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.server.tls import ServerCertificate

pytestmark = pytest.mark.anyio


class Files:
    """The files of a certificate, as somebody replaces them."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.certificate, self.key = folder / "lab.pem", folder / "lab.key"
        self.issued = 0
        self.issue()

    def issue(self, key: trustme.KeyType = trustme.KeyType.ECDSA) -> None:
        self.issued += 1
        issued = self.ca.issue_cert("127.0.0.1", organization_name=f"number {self.issued}", key_type=key)
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


async def connect(files: Files, port: int) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
    """Returns which certificate the server has shown, and the connection."""
    context = ssl.create_default_context()
    files.ca.configure_trust(context)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("peercert")["subject"]
    return dict(part for each in shown for part in each)["organizationName"], reader, writer


@pytest.mark.parametrize("key", [trustme.KeyType.ECDSA, trustme.KeyType.RSA])
async def test_new_connections_get_the_new_certificate_and_old_ones_go_on(files: Files, key: trustme.KeyType) -> None:
    certificate = ServerCertificate(files.certificate, files.key)
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificate.context)
    port = server.sockets[0].getsockname()[1]
    first, reader, writer = await connect(files, port)
    files.issue(key)
    assert certificate.renew()
    assert not certificate.renew()
    second, _, other = await connect(files, port)
    assert (first, second) == ("number 1", "number 2")
    writer.write(b"still here\n")
    assert await reader.readline() == b"still here\n"
    for each in (writer, other):
        each.close()
        await each.wait_closed()
    server.close()


@pytest.mark.parametrize("broken", ["certificate", "key"])
async def test_files_that_cannot_be_used_change_nothing(
    files: Files, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = ServerCertificate(files.certificate, files.key)
    before = files.certificate.read_bytes(), files.key.read_bytes()
    getattr(files, broken).write_text("half a fi")
    assert not certificate.renew()
    assert "the certificate stays as it was: server.tls: expected a certificate and its key in PEM" in caplog.text
    caplog.clear()
    assert not certificate.renew()
    assert caplog.text == ""  # it is said once
    files.certificate.write_bytes(before[0])
    files.key.write_bytes(before[1])
    assert certificate.renew()


async def test_a_key_of_another_certificate_is_refused(files: Files, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Files(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"^server\.tls: expected a certificate and its key in PEM, got .*lab\.pem"):
        ServerCertificate(files.certificate, other.key)


async def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        ServerCertificate(tmp_path / "a.pem", tmp_path / "a.key")
