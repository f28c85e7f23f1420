"""Certificates that are signed by themselves."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def certificate(path: Path, name: str = "IP:127.0.0.1") -> ssl.SSLContext:
    """What serves one for `name`, which `path` then holds with its key."""
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName={name}"
    key, cert = path.with_suffix(".key"), path.with_suffix(".cert")
    subprocess.run([*made.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    path.write_bytes(key.read_bytes() + cert.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
