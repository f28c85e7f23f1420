"""Certificates: FFmpeg checks them against those that Python trusts, the system's or SSL_CERT_FILE's."""

from __future__ import annotations

import socket
import ssl
from importlib.util import find_spec


def checked() -> dict[str, str]:
    """What has FFmpeg refuse a server whose certificate is not trusted, or is for another host."""
    trusted = ssl.get_default_verify_paths().cafile
    if trusted is None and find_spec("certifi"):
        import certifi

        trusted = certifi.where()
    return {"tls_verify": "1"} | ({"ca_file": trusted} if trusted else {})


def distrust(host: str, port: int, timeout: float) -> str:
    """Why a server's certificate is not trusted, which FFmpeg does not tell; "" if it is, or nobody answers."""
    try:
        with socket.create_connection((host, port), timeout) as raw:
            ssl.create_default_context().wrap_socket(raw, server_hostname=host).close()
    except ssl.SSLCertVerificationError as e:
        return refusal(e)
    except OSError:
        pass
    return ""


def refusal(error: ssl.SSLCertVerificationError) -> str:
    """Why a certificate is refused, and what can be done."""
    return f"its certificate is not trusted: {error.verify_message} (SSL_CERT_FILE names others)"
