"""Is an instance healthy, and does it run steadily? Drivers look and ask; what that means for a rollout is decided here."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from certify.config import Health
from certify.errors import RolloutError
from certify.models import seconds

#: Why an instance is not steady whose engine keeps it going.
AGAIN_AND_AGAIN = "it ends again and again, and is started anew each time"


@dataclass(frozen=True)
class Sight:
    """What a driver sees of an instance: the ``digest`` it reports, why it has ``ended`` (empty while it runs), and ``start``,
    which is another after each start."""

    digest: str
    ended: str = ""
    start: Any = None


def steadily(look: Callable[[], Sight], digest: str) -> Callable[[], None]:
    """What raises RolloutError when it is called, as soon as what is seen does not run ``digest`` since it was first seen.

    A process that ends and is started again between two looks runs in both: its start gives it away.
    """
    first = look()

    def still_there() -> None:
        seen = look()
        if seen.digest != digest:
            raise RolloutError(f"it reports {seen.digest}, not {digest}")
        if seen.ended:
            raise RolloutError(seen.ended)
        if seen.start != first.start:
            raise RolloutError(AGAIN_AND_AGAIN)

    still_there()
    return still_there


def ask(host: str, port: int, health: Health) -> str:
    """One sample: empty when healthy (status 200 to 399), else the reason."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds(health.timeout))
    try:
        connection.request("GET", health.path, headers={"User-Agent": "certify-health"})
        status = connection.getresponse().status
        return "" if 200 <= status < 400 else f"HTTP status {status}"
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


def wait_healthy(sample: Callable[[], str], health: Health, still_there: Callable[[], None]) -> int:
    """Ask until healthy ``successes`` times in a row. Returns the number of samples. Raises RolloutError in the end.

    ``still_there`` is called between samples and raises when waiting has become pointless.
    """
    deadline = time.monotonic() + seconds(health.start_period)
    in_a_row, samples, reason = 0, 0, "never asked"
    while in_a_row < health.successes:
        reason = sample()
        samples += 1
        in_a_row = 0 if reason else in_a_row + 1
        still_there()
        if in_a_row < health.successes:
            if time.monotonic() > deadline:
                raise RolloutError(f"not healthy within {health.start_period}: {reason or 'healthy, but not steadily'}")
            time.sleep(seconds(health.interval))
    return samples


def watch(sample: Callable[[], str], health: Health, still_there: Callable[[], None]) -> int:
    """Ask over the whole soak; one bad sample is a failure. Returns the number of samples. Raises RolloutError."""
    deadline = time.monotonic() + seconds(health.soak)
    samples = 0
    while True:
        still_there()
        reason = sample()
        samples += 1
        if reason:
            raise RolloutError(f"unhealthy while soaking, at sample {samples}: {reason}")
        if time.monotonic() >= deadline:
            return samples
        time.sleep(seconds(health.interval))
