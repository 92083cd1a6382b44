"""The framing: whatever a command prints, however it is cut into pieces, comes out byte for byte."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certify.nodes.framing import Frame, wrap

MARKER = "0123456789abcdef0123456789abcdef"
BEGIN, END = f"B{MARKER}\n".encode(), f"E{MARKER} ".encode()

fragments = st.sampled_from(
    [b"", b"\n", b"B", b"E", BEGIN[:-1], END[:-1], BEGIN[:10], END[:20], b"E" + b"0" * 32 + b" 0\n", b"\x00\xff"]
)
payloads = st.lists(st.one_of(st.binary(max_size=40), fragments), max_size=12).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({p % (len(data) + 1) for p in places} | {0, len(data)})
    return [data[a:b] for a, b in zip(at, at[1:], strict=False)]


@given(
    payloads,
    st.integers(0, 255),
    st.lists(st.integers(0, 500), max_size=30),
    st.binary(max_size=30),
    st.binary(max_size=30),
)
@example(END[:-1], 0, [40], b"", b"")
def test_output_and_status_survive_any_cutting(
    payload: bytes, status: int, places: list[int], before: bytes, after: bytes
) -> None:
    if END in payload + b"E" or BEGIN in before:
        return  # 128 random bits: a command cannot know them
    frame, rest, stream = (
        Frame(MARKER, 10_000),
        b"",
        before + BEGIN + payload + END + str(status).encode() + b"\n" + after,
    )
    for piece in cut(stream, places):
        if frame.status is None:
            rest += frame.feed(piece)
        else:
            rest += piece
    assert frame.status == status
    assert frame.output == payload
    assert rest == after


@given(payloads)
def test_without_its_end_a_frame_never_finishes(payload: bytes) -> None:
    frame = Frame(MARKER, 10_000)
    frame.feed(BEGIN + payload.replace(END, b""))
    assert frame.status is None


def test_an_imitated_marker_is_data() -> None:
    frame = Frame(MARKER, 1000)
    imitation = b"E" + b"f" * 32 + b" 0\n"
    assert frame.feed(BEGIN + imitation + END + b"7\n") == b""
    assert (frame.status, frame.output) == (7, imitation)


def test_late_output_of_an_earlier_command_is_dropped() -> None:
    frame = Frame(MARKER, 1000)
    frame.feed(b"late output\n" * 1000)
    frame.feed(BEGIN + b"mine" + END + b"0\n")
    assert frame.output == b"mine"


def test_an_end_without_a_status_is_an_error() -> None:
    frame = Frame(MARKER, 1000)
    with pytest.raises(ValueError, match="status"):
        frame.feed(BEGIN + END + b"x" * 50)
    other = Frame(MARKER, 1000)
    with pytest.raises(ValueError):
        other.feed(BEGIN + END + b"abc\n")


def test_the_limit_is_seen() -> None:
    frame = Frame(MARKER, 100)
    frame.feed(BEGIN + b"x" * 90)
    assert not frame.overflowing
    frame.feed(b"x" * 100)
    assert frame.overflowing


@settings(deadline=None)  # a process is started each time
@given(st.text(alphabet=st.characters(blacklist_characters="\0/", blacklist_categories=("Cs",)), max_size=60))
def test_any_text_is_one_argument_for_eval(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Quoting holds: the shell's own stream goes on after any command, also one with syntax errors."""
    where = {"cwd": tmp_path_factory.getbasetemp(), "env": {"PATH": ""}}  # random text may name programs and files
    done = subprocess.run(
        ["/bin/sh"], input=wrap(text, MARKER) + b"echo alive\n", capture_output=True, timeout=10, **where
    )
    assert done.stdout.endswith(b"alive\n")
