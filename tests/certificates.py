"""Certificates of our own, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def make_certificate(folder: Path, name: str = "of this test") -> Path:
    """Put a certificate for 127.0.0.1 and its key into a folder, as `cert.pem` and `key.pem`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("a certificate wants openssl on PATH")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-days", "2"]
    command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return folder
