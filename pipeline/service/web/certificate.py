"""The server's certificate: one that is given, or one of its own."""

import datetime
import ipaddress
import os
import socket
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from engines.errors import ConfigError
from engines.files import PRIVATE

DAYS: Final = 825  # the longest that some browsers accept
RENEW_DAYS: Final = 30  # before its end


def own_certificate(folder: Path, hosts: tuple[str, ...]) -> tuple[Path, Path]:
    """Return the files of the server's own certificate and its key, made when missing or nearly at its end.

    Args:
        folder: where they lie.
        hosts: names and addresses that it is for, besides this machine's.

    Raises:
        ConfigError: they cannot be written or read.
    """
    certificate, key = folder / "trunkline-web.crt", folder / "trunkline-web.key"
    try:
        if not (certificate.is_file() and key.is_file() and _is_good(certificate.read_bytes())):
            _make(certificate, key, hosts)
    except (OSError, ValueError) as error:
        raise ConfigError(f"certificate {certificate}: cannot be made or read: {error}") from error
    return certificate, key


def check_certificate(certificate: Path, key: Path) -> None:
    """Raise ConfigError unless a certificate and its key can be used."""
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"web.certificate {certificate} with web.key {key}: cannot be used: {error}") from error


def fingerprint(certificate: Path) -> str:
    """Return the SHA-256 fingerprint of a certificate, as browsers show it."""
    digest = x509.load_pem_x509_certificate(certificate.read_bytes()).fingerprint(hashes.SHA256()).hex().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def _is_good(pem: bytes) -> bool:
    end = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    return end > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=RENEW_DAYS)


def _make(certificate: Path, key: Path, hosts: tuple[str, ...]) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Trunkline")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    private = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key.unlink(missing_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as file:
        file.write(private)
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def _names(hosts: tuple[str, ...]) -> list[x509.GeneralName]:
    own = socket.gethostname()
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(("localhost", own, f"{own}.local", "127.0.0.1", "::1", *hosts)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host.strip("[]"))))
        except ValueError:
            names.append(x509.DNSName(host))
    return names
