"""Settings: read from the environment, `.env` and the running embedded stack, validated all at once.

Precedence: process environment, then `.env` in the working directory, then `$CLAWQ_HOME/stack.env`, which the
embedded stack writes, so that `celery -A app …` by hand reaches the services that `clawq up` started.
"""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.errors import Problem, SettingsError
from app.programs import CodeLimits, ImageName, NetworkName, ProgramType, RuntimeName

Role = Literal["gateway", "coordinator", "execution", "memory"]


def _split(value: Any) -> Any:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _parse(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as exc:
        raise ValueError(f"must be JSON: {exc}") from None


def _named(name: str) -> AliasChoices:
    """One of the deployment design's own environment names, which carry no prefix."""
    return AliasChoices(name, f"CLAWQ_{name}")


class Settings(BaseSettings):
    """What a process of clawq needs to know. Frozen; secrets never show in its repr."""

    model_config = SettingsConfigDict(
        env_prefix="CLAWQ_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    home: Path = Field(Path("var"), description="Where the embedded stack keeps its state (mode 0700).")
    database_url: SecretStr | None = Field(
        None,
        validation_alias=_named("DATABASE_URL"),
        description="Postgres 15 to 18, postgresql://user:pass@host/db.",
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias=_named("REDIS_URL"),
        description="Redis 6.2+ or Valkey, redis://:pass@host:6379/0.",
    )
    vector_db_url: SecretStr | None = Field(
        None,
        validation_alias=_named("VECTOR_DB_URL"),
        description="Chroma 1.x, http://host:8000, or the name of its host.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias=_named("LOG_LEVEL"), description="DEBUG, INFO, WARNING or ERROR: what is logged."
    )
    log_format: Literal["auto", "console", "ecs", "text"] = Field(
        "auto",
        description="auto: console on a terminal, ECS JSON elsewhere; text: one line that grok can parse.",
    )
    agent_id: str | None = Field(
        None,
        validation_alias=_named("AGENT_ID"),
        description="The agent a worker is an instance of; default ROLE_agent.",
    )
    agent_type: Role | None = Field(
        None,
        validation_alias=_named("AGENT_TYPE"),
        description="A worker's role; default: the queue it consumes.",
    )
    docker_enabled: bool = Field(
        True, validation_alias=_named("DOCKER_ENABLED"), description="false: never use a container engine."
    )
    sandbox: Literal["auto", "docker", "process"] = Field(
        "auto", description="auto: docker where an engine answers and has the image, process otherwise."
    )
    sandbox_image: ImageName = Field(
        "python:3.11-slim", description="Image for python and shell in the docker sandbox; needs python3."
    )
    sandbox_javascript_image: ImageName = Field(
        "clawq-javascript:1", description="Image for javascript in the docker sandbox; needs node and python3."
    )
    sandbox_images: Annotated[tuple[ImageName, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="Images that tasks of type container may name, separated by commas; each needs python3."
    )
    sandbox_runtimes: Annotated[dict[ProgramType, RuntimeName], NoDecode, BeforeValidator(_parse)] = Field(
        {}, description='JSON, task type to OCI runtime, as in {"container": "runsc"}; default: the engine\'s.'
    )
    sandbox_networks: Annotated[tuple[NetworkName, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="Networks of the engine that programs may ask for, separated by commas."
    )
    sandbox_ceiling: Annotated[dict[str, float], NoDecode, BeforeValidator(_parse)] = Field(
        {}, description='JSON, the most that a task may ask of a limit, as in {"memory_mb": 512}.'
    )
    sandbox_warm: Annotated[dict[ImageName, Annotated[int, Field(ge=0, le=256)]], NoDecode, BeforeValidator(_parse)] = (
        Field(
            {"python": 4},
            description="JSON, containers a worker keeps started by language (python: shell too) or image, 16 MB each.",
        )
    )
    embedding_provider: Literal["hash", "onnx", "openai"] = Field(
        "hash", description="hash: lexical, built in; onnx: a model on disk; openai: any service of that protocol."
    )
    embedding_model_dir: Path | None = Field(
        None, description="onnx: the directory that holds model.onnx and tokenizer.json."
    )
    embedding_model: str = Field("text-embedding-3-small", min_length=1, description="openai: the model's name.")
    embedding_dimensions: int = Field(
        1536, ge=1, le=1536, description="openai: numbers in a vector, asked for and checked."
    )
    embedding_send_dimensions: bool = Field(
        True, description="openai: false for services that refuse the parameter `dimensions`."
    )
    embedding_base_url: SecretStr | None = Field(
        None, description="openai: the URL that `/embeddings` follows; default: OpenAI's own."
    )
    embedding_api_key: SecretStr | None = Field(None, description="openai: the service's API key.")
    api_port: int = Field(8080, ge=0, le=65535, description="Port of the HTTP API; 0 picks a free one.")
    ws_port: int = Field(8081, ge=0, le=65535, description="Port of the WebSocket server; 0 picks a free one.")
    ws_connections: int = Field(2000, ge=8, le=20_000, description="Most sockets of one WebSocket process.")
    ws_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="Origins besides its own whose pages may open sockets, as in https://example.org, by commas."
    )
    flower_port: int = Field(5555, ge=0, le=65535, description="Port of Flower; 0 picks a free one.")
    flower_user: str = Field("clawq", pattern="^[!-9;-~]+$", description="Flower's one user.")
    flower_password: SecretStr | None = Field(
        None, description="That user's password; default: the one that the embedded stack makes in CLAWQ_HOME."
    )
    api_url: str | None = Field(
        None, description="Where the command line finds the API; default: the running embedded stack's."
    )
    api_key: SecretStr | None = Field(
        None, description="The command line's API key; default: the embedded stack's first one."
    )
    bind_host: str = Field("127.0.0.1", description="Address that workers' health checks bind; 0.0.0.0 in a container.")
    health_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of a worker's /health; 0 picks a free one; default by role, 8000-8004.",
    )
    lease_s: float = Field(30, ge=0.5, le=3600, description="Seconds a claim holds without a heartbeat.")
    drain_s: float = Field(20, ge=0, le=3600, description="Seconds running tasks get at SIGTERM before hand-back.")
    window: int = Field(1000, ge=1, le=100_000, description="Most queued, unclaimed tasks a queue holds.")

    @field_validator("database_url")
    @classmethod
    def _use_psycopg2(cls, url: SecretStr | None) -> SecretStr | None:
        # SQLAlchemy 2.1 reads a bare postgresql:// as psycopg 3.
        if url is None:
            return None
        scheme, sep, rest = url.get_secret_value().partition("://")
        if not sep or scheme not in ("postgresql", "postgres", "postgresql+psycopg2"):
            raise ValueError("must be a postgresql:// URL")
        return SecretStr(f"postgresql+psycopg2://{rest}")

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("redis://", "rediss://")):
            raise ValueError("must be a redis:// or rediss:// URL")
        return url

    @field_validator("vector_db_url")
    @classmethod
    def _is_http(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        # The deployment design names the host alone.
        text = url.get_secret_value()
        text = text if "://" in text else f"http://{text}:8000"
        if not re.fullmatch(r"https?://[^/@\s]+/?", text):
            raise ValueError("must be an http:// or https:// URL without a path, or a host's name")
        return SecretStr(text.rstrip("/"))

    @field_validator("flower_password")
    @classmethod
    def _is_typeable(cls, password: SecretStr | None) -> SecretStr | None:
        # What else a browser would make of it is the browser's business.
        if password is not None and not re.fullmatch("[!-~]{8,}", password.get_secret_value()):
            raise ValueError("must be eight or more printable ASCII characters, without blanks")
        return password

    @field_validator("embedding_base_url")
    @classmethod
    def _is_http_with_path(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        if not re.fullmatch(r"https?://[^/@\s]+(/\S*)?", url.get_secret_value()):
            raise ValueError("must be an http:// or https:// URL")
        return SecretStr(url.get_secret_value().rstrip("/"))

    @field_validator("sandbox_networks")
    @classmethod
    def _no_host(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if "host" in names:
            raise ValueError("host is this machine, not a network for programs")
        return names

    @field_validator("sandbox_ceiling")
    @classmethod
    def _within_limits(cls, ceiling: dict[str, float]) -> dict[str, float]:
        try:
            limits = CodeLimits.model_validate(ceiling)
        except ValidationError as exc:
            raise ValueError("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors())) from None
        return {name: getattr(limits, name) for name in ceiling}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """One source a file: read together, the name a setting goes by would decide, not the file it is in."""
        files = getattr(dotenv_settings, "env_file", None) or ()
        files = (files,) if isinstance(files, str | Path) else files
        dotenvs = [DotEnvSettingsSource(settings_cls, env_file=file) for file in reversed(files)]
        return (init_settings, env_settings, *dotenvs)

    def require_database_url(self) -> str:
        """The Postgres URL. Raises SettingsError if none is configured."""
        return _require(self.database_url, "DATABASE_URL")

    def require_vector_db_url(self) -> str:
        """Chroma's URL. Raises SettingsError if none is configured."""
        return _require(self.vector_db_url, "VECTOR_DB_URL")

    def require_redis_url(self) -> str:
        """The Redis URL. Raises SettingsError if none is configured."""
        return _require(self.redis_url, "REDIS_URL")


def _require(value: SecretStr | None, name: str) -> str:
    if value is None:
        raise SettingsError(f"{name} is not set: start the embedded stack with `clawq up`, or set {name}.")
    return value.get_secret_value()


@cache
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        SettingsError: names every setting that is wrong, not just the first.
    """
    home = Path(os.environ.get("CLAWQ_HOME") or dotenv_values(".env").get("CLAWQ_HOME") or "var")
    try:
        return Settings(_env_file=(home / "stack.env", ".env"))
    except OSError as exc:
        raise SettingsError(f"CLAWQ_HOME {home} cannot be used: {exc.strerror}.") from None
    except UnicodeDecodeError as exc:
        raise SettingsError(f"A file of settings is not UTF-8: {exc.reason} at byte {exc.start}.") from None
    except ValidationError as exc:
        problems = [Problem(tuple(e["loc"]), e["msg"]) for e in exc.errors(include_input=False)]
        listing = "; ".join(f"{'.'.join(map(str, p.loc))}: {p.msg}" for p in problems)
        raise SettingsError(f"Wrong settings: {listing}", problems=problems) from None
