"""``nodes.yaml``: what is read, what is refused, and that no password is ever in it or in a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from certify.errors import ConfigError, UsageError
from certify_metal.host.inventory import Secret, load_inventory

GOOD = """version: 1
nodes:
  a:
    bmc: {address: "https://10.0.0.1", username: u, password: {env: PW}}
    uuid: 4c4c4544-0034-4810-8053-b4c04f4e4d32
    root_disk: {serial: S1, size: ">=64GiB"}
    keep: [{model: Big}]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "nodes.yaml"
    path.write_text(text)
    return path


def test_a_good_one(tmp_path: Path) -> None:
    node = load_inventory(written(tmp_path, GOOD)).nodes["a"]
    assert node.root_disk.asked() == {"serial": "S1", "size": ">=64GiB"}
    assert [disk.asked() for disk in node.keep] == [{"model": "Big"}]


def test_an_ansible_inventory(tmp_path: Path) -> None:
    host = GOOD.partition("  a:\n")[2].replace("\n    ", "\n          ").strip()
    text = f"all:\n  children:\n    metal:\n      hosts:\n        a:\n         certify:\n          {host}\n        b: {{}}\n"
    assert load_inventory(written(tmp_path, text)).nodes == load_inventory(written(tmp_path, GOOD)).nodes


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("{env: PW}", "secret", "Expected `object`"),
        ("{env: PW}", "{}", "name exactly one place"),
        ("{env: PW}", "{env: A, file: b}", "name exactly one place"),
        ("    uuid: 4c4c4544-0034-4810-8053-b4c04f4e4d32\n", "", "nothing says which machine"),
        ('{serial: S1, size: ">=64GiB"}', "{}", "matches every disk"),
        ("[{model: Big}]", "[{}]", "keep.0: matches every disk"),
        (">=64GiB", "64 GB", "does not match|Expected"),
        ("https://10.0.0.1", "https://u:pw@10.0.0.1", "address"),
        ("root_disk", "rootdisk", "no such setting|missing"),
        ("nodes:\n", "nodes: {}\nother:\n", "nodes|no such"),
        ("version: 1", "version: [", "not YAML"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfigError, match="(?i)" + told) as caught:
        load_inventory(path)
    assert str(path) in str(caught.value)


def test_a_mistake_in_an_ansible_inventory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a host's variable 'certify'"):
        load_inventory(written(tmp_path, "all:\n  hosts:\n    a:\n      certify: {bmc: 7}\n"))


def test_passwords_come_from_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", "one")
    (tmp_path / "pw").write_text("two\nnot this\n")
    assert Secret(env="PW").read() == "one"
    assert Secret(file=str(tmp_path / "pw")).read() == "two"


@pytest.mark.parametrize("secret", [Secret(env="NOT_THERE"), Secret(file="/not/there"), Secret(file="/dev/null")])
def test_a_password_that_is_not_there(secret: Secret) -> None:
    with pytest.raises(UsageError, match="NOT_THERE is not set|no password in its first line"):
        secret.read()
