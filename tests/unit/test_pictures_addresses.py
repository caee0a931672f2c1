"""Which addresses pictures may come from, and how references are read."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from encoder.addresses import is_public, resolve
from encoder.local_pictures import shown
from encoder.pictures import below, kind
from pixtail.core.errors import PictureError, Reason


@pytest.mark.parametrize("text", ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "2002:808:808::1"])
def test_addresses_of_the_open_internet_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::1",
        "2002:a9fe:a9fe::1",
    ],
)  # fmt: skip
def test_no_other_address_is_public_whatever_it_hides_in(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


def answers(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    found: list[Any] = [(0, 0, 0, "", (address, 80)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: found)


def reason_of(host: str) -> Reason:
    with pytest.raises(PictureError) as caught:
        resolve(host, 80, allow_private=False)
    return caught.value.reason


def test_a_name_resolves_to_its_addresses_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "1.1.1.1", "2606:4700::1111", "1.1.1.1")
    assert resolve("a.example", 80, allow_private=False) == ["1.1.1.1", "2606:4700::1111"]


def test_one_private_answer_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "1.1.1.1", "10.0.0.1")
    assert reason_of("a.example") is Reason.FORBIDDEN_ADDRESS


def test_a_scoped_link_local_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "fe80::1%eth0")
    assert reason_of("a.example") is Reason.FORBIDDEN_ADDRESS


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "::1"])
def test_an_address_in_any_notation_is_judged_by_what_it_is(host: str) -> None:
    """No name server is asked: the system's resolver reads these itself."""
    assert reason_of(host) is Reason.FORBIDDEN_ADDRESS


def test_private_answers_pass_where_they_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "10.0.0.1")
    assert resolve("a.example", 80, allow_private=True) == ["10.0.0.1"]


def test_a_name_that_does_not_resolve_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert reason_of("nowhere.example") is Reason.UNREACHABLE
    monkeypatch.undo()
    assert reason_of("a" * 70 + ".example") is Reason.UNREACHABLE  # no valid label: the IDNA codec refuses it


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("http://a/b.jpg", "http"),
        ("HTTPS://a/b.jpg", "http"),
        ("a/b.jpg", "path"),
        ("/a/b.jpg", "path"),
        ("file:///a/b.jpg", "path"),
        ("a:b.jpg", "path"),
        ("C:\\b.jpg", "path"),
    ],
)
def test_a_reference_is_a_url_or_a_path(ref: str, expected: str) -> None:
    assert kind(ref) == expected


@pytest.mark.parametrize("ref", ["s3://b/k.jpg", "gs://b/k", "az://b/k", "ftp://h/k", "data:image/png;base64,AA"])
def test_other_schemes_are_unsupported_and_say_so(ref: str) -> None:
    with pytest.raises(PictureError) as caught:
        kind(ref)
    assert caught.value.reason is Reason.UNSUPPORTED
    assert "support" in caught.value.problem


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("a.jpg", "https://cdn.example/img/a.jpg"),
        ("/up/a.jpg", "https://cdn.example/img/up/a.jpg"),
        ("./a//b.jpg", "https://cdn.example/img/a/b.jpg"),
        ("50% off?#1 ü.jpg", "https://cdn.example/img/50%25%20off%3F%231%20%C3%BC.jpg"),
        ("@evil.example/a.jpg", "https://cdn.example/img/%40evil.example/a.jpg"),
    ],
)
def test_a_relative_path_stands_below_the_base_url_literally(path: str, url: str) -> None:
    assert below("https://cdn.example/img/", path) == url
    assert below("https://cdn.example/img", path) == url


def test_a_relative_path_cannot_climb_out_of_the_base_url() -> None:
    with pytest.raises(PictureError) as caught:
        below("https://cdn.example/img", "a/../../secret.jpg")
    assert caught.value.reason is Reason.FORBIDDEN_ADDRESS


def test_a_message_shows_neither_credentials_nor_signatures() -> None:
    assert shown("https://user:secret@host/a.jpg?X-Amz-Signature=secret") == "https://host/a.jpg"
    assert len(shown("x" * 5000)) < 250
