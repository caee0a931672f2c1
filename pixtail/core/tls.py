"""TLS from the client's side: a context made of PEM files, and what a failed handshake means. Every error names a setting."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from pixtail.core.errors import SettingError

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_HOST = (62, 64)  # by name, by address
# https://www.rfc-editor.org/rfc/rfc8446#section-6.2, as OpenSSL calls them: what a server says that is not content with our certificate.
_NOT_OURS = {
    "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "SSLV3_ALERT_CERTIFICATE_REVOKED",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "TLSV1_ALERT_ACCESS_DENIED",
    "TLSV1_ALERT_DECRYPT_ERROR",
    "TLSV1_ALERT_UNKNOWN_CA",
}
_NO_TLS = {"HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "WRONG_VERSION_NUMBER"}
_OTHER_VERSION = {"NO_PROTOCOLS_AVAILABLE", "TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"}


@dataclass(frozen=True, slots=True)
class Names:
    """What a user calls the settings: the three files, and the server's address."""

    ca: str
    certificate: str
    key: str
    address: str


def client_context(names: Names, ca: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """TLS 1.2 or newer that verifies the server's chain (without `ca`: by the system's CAs) and its host name.

    Raises `SettingError` for a file that is missing, is not PEM, or does not fit the other one. Never asks for a passphrase.
    """
    for name, path in ((names.ca, ca), (names.certificate, certificate), (names.key, key)):
        _check_readable(name, path)
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise SettingError(f"{names.ca}: {ca} holds no PEM certificate", "Name the CA's certificate") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # MySQL's own certificates lack extensions that OpenSSL 3 asks for
    if certificate is not None:
        _load_pair(context, names, certificate, key)
    return context


def _check_readable(name: str, path: str | None) -> None:
    """OpenSSL's errors do not say which file they mean."""
    if path is None:
        return
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise SettingError(
            f"{name}: {path} cannot be read ({error.strerror})", "Correct the path, or its mode"
        ) from error


def _load_pair(context: ssl.SSLContext, names: Names, certificate: str, key: str | None) -> None:
    asked: list[bool] = []

    def passphrase() -> str:
        asked.append(True)
        return ""

    try:
        context.load_cert_chain(certificate, key, passphrase)
    except ssl.SSLError as error:
        where, path = (names.key, key) if key else (names.certificate, certificate)
        if asked:
            raise SettingError(f"{where}: the key in {path} is encrypted", "Decrypt it: openssl pkey -in …") from error
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = f"{names.key}: the key does not belong to the certificate {certificate}"
            raise SettingError(problem, f"Name the key of {names.certificate}") from error
        problem = f"{names.certificate}: {certificate} with {path} is no PEM certificate with its key"
        raise SettingError(problem, f"Correct {names.certificate} or {names.key}") from error


def tls_problem(error: BaseException, place: str, names: Names) -> SettingError | None:
    """What has to be corrected; None if `error` and its causes say nothing of TLS, or nothing that lasts. `place`: `MySQL at host:port`."""
    found = _find(error)
    if isinstance(found, ssl.SSLCertVerificationError):
        return _not_trusted(found, place, names)
    reason = found.reason if found is not None else None
    if reason in _NOT_OURS:
        problem = f"{place} does not accept our certificate, or wants to see one ({_words(reason)})"
        return SettingError(problem, f"Give one that it trusts: {names.certificate} and {names.key}")
    if reason in _NO_TLS:
        return SettingError(f"{place} does not speak TLS", f"Correct {names.address}, or ask for no TLS")
    if reason in _OTHER_VERSION:
        return SettingError(f"{place} speaks no TLS that is still safe", "Let it offer TLS 1.2 or newer")
    return None


def _find(error: BaseException) -> ssl.SSLError | None:
    """PyMySQL wraps some of them, and only mentions others."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, ssl.SSLError):
        seen = getattr(seen, "original_exception", None) or seen.__cause__ or seen.__context__
    return seen


def _not_trusted(error: ssl.SSLCertVerificationError, place: str, names: Names) -> SettingError:
    if error.verify_code == _EXPIRED:
        return SettingError(f"the certificate of {place} has expired", "Renew it on the server")
    if error.verify_code == _NOT_YET_VALID:
        return SettingError(f"the certificate of {place} is not valid yet", "Compare the clocks of both machines")
    if error.verify_code in _OTHER_HOST:
        problem = f"the certificate of {place} is for another host ({error.verify_message})"
        return SettingError(problem, f"Use a name that it holds in {names.address}, or give the server another one")
    problem = f"the certificate of {place} is signed by no CA that we trust ({error.verify_message})"
    return SettingError(problem, f"Set {names.ca} to the certificate of the CA that signed it")


def _words(reason: str | None) -> str:
    return (reason or "").partition("ALERT_")[2].replace("_", " ").lower()
