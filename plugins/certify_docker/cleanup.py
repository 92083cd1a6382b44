"""What killed runs left in the engine: containers, networks and volumes whose owner is dead, and their control groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from certify.errors import EngineUnavailable, NodeLost
from certify_docker.cgroup import left_groups, remove_group
from certify_docker.engine import OWNER_LABEL, connected, translated
from certify_docker.machine import remove_container


def collect(is_alive: Callable[[str], bool], dry_run: bool) -> Iterator[str]:
    """Remove them and yield a line for each. Only what carries certify's owner label is ever looked at."""
    try:
        with connected() as client:
            yield from _collect(client, is_alive, dry_run)
    except EngineUnavailable as error:
        yield f"docker: not looked at: {error.message}"


def _collect(client: Any, is_alive: Callable[[str], bool], dry_run: bool) -> Iterator[str]:
    with translated():
        containers = client.api.containers(all=True, filters={"label": OWNER_LABEL})
        networks = client.api.networks(filters={"label": OWNER_LABEL})
    for found in containers:
        if not is_alive(found["Labels"][OWNER_LABEL]) and (dry_run or remove_container(client, found["Id"])):
            yield f"container {found['Names'][0].lstrip('/')}"
    for found in networks:
        if not is_alive(found["Labels"][OWNER_LABEL]) and (dry_run or _remove_network(client, found["Id"])):
            yield f"network {found['Name']}"
    with translated():
        used = {c["HostConfig"].get("CgroupParent", "") for c in _inspected(client)}
    for group in sorted(left_groups() - {parent.strip("/") for parent in used}):
        if not dry_run:
            remove_group(group)
        yield f"control group {group}"


def _inspected(client: Any) -> Iterator[dict[str, Any]]:
    for found in client.api.containers(all=True):
        yield client.api.inspect_container(found["Id"])


def _remove_network(client: Any, network: str) -> bool:
    try:
        with translated():
            client.api.remove_network(network)
        return True
    except NodeLost:
        return False
