"""An instance is steady that runs one digest since it was first seen."""

from __future__ import annotations

from typing import Any

import pytest

from certify.deploy.health import Sight, steadily
from certify.errors import RolloutError
from certify_docker.deploy import _sight

GOOD = Sight("sha256:a", start=1)


@pytest.mark.parametrize(
    ("later", "says"),
    [
        (Sight("sha256:b", start=1), "it reports sha256:b, not sha256:a"),
        (Sight("sha256:a", "its machine has ended", 1), "its machine has ended"),
        (Sight("sha256:a", start=2), "started anew each time"),
    ],
)
def test_what_is_not_steady_is_told(later: Sight, says: str) -> None:
    seen = iter([GOOD, GOOD, GOOD, later])
    still_there = steadily(lambda: next(seen), "sha256:a")
    still_there()
    with pytest.raises(RolloutError, match=says):
        still_there()


def details(**state: Any) -> dict[str, Any]:
    """What the engine says of a container."""
    running = {"Running": True, "Restarting": False, "ExitCode": 0, "StartedAt": "2026-11-28T05:00:00Z", **state}
    return {"Image": "sha256:a", "RestartCount": 3, "State": running}


def test_a_container_between_two_starts_is_not_steady_though_nothing_changes_while_it_is_watched() -> None:
    """The engine waits up to a minute between starts, and says meanwhile that it runs."""
    with pytest.raises(RolloutError, match="ends again and again"):
        steadily(lambda: _sight(details(Restarting=True)), "sha256:a")
    steadily(lambda: _sight(details()), "sha256:a")()
