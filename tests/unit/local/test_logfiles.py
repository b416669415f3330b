from __future__ import annotations

import stat
from pathlib import Path

from app.local.logfiles import LogFile, tail


def test_a_log_is_private_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "web.log"
    log = LogFile(path, max_bytes=1000)
    for number in range(100):
        log({"data": f"line {number:03}\n".encode() * 10})
    log.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 2000
    assert sorted(file.name for file in tmp_path.iterdir()) == ["web.log", "web.log.1"]
    assert tail(path, 1) == ["line 099"]


def test_a_log_that_cannot_be_written_loses_lines_only(tmp_path: Path) -> None:
    LogFile(tmp_path / "missing" / "web.log").write(b"lost\n")


def test_a_full_disk_loses_lines_only() -> None:
    log = LogFile(Path("/dev/full"))
    log.write(b"lost\n")
    log.write(b"lost\n")
    log.close()


def test_the_tail_of_no_log_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "none.log") == []
    assert tail(None) == []


def test_bytes_that_are_not_text_are_shown(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"ok\n\xff\xfe\n")
    assert tail(tmp_path / "x.log")[0] == "ok"
