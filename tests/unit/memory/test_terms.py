"""What the keyword part of a search sees of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.memory.terms import asked, indexed, is_continuous


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("我喜欢机器学习", "我喜 喜欢 欢机 机器 器学 学习"),
        ("茶", "茶"),
        ("iPhone手机v2", "iPhone 手机 v2"),
        ("你好，世界！", "你好 , 世界 !"),
        ("東京タワー", "東京 京タ タワ ワー"),
        ("ﾃﾞｰﾀ", "デー ータ"),
        ("빠른 검색", "빠른   검색"),
        ("ภาษาไทย", "ภา าษ ษา าไ ไท ทย"),
        ("ที่นี่", "ที่นี่"),
        ("ພາສາລາວ", "ພາ າສ ສາ າລ ລາ າວ"),
        ("ភាសាខ្មែរ", "ភាសា សាខ្ ខ្មែ មែរ"),
    ],
)
def test_runs_without_spaces_become_pairs_of_characters(text: str, terms: str) -> None:
    assert indexed(text).strip() == terms


@pytest.mark.parametrize(
    "text", ["Plain English, as it is.\n\tTwo  spaces", "élan vital", "Привет, мир", "हिन्दी", "عربي"]
)
def test_other_text_is_left_alone(text: str) -> None:
    assert indexed(text) == text


def test_compatible_forms_become_one() -> None:
    assert indexed("ｆｕｌｌ ﬁne") == "full fine"


@given(st.text())
def test_what_asks_is_treated_as_what_is_asked(text: str) -> None:
    assert asked(text) == indexed(text)


def test_every_pair_of_a_query_is_in_a_text_that_holds_it() -> None:
    text = "今天我在北京学习机器学习系统"
    assert set(asked("机器学习系统").split()) <= set(indexed(text).split())


@pytest.mark.parametrize("text", ["a" * 200_000, "字" * 200_000, "ﷺ" * 50_000, "㌖" * 50_000, "ที่" * 70_000])
def test_the_result_is_bounded(text: str) -> None:
    assert len(indexed(text)) < 4 * 65_536


def test_scripts_without_spaces_are_told_from_others() -> None:
    assert all(is_continuous(word) for word in ("機械", "검색", "ไทย"))
    assert not any(is_continuous(word) for word in ("word", "слово", "12"))
