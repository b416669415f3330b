from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from app.errors import SettingsError
from app.local import home as homes


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_is_private(tmp_path: Path) -> None:
    home = homes.open_home(tmp_path / "some where" / "deep")
    assert mode(home.path) == 0o700
    assert mode(home.logs) == 0o700


def test_a_directory_with_other_things_in_it_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "somebody's").touch()
    home = homes.open_home(tmp_path)
    assert mode(tmp_path) == 0o755
    assert mode(home.logs) == 0o700


def test_an_empty_directory_is_made_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    homes.open_home(tmp_path)
    assert mode(tmp_path) == 0o700


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert homes.locate(Path("var")).path == tmp_path / "var"


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="is not a directory"):
        homes.open_home(tmp_path / "file")
    with pytest.raises(SettingsError, match="Not a directory"):
        homes.open_home(tmp_path / "file" / "below")


@pytest.mark.parametrize("path", [Path("/tmp/" + "x" * 300), Path("/tmp/" + "/".join(["y" * 100] * 10))])
def test_a_path_that_is_too_long_is_one_sentence(path: Path) -> None:
    with pytest.raises(SettingsError, match=r"too long|longer than 900 bytes"):
        homes.open_home(path)


def test_too_little_space_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes.shutil, "disk_usage", lambda _: SimpleNamespace(free=42 << 20))
    with pytest.raises(SettingsError, match=r"has 42 MB of free space, and 200 MB are needed\.$"):
        homes.open_home(tmp_path)


def test_one_stack_a_home(tmp_path: Path) -> None:
    home = homes.open_home(tmp_path)
    assert not homes.is_held(home)
    with homes.acquire(home):
        assert homes.is_held(home)
        holder = homes.holder(home)
        assert holder is not None
        assert holder.pid == os.getpid()
        with pytest.raises(homes.StackRunning, match="already running"):
            homes.acquire(home, patience_s=0)
    assert not homes.is_held(home)
    assert homes.holder(home) is None


def test_a_look_at_the_lock_does_not_keep_a_supervisor_out(tmp_path: Path) -> None:
    home = homes.open_home(tmp_path)
    home.lock_file.touch()
    with home.lock_file.open() as file:
        homes.fcntl.flock(file, homes.fcntl.LOCK_SH)
        looker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.2)"], pass_fds=[file.fileno()])
    homes.acquire(home, patience_s=10).close()
    assert looker.wait() == 0


def test_a_process_is_known_by_its_start_time_too() -> None:
    me = psutil.Process()
    assert homes.process_of(me.pid, me.create_time()) == me
    assert homes.process_of(me.pid, me.create_time() - 60) is None
    assert homes.process_of(None, me.create_time()) is None
    assert homes.process_of(me.pid, None) is None
