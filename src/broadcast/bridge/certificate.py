"""TLS for a bridge that no proxy stands in front of: a certificate that can be renewed while it runs."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from broadcast.errors import SettingError
from broadcast.settings import Settings

__all__ = ["Certificate"]


class Certificate:
    """A certificate and its key, from two files.

    Args:
        settings: `tls_cert` and `tls_key`; both or none of them.

    Raises:
        SettingError: one of them is missing, or the files cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._cert, self._key = settings.tls_cert, settings.tls_key
        if bool(self._cert) != bool(self._key):
            raise SettingError(
                "BROADCAST_TLS_CERT, BROADCAST_TLS_KEY: expected both, a certificate's file and its key's"
            )
        self._context: ssl.SSLContext | None = None
        if self._cert:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.set_alpn_protocols(["http/1.1"])
            self.renew()

    @property
    def context_factory(self) -> Callable[[Any, Any], ssl.SSLContext] | None:
        """uvicorn's `ssl_context_factory`; None to serve without TLS."""
        context = self._context
        return None if context is None else lambda _config, _default: context

    def renew(self) -> None:
        """Read the files again; who comes from now on gets the new certificate, who is there stays.

        Raises:
            SettingError: they cannot be used; the certificate stays as it was.
        """
        if self._context is None:
            return
        try:
            # In one of its own first: what goes wrong half way must not be half in use.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._cert, self._key, _nobody_is_asked)
            self._context.load_cert_chain(self._cert, self._key, _nobody_is_asked)
        except EncryptedError:
            raise SettingError(
                f"BROADCAST_TLS_KEY={self._key}: it is encrypted; expected a key without a passphrase, which this "
                "account alone may read"
            ) from None
        except (OSError, ssl.SSLError) as error:
            raise SettingError(
                f"BROADCAST_TLS_CERT={self._cert}, BROADCAST_TLS_KEY={self._key}: {error.strerror or error}; expected "
                "a certificate with its chain and the key that belongs to it, both in PEM"
            ) from None


class EncryptedError(Exception):
    """A key needs a passphrase."""


def _nobody_is_asked() -> str:
    # OpenSSL would ask on the terminal, if there is one, and everything would wait for an answer.
    raise EncryptedError
