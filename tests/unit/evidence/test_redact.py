"""Secrets are told by their beginning only; other words are left as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.evidence.redact import shortened

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


@given(st.text(max_size=300))
def test_any_text_can_be_told(text: str) -> None:
    assert isinstance(shortened(shortened(text)), str)
