"""Keys and envelopes: who signed counts, what was signed counts, and nothing else."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import SSlibKey

from certify.errors import KeyUnusable, NotVerified
from certify.trust.dsse import PAYLOAD_TYPE, sign, verify
from certify.trust.keys import ROLES, KeyStore, distinct


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    store = KeyStore(tmp_path_factory.mktemp("keys"))
    assert store.create() == list(ROLES)
    return store


STATEMENT = {"_type": "https://in-toto.io/Statement/v1", "subject": []}


def test_keys_are_private_and_never_replaced(store: KeyStore) -> None:
    before = (store.path / "runner.pem").read_bytes()
    assert (store.path / "runner.pem").stat().st_mode & 0o777 == 0o600
    assert store.create() == []
    assert (store.path / "runner.pem").read_bytes() == before


def test_a_signature_is_verified(store: KeyStore) -> None:
    assert verify(sign(STATEMENT, store.signer("runner")), [store.public("runner")], "x") == STATEMENT


def test_another_roles_key_does_not_count(store: KeyStore) -> None:
    with pytest.raises(NotVerified, match="signed by 0 of the 1"):
        verify(sign(STATEMENT, store.signer("gate")), [store.public("runner")], "x")


def test_the_key_id_is_only_a_hint(store: KeyStore) -> None:
    document = json.loads(sign(STATEMENT, store.signer("runner")))
    for keyid in ("", "nonsense", store.public("gate").keyid):
        document["signatures"][0]["keyid"] = keyid
        assert verify(json.dumps(document).encode(), [store.public("runner")], "x") == STATEMENT
    del document["signatures"][0]["keyid"]
    assert verify(json.dumps(document).encode(), [store.public("runner")], "x") == STATEMENT


def test_one_key_under_two_ids_counts_once(store: KeyStore) -> None:
    key = store.public("runner")
    alias = SSlibKey("another-id", key.keytype, key.scheme, key.keyval)
    assert len(distinct([key, alias])) == 1
    with pytest.raises(NotVerified, match="signed by 1 of the 2"):
        verify(sign(STATEMENT, store.signer("runner")), [key, alias], "x", threshold=2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(at=st.integers(0, 10_000), value=st.integers(0, 255))
def test_no_changed_byte_gets_through(store: KeyStore, at: int, value: int) -> None:
    good = sign(STATEMENT, store.signer("runner"))
    at %= len(good)
    changed = good[:at] + bytes([value]) + good[at + 1 :]
    try:
        assert verify(changed, [store.public("runner")], "x") == STATEMENT
    except NotVerified as error:
        assert error.message.startswith("x:")


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"payload": "", "payloadType": "text/plain", "signatures": []},
        {"payload": "!!", "payloadType": PAYLOAD_TYPE, "signatures": []},
        {"payload": "", "payloadType": PAYLOAD_TYPE, "signatures": [{}]},
        {"payload": "", "payloadType": PAYLOAD_TYPE, "signatures": 3},
    ],
)
def test_what_is_no_envelope_is_refused(store: KeyStore, document: Any) -> None:
    with pytest.raises(NotVerified):
        verify(json.dumps(document).encode(), [store.public("runner")], "x")


def test_the_payload_type_is_signed_too(store: KeyStore) -> None:
    payload = base64.b64encode(b"{}").decode()
    signature = store.signer("runner").sign(b"{}").signature
    document = {
        "payload": payload,
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": base64.b64encode(bytes.fromhex(signature)).decode()}],
    }
    with pytest.raises(NotVerified):
        verify(json.dumps(document).encode(), [store.public("runner")], "x")


@pytest.mark.parametrize("harm", ["open", "missing", "garbage", "no-public", "bad-public", "mismatch"])
def test_an_unusable_key_is_explained(tmp_path: Path, harm: str) -> None:
    store = KeyStore(tmp_path)
    store.create()
    private, public = tmp_path / "runner.pem", tmp_path / "runner.pub.json"
    if harm == "open":
        private.chmod(0o644)
    elif harm == "missing":
        private.unlink()
    elif harm == "garbage":
        private.write_bytes(b"no key")
    elif harm == "no-public":
        public.unlink()
    elif harm == "bad-public":
        public.write_text("{}")
    else:
        private.write_bytes((tmp_path / "gate.pem").read_bytes())
    with pytest.raises(KeyUnusable) as caught:
        store.signer("runner")
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint
    if harm == "open":
        assert caught.value.hint == f"chmod 600 {private}"


def test_a_private_key_outlives_its_public_half(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys")
    keys.create(["root"])
    public, private = keys.public("root"), (tmp_path / "keys/root.pem").read_bytes()
    (tmp_path / "keys/root.pub.json").unlink()
    assert keys.create(["root"]) == []
    assert (tmp_path / "keys/root.pem").read_bytes() == private
    assert keys.public("root").to_dict() == public.to_dict()
    (tmp_path / "keys/root.pub.json").unlink()
    (tmp_path / "keys/root.pem").unlink()
    (tmp_path / "keys/root.uri").write_text("hsm:2")
    with pytest.raises(KeyUnusable, match="no public key"):
        keys.create(["root"])


NO_SIGNATURES = b'{"payloadType":"application/vnd.in-toto+json","payload":"","signatures":'


@pytest.mark.parametrize(
    "envelope",
    [
        b'{"payloadType":' + b"[" * 100_000,
        NO_SIGNATURES + b"[" * 100_000,
        NO_SIGNATURES + b"[" + b'{"sig":"AA=="},' * 5000 + b'{"sig":""}]}',
    ],
)
def test_an_envelope_that_would_cost_much_is_refused(tmp_path: Path, envelope: bytes) -> None:
    keys = KeyStore(tmp_path / "keys")
    keys.create(["gate"])
    with pytest.raises(NotVerified):
        verify(envelope, [keys.public("gate")], "x")
