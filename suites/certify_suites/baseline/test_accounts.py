"""Users, groups and passwords."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from certify.nodes.node import Node

_NO_LOGIN = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false", "/bin/sync", "")


def _columns(node: Node, path: str, column: int) -> list[str]:
    lines = node.read(path).decode("utf-8", "replace").splitlines()
    return [line.split(":")[column] for line in lines if line.count(":") >= column]


def _twice(values: list[str]) -> list[str]:
    return sorted(value for value, count in Counter(values).items() if count > 1)


@pytest.mark.control("CIS-DEB12-5.4.2.1")
def test_only_root_has_uid_0(system: Node) -> None:
    """A second name for uid 0 is a back door."""
    assert [name for name, user in system.facts.users.items() if user.uid == 0] == ["root"]


@pytest.mark.control("CIS-DEB12-7.2.2")
def test_no_account_has_an_empty_password(shadow: dict[str, list[str]]) -> None:
    """An empty password field lets anyone in."""
    assert [name for name, fields in shadow.items() if fields[1] == ""] == []


def test_no_account_has_a_password(shadow: dict[str, list[str]]) -> None:
    """A password baked into an image is the same on every machine, and known to whoever has the image."""
    assert [name for name, fields in shadow.items() if fields[1] and fields[1][0] not in "!*"] == []


@pytest.mark.control("CIS-DEB12-7.2.1")
def test_passwords_are_shadowed(system: Node) -> None:
    """A hash in the world-readable passwd file can be cracked at leisure."""
    assert [x for x in _columns(system, "/etc/passwd", 1) if x not in ("x", "*", "!")] == []


@pytest.mark.control("CIS-DEB12-7.2.5", "devsec-os-07")
def test_user_ids_are_unique(system: Node) -> None:
    """Two accounts with one id own each other's files."""
    assert _twice(_columns(system, "/etc/passwd", 2)) == []


@pytest.mark.control("CIS-DEB12-7.2.7")
def test_user_names_are_unique(system: Node) -> None:
    """Of two entries with one name, which one counts depends on the program."""
    assert _twice(_columns(system, "/etc/passwd", 0)) == []


@pytest.mark.control("CIS-DEB12-7.2.6", "devsec-os-07")
def test_group_ids_are_unique(system: Node) -> None:
    """Two groups with one id share their rights unseen."""
    assert _twice(_columns(system, "/etc/group", 2)) == []


@pytest.mark.control("CIS-DEB12-7.2.3")
def test_primary_groups_exist(system: Node) -> None:
    """A user whose group does not exist gets whichever group is made next with that number."""
    groups = set(_columns(system, "/etc/group", 2))
    assert [n for n, user in system.facts.users.items() if str(user.gid) not in groups] == []


@pytest.mark.control("CIS-DEB12-5.4.2.7")
def test_system_accounts_cannot_log_in(system: Node, settings: dict[str, Any]) -> None:
    """A service account with a shell turns a bug in the service into a login."""
    users = system.facts.users.items()
    bad = [
        n for n, u in users if u.uid < 1000 and u.shell not in _NO_LOGIN and n not in settings["login_shells_allowed"]
    ]
    assert bad == []


@pytest.mark.control("CIS-DEB12-7.2.9")
def test_login_users_own_their_homes(system: Node) -> None:
    """A home that is missing or somebody else's lets others plant files that are run at login."""
    people = {n: u for n, u in system.facts.users.items() if 1000 <= u.uid < 60000 and u.shell not in _NO_LOGIN}
    homes = system.run_many([f"stat -c %u '{user.home}'" for user in people.values()]) if people else []
    assert [n for (n, u), home in zip(people.items(), homes, strict=True) if home.text != str(u.uid)] == []


@pytest.mark.control("CIS-DEB12-7.1.1", "devsec-os-02")
@pytest.mark.parametrize(
    ("path", "at_most"), [("passwd", 0o644), ("group", 0o644), ("shadow", 0o640), ("gshadow", 0o640)]
)
def test_account_files_are_protected(system: Node, path: str, at_most: int) -> None:
    """Whoever can write these files is root; whoever can read the hashes soon may be."""
    answer = system.run(f"stat -c '%a %u' /etc/{path}")
    if not answer.ok:
        pytest.skip(f"the image has no /etc/{path}")
    mode, owner = answer.text.split()
    assert owner == "0"
    assert int(mode, 8) & ~at_most == 0, f"/etc/{path} has mode {mode}, at most {at_most:o} is safe"


@pytest.mark.control("CIS-DEB12-5.4.3.3")
def test_default_umask(system: Node, settings: dict[str, Any]) -> None:
    """New files should not be readable by everybody unless somebody means it."""
    lines = system.run("grep -E '^[[:space:]]*UMASK' /etc/login.defs").lines
    if not lines:
        pytest.skip("the image has no UMASK in login.defs")
    umask = int(lines[-1].split()[1], 8)
    assert umask & settings["umask_max"] == settings["umask_max"], f"the default umask is {umask:03o}"


@pytest.mark.control("CIS-DEB12-5.4.2.5", "devsec-os-04")
def test_root_path_is_safe(system: Node) -> None:
    """A relative or world-writable directory in root's PATH runs what others put there."""
    answer = system.run_many(
        ['for d in $(echo "$PATH" | tr : " "); do stat -L -c "%a %n" "$d" 2>/dev/null; done; echo "$PATH"']
    )[0]
    *entries, path = answer.lines
    assert all(part.startswith("/") for part in path.split(":")), f"PATH is {path}"
    assert [line for line in entries if int(line.split()[0], 8) & 0o022] == []
