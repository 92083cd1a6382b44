"""Is an instance healthy? Asked over HTTP through the port it serves, several times in a row."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable

from certify.config import Health
from certify.errors import RolloutError
from certify.models import seconds


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
