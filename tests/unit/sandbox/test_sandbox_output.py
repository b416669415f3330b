from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox.output import Keeper


def kept(data: bytes, limit: int = 1000, size: int = 7) -> tuple[str, Keeper]:
    keeper = Keeper(limit)
    for i in range(0, len(data), size):
        keeper.feed(data[i : i + size])
    return keeper.close(), keeper


def test_short_output_is_kept_as_it_is() -> None:
    text, keeper = kept("Grüße 🙂\n".encode(), size=1)
    assert text == "Grüße 🙂\n"
    assert not keeper.truncated
    assert not keeper.lossy


def test_head_and_tail_are_kept_and_the_gap_is_counted() -> None:
    text, keeper = kept(b"a" * 600 + b"b" * 600 + b"c" * 600)
    assert keeper.truncated
    assert text == "a" * 500 + "\n[… 800 bytes dropped …]\n" + "c" * 500


def test_exactly_the_limit_is_not_truncated() -> None:
    text, keeper = kept(b"x" * 1000)
    assert (text, keeper.truncated) == ("x" * 1000, False)


def test_cuts_inside_characters_leave_no_fragments() -> None:
    text, keeper = kept("€".encode() * 1000, limit=1001)
    assert keeper.truncated
    assert "\ufffd" not in text


def test_nul_and_invalid_bytes_are_replaced_and_flagged() -> None:
    assert [kept(b"a\0b")[0], kept(b"a\0b")[1].lossy] == ["a\ufffdb", True]
    assert [kept(b"a\xffb")[0], kept(b"a\xffb")[1].lossy] == ["a\ufffdb", True]


def test_a_character_that_never_ends_is_lossy() -> None:
    text, keeper = kept("€".encode()[:2])
    assert (text, keeper.lossy) == ("\ufffd", True)


def test_a_replacement_character_of_the_programs_own_is_not_lossy() -> None:
    text, keeper = kept("\ufffd".encode(), size=1)
    assert (text, keeper.lossy) == ("\ufffd", False)


def test_text_is_emitted_as_it_arrives() -> None:
    seen: list[str] = []
    keeper = Keeper(10, seen.append)
    keeper.feed(b"one ")
    assert seen == ["one "]
    keeper.feed("é".encode()[:1])
    assert seen == ["one "]
    keeper.feed("é".encode()[1:] + b"x" * 100)
    assert seen == ["one ", "é" + "x" * 100]


@given(data=st.binary(max_size=300), limit=st.integers(1, 60), size=st.integers(1, 40))
def test_what_is_kept_is_bounded_storable_and_independent_of_the_chunks(data: bytes, limit: int, size: int) -> None:
    text, keeper = kept(data, limit, size)
    assert "\0" not in text
    assert len(text.encode()) <= limit + 40
    assert (text, keeper.lossy, keeper.truncated) == (
        (whole := kept(data, limit, 300))[0],
        whole[1].lossy,
        whole[1].truncated,
    )
