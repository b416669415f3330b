import pytest

from workers.sandbox.frames import END, MAX_PAYLOAD, STDOUT, FrameError, Unpacker, pack


def test_frames_survive_any_cut() -> None:
    stream = pack(STDOUT, b"hello") + pack(STDOUT) + pack(END, b'{"exit_code": 0}')
    for size in range(1, len(stream) + 1):
        unpacker = Unpacker()
        frames = [frame for i in range(0, len(stream), size) for frame in unpacker.feed(stream[i : i + size])]
        assert frames == [(STDOUT, b"hello"), (STDOUT, b""), (END, b'{"exit_code": 0}')]


def test_an_unfinished_frame_is_not_a_frame() -> None:
    assert Unpacker().feed(pack(STDOUT, b"hello")[:-1]) == []


def test_an_impossible_length_is_refused_before_anything_is_buffered_for_it() -> None:
    with pytest.raises(FrameError):
        Unpacker().feed(b"o" + (MAX_PAYLOAD + 1).to_bytes(4, "big"))


def test_too_long_a_payload_is_refused() -> None:
    with pytest.raises(FrameError):
        pack(STDOUT, bytes(MAX_PAYLOAD + 1))
