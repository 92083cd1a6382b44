"""Options and marks; everything else is imported only when ``--image`` is given."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

_MARKS = (
    'platform(*names): the check applies to these platforms only, e.g. platform("vm", "metal")',
    'needs(*things): what the node must have: "systemd", "service", "network", "package-manager", "reboot"',
    "destructive: the check damages its node and gets a fresh one of its own",
    "control(*ids): the CIS, STIG or devsec control the check proves; goes into the evidence",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("certify", "certify: boot images and check them")
    group.addoption(
        "--image", action="append", metavar="REF", help="image to check; may be repeated, e.g. docker-daemon:app:1.2"
    )
    group.addoption(
        "--platform", metavar="NAMES", help="comma-separated: container, vm, metal (default: by kind of image)"
    )
    group.addoption(
        "--suite",
        action="append",
        metavar="NAME|PATH",
        help="suite to run; may be repeated (default: certify.yaml's, else baseline)",
    )
    group.addoption(
        "--certify-config",
        default=os.environ.get("CERTIFY_CONFIG"),
        metavar="FILE",
        help="certify.yaml to use (default: ./certify.yaml if there)",
    )
    group.addoption(
        "--evidence",
        default=os.environ.get("CERTIFY_EVIDENCE"),
        metavar="DIR",
        help="where runs keep their evidence (default: .certify/runs)",
    )
    group.addoption(
        "--isolation",
        choices=("run", "module", "check"),
        help="one node per run (default), per module, or per check",
    )
    group.addoption(
        "--sign", action="store_true", help="sign a certificate for each finished target with the runner key"
    )
    group.addoption(
        "--promote", metavar="CHANNEL", help="sign, and put passing images on this channel (its gate decides)"
    )
    group.addoption(
        "--keep-node",
        choices=("always", "on-failure", "never"),
        help="leave nodes running after the run (default: never)",
    )
    group.addoption(
        "--strict-shell", action="store_true", help="run every command also in a process of its own and compare"
    )


def pytest_configure(config: pytest.Config) -> None:
    for mark in _MARKS:
        config.addinivalue_line("markers", mark)
    if not config.option.image and not config.option.help:
        from pytest_certify.refusals import without_image

        without_image(config.option)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """``host`` is this machine where no image is named."""
    elsewhere = config.option.image or getattr(config.option, "hosts", None) or config.option.collectonly
    if not elsewhere and any(item.get_closest_marker("destructive") for item in items):
        from pytest_certify.refusals import destructive_here

        destructive_here(items)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Register the session plugin before others configure themselves: it sets where Allure writes, and is told of every
    conftest before it runs, from its source."""
    options = early_config.known_args_namespace
    if getattr(options, "image", None) and not getattr(options, "help", False):
        from pytest_certify.session import CertifySession

        if early_config.pluginmanager.register(CertifySession(early_config), "certify-session") is None:
            raise pytest.UsageError("--image needs the plugin certify-session, which -p no:certify-session leaves out")
    return (yield)
