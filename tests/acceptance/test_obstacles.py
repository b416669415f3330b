"""What can be in the way of the command line: each is one sentence."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.acceptance.cli import LEAN, UP, Cli

#: Everything starts at once on what may be two cores, next to other tests.
pytestmark = pytest.mark.timeout(300)


def test_down_without_a_stack_is_fine(cli: Cli) -> None:
    done = cli.run("down")
    assert (done.returncode, done.stdout) == (0, "")
    assert not cli.home.exists()


@pytest.mark.parametrize("port", ["explicit", "default"])
def test_a_taken_port_is_named(cli: Cli, port: str) -> None:
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 0 if port == "explicit" else 8080))
            taken.listen()
            number = taken.getsockname()[1]
        except OSError:  # somebody else has 8080, which is as good
            number = 8080
        sentence = cli.refuses(*UP, CLAWQ_API_PORT=str(number) if port == "explicit" else "")
    assert str(number) in sentence
    assert "CLAWQ_API_PORT" in sentence


def test_a_home_that_is_a_file_is_named(cli: Cli) -> None:
    cli.home.touch()
    for command in (UP, ("down",), ("status",)):
        assert f"CLAWQ_HOME {cli.home} is not a directory" in cli.refuses(*command)


@pytest.mark.parametrize(
    ("part", "reason"),
    [("x" * 300, "File name too long"), ("/".join(["y" * 200] * 5), "longer than 900 bytes")],
)
def test_a_home_that_is_too_long_is_one_sentence(cli: Cli, part: str, reason: str) -> None:
    assert reason in cli.refuses(*UP, CLAWQ_HOME=str(cli.home / part))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_is_not_ours_is_one_sentence(cli: Cli) -> None:
    assert "cannot be used: Permission denied" in cli.refuses(*UP, CLAWQ_HOME="/root/clawq")


def test_wrong_settings_are_all_named(cli: Cli) -> None:
    sentence = cli.refuses("status", CLAWQ_API_PORT="many", CLAWQ_LEASE_S="0")
    assert "api_port" in sentence
    assert "lease_s" in sentence


def fill(path: Path) -> None:
    """Write until there is no space left."""
    with path.open("wb", 0) as file:
        while file.write(b"\0" * (1 << 20)):
            pass


@contextmanager
def filesystem(place: Path, size: str) -> Iterator[Path]:
    """A file system of this size, or skip."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("may not mount a file system here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount here")
def test_a_full_disk_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    with filesystem(tmp_path / "tiny", "20m") as place:
        assert "has 20 MB of free space, and 200 MB are needed." in cli.refuses(*UP, CLAWQ_HOME=str(place / "h"))


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount here")
def test_a_disk_that_fills_up_does_not_take_the_stack_down(cli: Cli, tmp_path: Path) -> None:
    with filesystem(tmp_path / "small", "220m") as place:
        cli.home = place / "home"
        found = cli.up(*LEAN)
        try:
            with pytest.raises(OSError, match="No space left"):
                fill(place / "filler")
            assert httpx.get(f"{found['api_url']}/health").status_code == 200
            status = json.loads(cli.run("status", "--json").stdout)
            assert {p["state"] for p in status["processes"]} == {"running"}
        finally:
            (place / "filler").unlink(missing_ok=True)
            assert cli.run("down").returncode == 0
