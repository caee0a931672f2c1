"""Finding and fetching the private servers' parts: the pure decisions, and the setup's healing."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pixtail.core.errors import PixtailError
from pixtail.servers import debian, parts, setup
from pixtail.servers.kafka import new_cluster_id, parse_metadata
from pixtail.servers.parts import Part, PartMissing
from pixtail.servers.process import HOST, free_port, is_free


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty parts folder of this test's own."""
    monkeypatch.setenv("PIXTAIL_PARTS", str(tmp_path / "parts"))
    return tmp_path / "parts"


def runnable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_parts_folder_is_the_named_one_then_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIXTAIL_PARTS", str(tmp_path))
    assert parts.parts_folder() == tmp_path
    monkeypatch.delenv("PIXTAIL_PARTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert parts.parts_folder() == tmp_path / "cache" / "pixtail" / "parts"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parts.parts_folder() == tmp_path / ".cache" / "pixtail" / "parts"


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_402"', 8),
        ("command not found", 0),
    ],
)
def test_java_versions_old_and_new_are_read(said: str, version: int) -> None:
    assert parts.java_version(said) == version


@pytest.mark.usefixtures("folder")
def test_a_part_without_its_marker_or_of_another_version_is_not_there() -> None:
    part = parts.fetched_folder(Part.KAFKA)
    part.mkdir(parents=True)
    (part / "kafka-clients.jar").touch()
    assert not parts.is_there(Part.KAFKA)
    parts.mark_done(Part.KAFKA, part)
    assert parts.require(Part.KAFKA) == part
    (part / ".pixtail-part").write_text("kafka 3.9.0\n")
    assert not parts.is_there(Part.KAFKA)


def test_the_versions_are_those_of_the_pom() -> None:
    assert parts.wanted_version(Part.KAFKA).startswith("4.")
    assert parts.marker_text(Part.MYSQL).startswith(f"mysql {parts.wanted_version(Part.MYSQL)} ")


def test_a_missing_part_is_named_with_the_line_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "program", lambda *_: None)
    with pytest.raises(PartMissing) as caught:
        parts.require(Part.CHROMIUM)
    assert caught.value.part is Part.CHROMIUM
    assert str(caught.value) == (
        "Chromium is missing: there is no chromium or chromium-browser or google-chrome. "
        "Run: python -m pixtail.servers.setup"
    )


def test_a_java_that_is_too_old_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = runnable(tmp_path / "bin" / "java", "#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr(parts, "program", lambda name: old if Path(name).is_absolute() else None)
    with pytest.raises(PartMissing, match="is version 11"):
        parts.require(Part.JAVA)


def test_programs_are_found_by_their_first_name_that_exists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = runnable(tmp_path / "pixtail-second-name")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert parts.program("pixtail-first-name", "pixtail-second-name") == found
    assert parts.program("pixtail-first-name") is None


def test_the_first_package_that_the_distribution_has_is_taken() -> None:
    java = debian.Need(("openjdk-17-jre-headless", "openjdk-21-jre-headless"), lambda: False)
    snap = debian.Need(("chromium",), lambda: False)
    assert debian.packages_for([java, snap], {"openjdk-21-jre-headless"}.__contains__) == (
        ["openjdk-21-jre-headless"],
        [snap],
    )


def test_services_are_held_back_only_while_packages_install(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with debian.no_service_starts(policy):
        assert policy.read_text().endswith("exit 101\n")
        assert policy.stat().st_mode & 0o111
    assert not policy.exists()


def test_a_policy_of_the_machine_is_left_alone(tmp_path: Path) -> None:
    policy = runnable(tmp_path / "policy-rc.d", "#!/bin/sh\nexit 0\n")
    with debian.no_service_starts(policy):
        assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert policy.exists()


@pytest.fixture
def maven(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[Path]:
    """A Maven that delivers one jar at once; the list holds where it was asked to put them."""
    asked: list[Path] = []

    def deliver(into: Path, *_choices: str) -> None:
        asked.append(into)
        (into / "a.jar").touch()

    for part in (Part.MYSQL, Part.DEBEZIUM):
        parts.fetched_folder(part).mkdir(parents=True)
        parts.mark_done(part, parts.fetched_folder(part))
    monkeypatch.setattr(setup, "copy_jars", deliver)
    monkeypatch.setattr(setup, "program", lambda *_: Path("mvn"))
    monkeypatch.setattr(setup, "_finish_mysql", lambda: None)
    monkeypatch.setattr(setup, "_finish_kafka", lambda: None)
    return asked


def test_parts_are_fetched_once(maven: list[Path]) -> None:
    setup.fetch_parts()
    setup.fetch_parts()
    assert len(maven) == 1
    assert parts.is_fetched(Part.KAFKA)


def test_what_a_killed_setup_left_is_replaced(maven: list[Path], folder: Path) -> None:
    for leftover in ("kafka", "kafka.new", "kafka.old"):
        (folder / leftover).mkdir()
        (folder / leftover / "half.jar").touch()
    setup.fetch_parts()
    assert maven == [folder / "kafka.new"]
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "debezium", "kafka", "mysql"]
    assert sorted(path.name for path in (folder / "kafka").iterdir()) == [".pixtail-part", "a.jar"]


def test_a_failed_fetch_leaves_the_former_part(monkeypatch: pytest.MonkeyPatch, maven: list[Path]) -> None:
    setup.fetch_parts()
    monkeypatch.setattr(parts, "wanted_version", lambda _part: "99")

    def fail(*_: object, **_pom: object) -> None:
        raise PixtailError("Maven cannot fetch the parts", "It needs the network")

    monkeypatch.setattr(setup, "copy_jars", fail)
    with pytest.raises(PixtailError):
        setup.fetch_parts()
    assert (parts.fetched_folder(Part.KAFKA) / "a.jar").exists()
    assert not parts.is_fetched(Part.KAFKA)


def test_two_setups_at_once_fetch_once(maven: list[Path]) -> None:
    threads = [threading.Thread(target=setup.fetch_parts) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(maven) == 1


@pytest.mark.usefixtures("folder")
def test_without_maven_the_setup_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "program", lambda *_: None)
    setup.fetch_parts()
    assert "need Maven" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_a_maven_that_fails_is_quoted_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = runnable(tmp_path / "mvn", "#!/bin/sh\necho '[ERROR] Unknown host'\nexit 1\n")
    monkeypatch.setattr(setup, "program", lambda *_: broken)
    monkeypatch.setattr(setup, "RETRY_PAUSES_S", (0.0, 0.0))
    with pytest.raises(PixtailError, match=r"Unknown host.*needs the network"):
        setup.copy_jars(tmp_path / "jars", "-Dx")


@pytest.mark.usefixtures("folder")
def test_a_maven_that_had_a_bad_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    once = tmp_path / "once"
    script = f"#!/bin/sh\nif [ -e {once} ]; then touch {tmp_path}/jars/a.jar; else touch {once}; exit 1; fi\n"
    broken = runnable(tmp_path / "mvn", script)
    (tmp_path / "jars").mkdir()
    monkeypatch.setattr(setup, "program", lambda *_: broken)
    monkeypatch.setattr(setup, "RETRY_PAUSES_S", (0.0,))
    setup.copy_jars(tmp_path / "jars", "-Dx")


def test_an_ordinary_user_is_told_the_line_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("only root may install")

    has: Callable[[str], bool] = {"prometheus"}.__contains__
    monkeypatch.setattr(debian, "needs", lambda: [debian.Need(("prometheus",), lambda: False)])
    monkeypatch.setattr(debian, "is_debian", lambda: True)
    monkeypatch.setattr(debian, "has_package", has)
    monkeypatch.setattr(debian, "install", refuse)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    setup.install_packages()
    assert "sudo apt-get install -y -q --no-install-recommends prometheus" in capsys.readouterr().err


def test_a_free_port_is_free_and_not_among_those_that_clients_are_given() -> None:
    port = free_port()
    assert port < 32768
    with socket.create_server((HOST, port)):
        assert not is_free(port)


def test_cluster_ids_have_22_characters_and_do_not_look_like_options() -> None:
    ids = {new_cluster_id() for _ in range(500)}
    assert {len(text) for text in ids} == {22}
    assert not any(text.startswith("-") for text in ids)


def test_a_metadata_answer_is_read_and_a_short_one_refused() -> None:
    broker = struct.pack(">ih4sih", 1, 4, b"host", 9092, -1)
    body = struct.pack(">ii", 7, 2) + broker + broker + struct.pack(">h3s", 3, b"abc") + b"\0" * 8
    assert parse_metadata(body) == (2, "abc")
    with pytest.raises(struct.error):
        parse_metadata(body[:20])
