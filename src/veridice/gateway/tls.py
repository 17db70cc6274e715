"""Encrypted connections, where both sides show who they are (DICOM PS3.15, B.9: BCP 195)."""

from __future__ import annotations

import ssl
from pathlib import Path

from veridice.errors import InputError


def tls_contexts(
    certificate: Path | None, key: Path | None, partners: Path | None
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """For connections that come, and for those that we make; None for both where no certificate is given.

    Args:
        certificate, key: ours, in PEM.
        partners: certificates, or their authority, that the other side has to show.

    Raises:
        InputError: one is missing or cannot be used.
    """
    if certificate is None and key is None and partners is None:
        return None, None
    if certificate is None or key is None or partners is None:
        raise InputError("--tls-certificate, --tls-key, --tls-partners: give all three; partners have to show who they are")
    coming = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    going = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        for context in (coming, going):
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(certificate, key)
            context.load_verify_locations(partners)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"--tls-certificate, --tls-key, --tls-partners: cannot be used ({error.strerror or error})") from error
    coming.verify_mode = ssl.CERT_REQUIRED
    return coming, going
