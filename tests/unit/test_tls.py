"""What a failed handshake means, and files that cannot be used."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from pymysql.err import OperationalError

from pixtail.core.errors import SettingError
from pixtail.core.tls import Names, client_context, tls_problem

NAMES = Names("the.ca", "the.certificate", "the.key", "the.address")


def failed(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


def untrusted(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("error", "said", "remedy"),
    [
        (untrusted(10, "certificate has expired"), "has expired", "Renew"),
        (untrusted(9, "certificate is not yet valid"), "is not valid yet", "clocks"),
        (untrusted(62, "Hostname mismatch"), "for another host (Hostname mismatch)", "the.address"),
        (untrusted(64, "IP address mismatch"), "for another host", "the.address"),
        (untrusted(18, "self-signed certificate"), "no CA that we trust (self-signed certificate)", "the.ca"),
        (failed("TLSV1_ALERT_UNKNOWN_CA"), "does not accept our certificate", "the.certificate and the.key"),
        (failed("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "wants to see one (certificate required)", "the.certificate"),
        (failed("WRONG_VERSION_NUMBER"), "does not speak TLS", "the.address"),
        (failed("UNSUPPORTED_PROTOCOL"), "no TLS that is still safe", "TLS 1.2"),
    ],
)
def test_each_failure_names_what_to_correct(error: ssl.SSLError, said: str, remedy: str) -> None:
    problem = tls_problem(error, "MySQL at db:3306", NAMES)
    assert problem is not None
    assert problem.problem.startswith(("MySQL at db:3306", "the certificate of MySQL at db:3306"))
    assert said in problem.problem
    assert remedy in problem.remedy


@pytest.mark.parametrize("error", [failed("UNEXPECTED_EOF_WHILE_READING"), ConnectionResetError(), TimeoutError()])
def test_a_connection_that_breaks_off_is_no_problem_of_tls(error: OSError) -> None:
    assert tls_problem(error, "MySQL at db:3306", NAMES) is None


def test_an_error_that_a_library_wrapped_is_found() -> None:
    lost = OperationalError(2013, "Lost connection")
    lost.__context__ = failed("TLSV1_ALERT_UNKNOWN_CA")  # as PyMySQL does while it reads
    assert tls_problem(lost, "MySQL at db:3306", NAMES)


def test_without_files_the_system_is_trusted_and_the_host_is_checked() -> None:
    context = client_context(NAMES, None, None, None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_folder_is_no_certificate(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"the\.ca: .* cannot be read"):
        client_context(NAMES, str(tmp_path), None, None)
