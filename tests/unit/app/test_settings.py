"""Settings: where they come from, what they refuse, and what they never show."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.errors import SettingsError
from app.settings import Settings, settings


@pytest.fixture(autouse=True)
def _here(environment: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An empty working directory, so that no `.env` of the machine is read."""
    (tmp_path / "home").mkdir()
    environment.chdir(tmp_path)
    return environment


def test_every_setting_has_a_default() -> None:
    assert settings().database_url is None
    assert settings().window == 1000
    assert settings().log_level == "INFO"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_postgres_url_of_any_spelling_is_for_psycopg2(environment: pytest.MonkeyPatch, scheme: str) -> None:
    environment.setenv("DATABASE_URL", f"{scheme}://u:p%40ss@h:5/d?sslmode=require")
    assert settings().require_database_url() == "postgresql+psycopg2://u:p%40ss@h:5/d?sslmode=require"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://h/d"), ("DATABASE_URL", "postgresql+psycopg://h/d"), ("DATABASE_URL", "postgresql"),
        ("REDIS_URL", "http://h"), ("REDIS_URL", "localhost:6379"), ("LOG_LEVEL", "loud"), ("AGENT_TYPE", "painter"),
        ("CLAWQ_LEASE_S", "0"), ("CLAWQ_LEASE_S", "soon"), ("CLAWQ_WINDOW", "0"), ("CLAWQ_SANDBOX", "none"),
        ("CLAWQ_API_PORT", "65536"), ("DOCKER_ENABLED", "perhaps"), ("CLAWQ_DRAIN_S", "-1"),
        ("CLAWQ_SANDBOX_CEILING", '{"memory": 1}'), ("CLAWQ_SANDBOX_CEILING", '{"memory_mb": 8192}'),
        ("CLAWQ_SANDBOX_CEILING", '{"pids": 1.5}'), ("CLAWQ_SANDBOX_CEILING", "128"),
        ("CLAWQ_SANDBOX_CEILING", "128 MB"), ("CLAWQ_SANDBOX_IMAGES", "a b"),
        ("CLAWQ_SANDBOX_RUNTIMES", '{"perl": "runsc"}'), ("CLAWQ_SANDBOX_RUNTIMES", "runsc"),
        ("CLAWQ_SANDBOX_NETWORKS", "egress,host"), ("CLAWQ_SANDBOX_NETWORKS", "container:db"),
        ("CLAWQ_WS_PORT", "-1"), ("CLAWQ_FLOWER_USER", "a:b"), ("CLAWQ_FLOWER_USER", "a b"),
        ("CLAWQ_FLOWER_PASSWORD", "1234567"), ("CLAWQ_FLOWER_PASSWORD", "correct horse"),
        ("CLAWQ_FLOWER_PASSWORD", "pässwörter"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"(?i){name.removeprefix('CLAWQ_')}"):
        settings()


def test_all_problems_are_told_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DATABASE_URL", "mysql://h")
    environment.setenv("REDIS_URL", "http://h")
    environment.setenv("CLAWQ_LEASE_S", "0")
    with pytest.raises(SettingsError) as caught:
        settings()
    assert len(caught.value.problems) == 3
    assert all(name in caught.value.detail for name in ("DATABASE_URL", "REDIS_URL", "lease_s"))


def test_a_secret_shows_in_no_repr_str_or_error(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DATABASE_URL", "postgresql://u:hunter2@h/d")
    environment.setenv("REDIS_URL", "redis://:hunter2@h/0")
    assert "hunter2" not in repr(settings()) + str(settings()) + str(settings().model_dump())
    settings.cache_clear()
    environment.setenv("DATABASE_URL", "mysql://u:hunter2@h/d")
    environment.setenv("REDIS_URL", "hunter2")
    environment.setenv("CLAWQ_LEASE_S", "hunter2")
    with pytest.raises(SettingsError) as caught:
        settings()
    assert "hunter2" not in f"{caught.value!r} {caught.value} {caught.value.problems}"
    with pytest.raises(ValidationError) as raw:
        Settings()
    assert "hunter2" not in str(raw.value)


def test_what_is_needed_and_missing_is_named_with_a_way_out() -> None:
    with pytest.raises(SettingsError, match=r"DATABASE_URL is not set.*clawq up"):
        settings().require_database_url()
    with pytest.raises(SettingsError, match="REDIS_URL is not set"):
        settings().require_redis_url()


def test_the_environment_beats_dot_env_and_that_beats_the_running_stack(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "home" / "stack.env").write_text("CLAWQ_WINDOW=1\nCLAWQ_API_PORT=1\nCLAWQ_DRAIN_S=1\n")
    (tmp_path / ".env").write_text("CLAWQ_WINDOW=2\nCLAWQ_API_PORT=2\n")
    environment.setenv("CLAWQ_WINDOW", "3")
    assert (settings().window, settings().api_port, settings().drain_s) == (3, 2, 1)


@pytest.mark.parametrize("lower", ["DATABASE_URL", "CLAWQ_DATABASE_URL"])
@pytest.mark.parametrize("higher", ["DATABASE_URL", "CLAWQ_DATABASE_URL"])
def test_the_place_of_a_setting_decides_and_not_which_of_its_names_is_used(
    environment: pytest.MonkeyPatch, tmp_path: Path, lower: str, higher: str
) -> None:
    (tmp_path / "home" / "stack.env").write_text(f"{lower}=postgresql://stack/d\n")
    (tmp_path / ".env").write_text(f"{higher}=postgresql://dotenv/d\n")
    assert "//dotenv/" in settings().require_database_url()
    settings.cache_clear()
    (tmp_path / ".env").write_text(f"{lower}=postgresql://dotenv/d\n")
    environment.setenv(higher, "postgresql://environment/d")
    assert "//environment/" in settings().require_database_url()


@pytest.mark.parametrize("written", ["", "CLAWQ_HOME=elsewhere\n"])
def test_the_stack_is_looked_for_in_the_home_that_is_set(
    environment: pytest.MonkeyPatch, tmp_path: Path, written: str
) -> None:
    environment.setenv("CLAWQ_HOME", "") if written else environment.delenv("CLAWQ_HOME")
    (tmp_path / ".env").write_text(written)
    home = tmp_path / ("elsewhere" if written else "var")
    home.mkdir()
    (home / "stack.env").write_text("CLAWQ_WINDOW=7\n")
    assert settings().window == 7
    assert settings().home == Path(home.name)


def test_an_empty_variable_counts_as_unset(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DATABASE_URL", "")
    environment.setenv("CLAWQ_HEALTH_PORT", "")
    assert settings().database_url is None
    assert settings().health_port is None


def test_lists_are_written_with_commas_and_maps_as_json(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("""CLAWQ_SANDBOX_CEILING='{"memory_mb": 512.0, "wall_s": 2.5}'\n""")
    environment.setenv("CLAWQ_SANDBOX_IMAGES", " a:1 ,b/c:2,")
    environment.setenv("CLAWQ_SANDBOX_RUNTIMES", '{"container": "runsc"}')
    assert settings().sandbox_images == ("a:1", "b/c:2")
    assert settings().sandbox_networks == ()
    assert settings().sandbox_runtimes == {"container": "runsc"}
    assert settings().sandbox_ceiling == {"memory_mb": 512, "wall_s": 2.5}
    assert isinstance(settings().sandbox_ceiling["memory_mb"], int)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        settings().window = 2
