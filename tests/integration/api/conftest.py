"""The real application in front of real services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api import create_app, news
from app import keys
from app.db import transaction

PREFIX = "/api/v1"


class Caller:
    """Somebody with a key."""

    def __init__(self, client: FlaskClient, owner: str, key_text: str) -> None:
        self.owner = owner
        self.key_text = key_text
        self._client = client

    def call(self, method: str, path: str, json: Any = None, **options: Any) -> TestResponse:
        """Any request; `path` is below /api/v1."""
        headers = {"Authorization": f"Bearer {self.key_text}"} | options.pop("headers", {})
        if json is not None:
            options["json"] = json
        return self._client.open(PREFIX + path, method=method, headers=headers, **options)

    def get(self, path: str, status: int = 200, **options: Any) -> Any:
        """What a GET answers, after a look at its status."""
        response = self.call("GET", path, **options)
        assert response.status_code == status, response.text
        return response.get_json()

    def post(self, path: str, json: Any = None, status: int = 202, **options: Any) -> Any:
        """What a POST answers, after a look at its status."""
        response = self.call("POST", path, json, **options)
        assert response.status_code == status, response.text
        return response.get_json()


@pytest.fixture
def app(clawq: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The application, with empty tables."""
    yield create_app()
    news.news().close()
    news.news.cache_clear()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Somebody without a key."""
    return app.test_client()


@pytest.fixture
def caller(app: Flask) -> Callable[..., Caller]:
    """Make somebody with a key of these scopes."""

    def make(owner: str, *scopes: str) -> Caller:
        with transaction() as db:
            _, key_text = keys.create(db, name=owner, owner=owner, scopes=scopes)
        return Caller(app.test_client(), owner, key_text)

    return make


@pytest.fixture
def ada(caller: Callable[..., Caller]) -> Caller:
    """Somebody who submits tasks; owner of what tests.support posts."""
    return caller("ada", "submit")


@pytest.fixture
def bob(caller: Callable[..., Caller]) -> Caller:
    """Somebody else."""
    return caller("bob", "submit")


@pytest.fixture
def admin(caller: Callable[..., Caller]) -> Caller:
    """An administrator."""
    return caller("root", "admin")
