"""Encrypted connections, where both sides show who they are (DICOM PS3.15, B.9: BCP 195)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from veridice.errors import InputError


@dataclass(frozen=True)
class TlsFiles:
    """What is shown, and what the other side has to show.

    Args:
        certificate, key: ours, in PEM.
        partners: certificates, or their authority, that the other side has to show.

    Raises:
        InputError: one cannot be used.
    """

    certificate: Path
    key: Path
    partners: Path

    def __post_init__(self) -> None:
        self.coming()

    def coming(self) -> ssl.SSLContext:
        """For connections that come."""
        context = self._filled(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def going(self) -> ssl.SSLContext:
        """For connections that we make."""
        return self._filled(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def _filled(self, context: ssl.SSLContext) -> ssl.SSLContext:
        try:
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(self.certificate, self.key)
            context.load_verify_locations(self.partners)
        except (OSError, ssl.SSLError) as error:
            text = f"--tls-certificate, --tls-key, --tls-partners: cannot be used ({error.strerror or error})"
            raise InputError(text) from error
        return context


def tls_files(certificate: Path | None, key: Path | None, partners: Path | None) -> TlsFiles | None:
    """The files of the options; None where none is given.

    Raises:
        InputError: one is missing or cannot be used.
    """
    if certificate is None and key is None and partners is None:
        return None
    if certificate is None or key is None or partners is None:
        raise InputError("--tls-certificate, --tls-key, --tls-partners: give all three; partners have to show who they are")
    return TlsFiles(certificate, key, partners)
