"""Keys, tokens and passwords that whoever has the image would have too."""

from __future__ import annotations

import re
from typing import Any

import pytest

from certify.images.candidate import Candidate
from certify.nodes.node import Node
from certify_suites.scan import grep, scan, unlisted

_PRIVATE = "-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----"
_TOKENS = (
    r"(AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|glpat-[A-Za-z0-9_-]{20}|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|AIza[0-9A-Za-z_-]{35}|sk_live_[0-9a-zA-Z]{24,}"
)
_PASSWORDS = (
    r"^[^#;/]*(password|passwd|secret|api[_-]?key|token)[\"']?[[:space:]]*[:=]"
    r"[[:space:]]*[\"']?[^\"'[:space:]<>{}$(*]{6,}[\"']?[[:space:]]*$"
)
_ENVIRONMENT = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_KEY|CREDENTIAL)", re.IGNORECASE)


def _ours(node: Node, paths: list[str], allowed: list[str]) -> list[str]:
    """Of the found paths those that came with the image and are not allowed."""
    image = {file.path for file in scan(node).files if file.from_image}
    return unlisted((path for path in paths if path in image), allowed)


def test_no_authorized_keys(node: Node) -> None:
    """An authorised key in an image opens every machine made from it."""
    files = scan(node).named("*/.ssh/authorized_keys*", "/etc/ssh/authorized_keys*")
    assert [path for path in files if node.read(path).strip()] == []


def test_no_private_keys(node: Node, settings: dict[str, Any]) -> None:
    """A private key in an image is published to everybody who can pull it."""
    found = grep(node, _PRIVATE, settings["search_in"])
    assert _ours(node, found, settings["private_keys_allowed"]) == []


def test_no_tokens(node: Node, settings: dict[str, Any]) -> None:
    """Cloud, forge and payment tokens have recognisable forms; so attackers recognise them too."""
    assert _ours(node, grep(node, _TOKENS, settings["search_in"]), settings["secrets_allowed"]) == []


def test_no_passwords_in_configuration(node: Node, settings: dict[str, Any]) -> None:
    """A password in a configuration file of an image is the same everywhere and cannot be changed."""
    places = ["/etc/default", "/etc/environment", "/opt", "/srv", "/app", "/usr/local/etc", "/root"]
    found = grep(
        node,
        _PASSWORDS,
        places,
        options="-rIliE --include=*.conf --include=*.cfg --include=*.ini --include=*.env"
        " --include=*.yaml --include=*.yml --include=*.json --include=*.properties --include=.env --include=environment",
    )
    assert _ours(node, found, settings["secrets_allowed"]) == []


def test_no_credential_files(node: Node) -> None:
    """Files that tools keep logins in."""
    names = (
        ".netrc",
        ".pgpass",
        ".git-credentials",
        ".aws/credentials",
        ".docker/config.json",
        ".kube/config",
        ".npmrc",
        ".pypirc",
        ".my.cnf",
        ".vault-token",
        ".config/gcloud/credentials.db",
        ".azure/accessTokens.json",
    )
    found = scan(node).named(*(f"{home}/{name}" for home in ("/root", "/home/*", "/var/lib/*") for name in names))
    assert [path for path in found if node.read(path).strip()] == []


@pytest.mark.control("CIS-DOCKER-4.10")
def test_no_secrets_in_the_environment(image: Candidate) -> None:
    """ENV values are in the image's config, readable without even booting it."""
    pairs = (entry.partition("=") for entry in image.config.env)
    assert [name for name, _, value in pairs if value and _ENVIRONMENT.search(name) and not value.startswith("/")] == []


def test_no_secrets_in_labels(image: Candidate) -> None:
    """Labels are public."""
    labels = image.config.labels
    assert [name for name, value in labels if _ENVIRONMENT.search(name) or re.search(_TOKENS, value)] == []
