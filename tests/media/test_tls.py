"""No stream comes from a server whose certificate is not trusted, or is another's."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from certificates import certificate
from test_hosts import camera

from mmworld.errors import SourceError
from mmworld.media.audio import samples
from mmworld.media.devices import open_device
from mmworld.media.hosts import endpoint


@pytest.fixture
def server() -> Iterator[Callable[[ssl.SSLContext], str]]:
    """An RTSP camera behind TLS; gives HOST:PORT."""
    listeners: list[socket.socket] = []

    def start(context: ssl.SSLContext) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def loop() -> None:
            while True:
                try:
                    raw, _ = listener.accept()
                except OSError:
                    return
                with raw, suppress(OSError), context.wrap_socket(raw, server_side=True) as peer:
                    lines = peer.makefile()
                    while request := list(iter(lambda lines=lines: lines.readline().strip(), "")):
                        camera(peer, request)

        threading.Thread(target=loop, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize("scheme", ["rtsps", "rtmps"])
def test_a_certificate_that_nobody_signed(scheme, server, tmp_path):
    place = server(certificate(tmp_path / "own.pem"))
    with pytest.raises(SourceError) as caught:
        open_device(f"{scheme}://me:secret@{place}/x/y", allow_hosts=[place], timeout=5.0)
    assert caught.value.code == "network"
    said = "its certificate is not trusted: self-signed certificate (SSL_CERT_FILE names others)"
    assert str(caught.value) == f"{scheme}://127.0.0.1/x/y: {said}"


def test_a_certificate_that_is_trusted(server, tmp_path, monkeypatch):
    place = server(certificate(tmp_path / "own.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    media = open_device(f"rtsps://{place}/x", allow_hosts=[place], timeout=5.0)
    assert sum(len(s.data) for s in samples(media)) == 50 * 160


@pytest.mark.parametrize("scheme", ["rtsps", "rtmps"])
def test_a_certificate_of_another_host(scheme, server, tmp_path, monkeypatch):
    place = server(certificate(tmp_path / "own.pem", "DNS:elsewhere"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    with pytest.raises(SourceError, match=r"certificate is not valid for '127\.0\.0\.1'"):
        open_device(f"{scheme}://{place}/x/y", allow_hosts=[place], timeout=5.0)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("rtsps://cam/x", ("cam", 322)),
        ("rtmps://me:pass@cam:8443/x", ("cam", 8443)),
        ("wss://[::1]/x", ("::1", 443)),
        ("ws://cam", ("cam", 80)),
    ],
)
def test_where_an_address_is(address, place):
    assert endpoint(address) == place


def test_the_file_of_trusted_certificates_is_there(monkeypatch):
    """Where Python knows of none, FFmpeg is left to its own."""
    from mmworld.media.tls import checked

    assert checked()["tls_verify"] == "1"
    assert Path(checked().get("ca_file", __file__)).exists()
