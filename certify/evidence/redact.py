"""Secrets that a check finds in an image are shortened where they are told: evidence is read by more people than images."""

from __future__ import annotations

import re
from typing import Any

_KEPT = 8
#: Tokens of clouds, forges and payment services that have a form of their own.
TOKENS = (
    r"(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20}|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|AIza[0-9A-Za-z_-]{35}|sk_live_[0-9a-zA-Z]{24,}"
)
#: The first line of a private key in PEM (RFC 7468).
PRIVATE_KEY = "-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY( BLOCK)?-----"
#: crypt(5): ``$id$salt$hash``; and what stands behind a password's name.
_HASH = r"\$(?:[1-9a-z]{1,8}|argon2[a-z]*|sha1)\$[A-Za-z0-9./$,=+-]{12,}"
_NAMED = (
    r"(?i:password|passwd|secret|api[_-]?key|token)[\"'\\]{0,3}\s{0,8}[:=]\s{0,8}[\"'\\]{0,3}"
    r"(?P<value>[^\s\"'<>{}$(*\\,;]{6,})"
)
_FOUND = re.compile(f"(?P<token>{TOKENS})|(?P<hash>{_HASH})|{_NAMED}")
_HEAD = re.compile(PRIVATE_KEY)
_TAIL = "-----END"
#: What each of these has at least, also as a JSON string (RFC 8259, 7) writes it.
_PERHAPS = re.compile(rf"(?i:passw(?:or)?d|secret|api[_-]?key|token)|PRIVATE KEY|\$[1-9a-z]|{TOKENS}")
#: A piece of a key's body, wherever a report puts it: behind diff marks, in a list, in one long line.
_BODY = re.compile(r"[A-Za-z0-9+/=]{20,}")
_FAR = 64 * 1024  # characters behind a key's first line in which its body is looked for


def shortened(text: str) -> str:
    """``text`` with what looks like a private key, a token, a password or its hash cut down to its beginning."""
    return _FOUND.sub(_cut, _without_keys(text))


def may_hold_secrets(document: str) -> bool:
    """Whether :func:`shortened_json` could find anything in a JSON text; quick, and never no where it would."""
    return _PERHAPS.search(document) is not None


def shortened_json(value: Any) -> Any:
    """As :func:`shortened`, in every string of a JSON document."""
    if isinstance(value, str):
        return shortened(value)
    if isinstance(value, list):
        return [shortened_json(item) for item in value]
    return {key: shortened_json(item) for key, item in value.items()} if isinstance(value, dict) else value


def _without_keys(text: str) -> str:
    """Without what looks like a private key's body behind each first line of one, up to its last line."""
    kept, at = [], 0
    while (head := _HEAD.search(text, at)) is not None:
        kept.append(text[at : head.end()])
        tail = text.find(_TAIL, head.end(), head.end() + _FAR)
        at = tail if tail >= 0 else min(len(text), head.end() + _FAR)
        kept.append(_BODY.sub("[shortened]", text[head.end() : at]))
    return "".join([*kept, text[at:]])


def _cut(found: re.Match[str]) -> str:
    secret = found["token"] or found["hash"] or found["value"]
    return found[0].replace(secret, f"{secret[:_KEPT]}[… {len(secret) - _KEPT} more]" if len(secret) > _KEPT else "[…]")
