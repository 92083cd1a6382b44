"""Secrets are told by their beginning only; other words are left as they are."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.evidence.redact import shortened, shortened_json

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU=\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (KEY, "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU="),
        (KEY.replace("\n", "\\n"), "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU="),
        (KEY.partition("-----END")[0], "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU="),
        ("root:$6$saltsalt$abcdefghijklmnopqrstuvwxyz0123456789:19000:", "abcdefghijklmnopqrstuvwxyz"),
        ("root:$y$j9T$abcdefghijklmnop$qrstuvwxyz0123456789:1::", "qrstuvwxyz0123456789"),
        ("found ghp_" + "a1B2" * 9 + " in it", "a1B2a1B2a1B2a1B2"),
        ("AWS AKIAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOP"),
        ("db.password = hunter2hunter2", "hunter2hunter2"),
        ('{"api_key": "0123456789abcdef"}', "0123456789abcdef"),
        ('{\\"password\\": \\"hunter22secret\\"}', "hunter22secret"),
    ],
)
def test_secrets_are_cut(text: str, secret: str) -> None:
    told = shortened(text)
    assert secret not in told
    assert "shortened" in told or "more]" in told


@pytest.mark.parametrize(
    "text", ["assert ['/etc/shadow'] == []", "token", "the password is missing", "PasswordAuthentication no", ""]
)
def test_other_words_stay(text: str) -> None:
    assert shortened(text) == text


def test_a_document_stays_one() -> None:
    document = {"message": f"key {KEY} x", "status": ["failed", {"n": 1}]}
    told = shortened_json(document)
    assert told["status"] == document["status"]
    assert told["message"].endswith(" x")
    assert "b3BlbnNz" not in told["message"]


def test_much_text_takes_little_time() -> None:
    started = time.monotonic()
    shortened("-----BEGIN PRIVATE KEY-----\n" * 40_000)
    shortened("-----BEGIN PRIVATE KEY-----" + "A" * 1_000_000)
    assert time.monotonic() - started < 5


@given(st.text(max_size=300))
def test_any_text_can_be_told(text: str) -> None:
    assert isinstance(shortened(shortened(text)), str)
