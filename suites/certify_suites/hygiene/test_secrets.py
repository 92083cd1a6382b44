"""Keys, tokens and passwords that whoever has the image would have too."""

from __future__ import annotations

import re
from typing import Any

import pytest

from certify.evidence.redact import PRIVATE_KEY, TOKENS
from certify.images.candidate import Candidate
from certify_suites.scan import Scan, unlisted

_PASSWORDS = (
    r"(?i)^[^#;/\n]*(password|passwd|secret|api[_-]?key|token)[\"']?[^\S\n]*[:=]"
    r"[^\S\n]*[\"']?[^\"'\s<>{}$(*]{6,}[\"']?[^\S\n]*$"
)
_ENVIRONMENT = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_KEY|CREDENTIAL)", re.IGNORECASE)


def test_no_authorized_keys(scanned: Scan) -> None:
    """An authorised key in an image opens every machine made from it."""
    files = scanned.contents("*/.ssh/authorized_keys*", "/etc/ssh/authorized_keys*")
    assert [path for path, content in files if content.strip()] == []


def test_no_private_keys(scanned: Scan, settings: dict[str, Any]) -> None:
    """A private key in an image is published to everybody who can pull it."""
    found = scanned.containing(PRIVATE_KEY, settings["search_in"])
    assert unlisted(found, settings["private_keys_allowed"]) == []


def test_no_tokens(scanned: Scan, settings: dict[str, Any]) -> None:
    """Cloud, forge and payment tokens have recognisable forms; so attackers recognise them too."""
    assert unlisted(scanned.containing(TOKENS, settings["search_in"]), settings["secrets_allowed"]) == []


def test_no_passwords_in_configuration(scanned: Scan, settings: dict[str, Any]) -> None:
    """A password in a configuration file of an image is the same everywhere and cannot be changed."""
    places = ["/etc/default", "/etc/environment", "/opt", "/srv", "/app", "/usr/local/etc", "/root"]
    endings = ("conf", "cfg", "ini", "env", "yaml", "yml", "json", "properties")
    found = scanned.containing(_PASSWORDS, places, names=[*(f"*.{ending}" for ending in endings), "environment"])
    assert unlisted(found, settings["secrets_allowed"]) == []


def test_no_credential_files(scanned: Scan) -> None:
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
    homes = ("/root", "/home/*", "/var/lib/*", "/app", "/srv", "/srv/*", "/opt/*", "/usr/src/*")
    found = scanned.contents(*(f"{home}/{name}" for home in homes for name in names))
    assert [path for path, content in found if content.strip()] == []


@pytest.mark.control("CIS-DOCKER-4.10")
def test_no_secrets_in_the_environment(image: Candidate) -> None:
    """ENV values are in the image's config, readable without even booting it."""
    pairs = (entry.partition("=") for entry in image.config.env)
    assert [name for name, _, value in pairs if value and _ENVIRONMENT.search(name) and not value.startswith("/")] == []


def test_no_secrets_in_labels(image: Candidate) -> None:
    """Labels are public."""
    labels = image.config.labels
    assert [name for name, value in labels if _ENVIRONMENT.search(name) or re.search(TOKENS, value)] == []
