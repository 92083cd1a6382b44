"""Secrets are told by their beginning only; other words are left as they are."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.evidence.redact import may_hold_secrets, shortened, shortened_json

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


SECRETS = (
    KEY,
    "$6$saltsalt$abcdefghijklmnop",
    "$argon2id$v=19$m=1,t=1,p=1$abcdefghijkl",
    "xoxb-0123456789",
    "AIza" + "a" * 35,
    "api_key: abcdefgh",
    "PassWord\n=\t'abcdefgh'",
    "pa\u017f\u017fwd=abcdefgh",
)


@given(st.text(max_size=20), st.sampled_from(SECRETS), st.text(max_size=20))
def test_no_secret_is_overlooked_by_the_quick_look(before: str, secret: str, after: str) -> None:
    document = {"told": [before + secret + after]}
    found = shortened_json(document) != document
    assert may_hold_secrets(msgspec.json.encode(document).decode()) or not found


@pytest.mark.parametrize("secret", SECRETS)
def test_each_of_them_is_one(secret: str) -> None:
    assert shortened(secret) != secret
