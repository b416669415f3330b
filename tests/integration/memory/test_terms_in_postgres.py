"""Terms in Postgres: text without spaces is found by its parts, and no text is too long for a tsvector."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from app.db import transaction
from app.memory.terms import asked, indexed

pytestmark = pytest.mark.usefixtures("clawq")


def matches(content: str, query: str) -> bool:
    with transaction() as db:
        return bool(
            db.execute(
                text("SELECT to_tsvector('english', :content) @@ plainto_tsquery('english', :query)"),
                {"content": indexed(content), "query": asked(query)},
            ).scalar()
        )


@pytest.mark.parametrize(
    ("content", "query"),
    [
        ("今天我在北京学习机器学习系统", "机器学习"),
        ("用户喜欢在早上喝绿茶", "绿茶"),
        ("東京タワーへ行きました", "ﾀﾜｰ"),
        ("제주도 여행을 계획하고 있습니다", "여행"),
        ("ผมชอบดื่มกาแฟตอนเช้า", "กาแฟ"),
        ("ខ្ញុំចូលចិត្តកាហ្វេ", "កាហ្វេ"),
        ("Das iPhone手机 ist neu", "手机 iPhone"),
        ("The servers are restarting", "server restarts"),
    ],
)
def test_a_text_is_found_by_a_part_of_it(content: str, query: str) -> None:
    assert matches(content, query)


def test_a_text_without_the_pairs_of_a_query_is_not_found() -> None:
    assert not matches("器机习学", "机器学习")


_DISTINCT = {
    "Han": "".join(chr(0x4E00 + at * 7919 % 20_000) for at in range(50_000)),
    "rare Han": "".join(chr(0x20000 + at * 7919 % 40_000) for at in range(50_000)),
    "Thai": "".join(chr(0xE01 + at * 31 % 46) + chr(0xE34 + at * 17 % 6) for at in range(25_000)),
    "words": " ".join(f"{at:x}" for at in range(10_000)),
    "hyphens": " ".join(f"a{at:x}-b{at:x}" for at in range(3_700)),
    "links": " ".join(f"a{at:x}.de/b{at:x}" for at in range(3_300)),
    "squared words": "".join(chr(0x3300 + at * 31 % 88) + chr(0x4E00 + at * 7919 % 20_000) for at in range(25_000)),
    "ligatures": "".join("ﷺ" + chr(0x4E00 + at * 7919 % 20_000) for at in range(25_000)),
    "more than a memory holds": "".join(
        chr(0x20000 + at * 7919 % 40_009) + chr(0x4E00 + at % 97) for at in range(99_999)
    ),
    "signs": "".join(chr(0x1D400 + at * 31 % 80) + (" " if at % 4 == 3 else "") for at in range(40_000)),
}


@pytest.mark.parametrize("kind", _DISTINCT)
def test_no_text_is_too_long_for_a_tsvector(kind: str) -> None:
    with transaction() as db:
        terms = db.execute(
            text("SELECT length(to_tsvector('english', :content))"), {"content": indexed(_DISTINCT[kind])}
        ).scalar()
    assert terms
