"""The package database, and what was installed from it."""

from __future__ import annotations

from typing import Any

import pytest

from certify.nodes.facts import Facts
from certify.nodes.node import Node
from certify_suites.scan import unlisted

pytestmark = pytest.mark.needs("package-manager")


def _dpkg(node: Node) -> None:
    if not node.run("command -v dpkg").ok:
        pytest.skip("not a dpkg system")


def test_package_database_is_consistent(node: Node) -> None:
    """A half-installed package fails in the field, at the next change, far from its cause."""
    _dpkg(node)
    audit = node.run("dpkg --audit")
    assert audit.ok
    assert audit.text == ""


def test_no_package_is_half_installed_or_half_removed(node: Node) -> None:
    """Anything but "installed" is a build step that went wrong and was ignored."""
    _dpkg(node)
    states = node.run("dpkg-query -W -f '${db:Status-Abbrev}|${Package}\\n'").lines
    assert [line for line in states if not line.startswith(("ii ", "hi "))] == []


def test_dependencies_are_satisfied(node: Node) -> None:
    """A forced installation leaves programs that cannot start."""
    if not node.run("command -v apt-get").ok:
        pytest.skip("the image has no apt")
    answer = node.run("apt-get check -qq -o Debug::NoLocking=1")
    assert answer.ok, answer.stderr.decode("utf-8", "replace")


def test_packaged_files_are_unchanged(node: Node, settings: dict[str, Any]) -> None:
    """A program that differs from its package was patched by hand, or by somebody else."""
    _dpkg(node)
    lines = node.run("dpkg --verify", timeout=120).lines
    changed = [line.split(None, 1)[1] for line in lines if line[2:3] == "5" and " c " not in line[:15]]
    assert unlisted(changed, settings["changed_files_allowed"]) == []


@pytest.mark.control("CIS-DEB12-1.2.1.1")
def test_package_sources_are_authenticated(node: Node) -> None:
    """A source that is trusted without a signature lets anyone on the path install anything."""
    lines = node.run(
        "grep -rhE -i '(trusted=yes|allow-insecure=yes|^Trusted: *yes|AllowUnauthenticated .*true)' /etc/apt"
    ).lines
    assert [line for line in lines if not line.lstrip().startswith("#")] == []


@pytest.mark.control("CIS-DEB12-2.1")
def test_no_forbidden_package(facts: Facts, settings: dict[str, Any]) -> None:
    """Clear-text login and file services have no place on a server."""
    assert sorted(set(settings["forbidden_packages"]) & set(facts.packages)) == []


def test_packages_are_listed(facts: Facts) -> None:
    """An image whose package list is empty cannot be scanned for known vulnerabilities."""
    assert len(facts.packages) > 0
