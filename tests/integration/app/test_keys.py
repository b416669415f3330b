"""API keys: only their hash is kept, and whatever is wrong with one, the answer is the same."""

from __future__ import annotations

import hashlib
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app import keys
from app.db import transaction
from app.errors import NotFound, Unauthorized
from tests.support import scalar, sql, together

pytestmark = pytest.mark.usefixtures("clawq")


def make(**values: object) -> tuple[str, str]:
    with transaction() as db:
        row, text = keys.create(db, **{"name": "n", "owner": "ada", "scopes": ["read"], **values})  # type: ignore[arg-type]
        return row.id, text


def who(text: str) -> keys.Caller:
    with transaction() as db:
        return keys.authenticate(db, text)


def test_a_key_says_whose_it_is_and_what_it_may() -> None:
    key_id, text = make(scopes=["submit", "read", "read"])
    assert who(text) == keys.Caller(key_id, "ada", frozenset({"read", "submit"}))


def test_the_secret_is_nowhere_in_the_database() -> None:
    key_id, text = make()
    secret = text.removeprefix(f"clawq_{key_id}_")
    assert scalar("SELECT count(*) FROM api_keys WHERE api_keys::text LIKE '%' || :s || '%'", s=secret) == 0
    assert bytes(scalar("SELECT secret_sha256 FROM api_keys")) == hashlib.sha256(secret.encode()).digest()


def test_two_keys_share_nothing() -> None:
    (_, one), (_, two) = make(), make()
    assert one != two
    assert who(one).key_id != who(two).key_id


def test_a_key_that_cannot_be_used_is_refused_without_saying_why() -> None:
    key_id, text = make()
    _, other = make()
    _, expired = make(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    revoked_id, revoked = make()
    with transaction() as db:
        keys.revoke(db, revoked_id)
    swapped = f"clawq_{key_id}_{other.rsplit('_', 1)[0].split('_', 2)[-1]}"
    wrong = [
        "", "clawq", text[:-1], text + "x", text.upper(), f" {text}", f"{text}\n", "clawq_" + "0" * 32 + text[38:],
        swapped, expired, revoked, "clawq_é", text[:-1] + ("A" if text[-1] != "A" else "B"), text[:-1] + "\0",
    ]  # fmt: skip
    for bad in wrong:
        with pytest.raises(Unauthorized) as caught:
            who(bad)
        assert caught.value.detail == "The API key is not valid."
    assert who(text)


def test_a_key_holds_until_it_expires() -> None:
    _, text = make(expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert who(text)
    sql("UPDATE api_keys SET expires_at = now()")
    with pytest.raises(Unauthorized):
        who(text)


def test_revoking_twice_keeps_the_first_time() -> None:
    key_id, _ = make()
    times = []
    for _ in range(2):
        with transaction() as db:
            keys.revoke(db, key_id)
        times.append(scalar("SELECT revoked_at FROM api_keys"))
    assert times[0] == times[1]
    with transaction() as db, pytest.raises(NotFound):
        keys.revoke(db, "none")


def test_keys_are_found_page_by_page() -> None:
    ids = [make()[0] for _ in range(5)]
    with transaction() as db:
        first, cursor = keys.find(db, None, 3)
        rest, end = keys.find(db, cursor, 3)
    assert [key.id for key in (*first, *rest)] == ids[::-1]
    assert end is None


def test_the_first_key_is_made_once_and_anew_when_it_is_of_no_use(postgres_url: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    text = keys.ensure_first_key(postgres_url, path)
    assert who(text).may("admin")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == f"{text}\n"
    assert keys.ensure_first_key(postgres_url, path) == text
    sql("UPDATE api_keys SET revoked_at = now()")
    again = keys.ensure_first_key(postgres_url, path)
    assert again != text
    path.unlink()
    assert keys.ensure_first_key(postgres_url, path) not in (text, again)


def test_a_key_file_that_others_could_read_is_made_private(postgres_url: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("something else")
    path.chmod(0o644)
    keys.ensure_first_key(postgres_url, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_many_keys_made_at_once_all_work() -> None:
    made = together(*[make] * 8)
    assert len({who(text).key_id for _, text in made}) == 8
