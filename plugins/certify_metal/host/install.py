"""The ordered protocol that makes one machine boot one image, or wipes it: each step reads, acts if needed, and watches.

off → no media → our medium, and the BMC seen fetching it (or, without virtual media, offered to its netboot program) → boot
once from it → on → the installer calls home → a signed plan for this machine → written and read back → off → no media → boot
from disk → on. What the machine then proves is :mod:`certify_metal.host.machine`'s. Killed anywhere, the next run begins at the
first step: nothing that is right is done again, for the installer writes only chunks that differ.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from certify.errors import BootFailed, EngineUnavailable, UsageError
from certify.models import seconds
from certify.nodes.platform import Progress
from certify_metal.bmc.interface import Bmc
from certify_metal.host.controller import Attempt, Controller
from certify_metal.host.image import ISO, configured
from certify_metal.settings import MetalSettings

_PLAN_VALID = 300.0
_GRACE = 10.0  # seconds a running system gets to shut down before its power is cut


@dataclass(frozen=True)
class Work:
    """What the installer is to do: ``write`` the attempt's manifest with ``seed``, or wipe ``metadata`` or ``full``."""

    action: str
    seed: bytes = b""


def run_installer(
    bmc: Bmc, controller: Controller, attempt: Attempt, work: Work, settings: MetalSettings, progress: Progress
) -> dict[str, Any]:
    """Boot the installer, have ``work`` done, and leave the machine off and without media. Returns the agent's report.

    Raises EngineUnavailable for a BMC or machine that does not do its part, BootFailed for an image that does not fit it.
    """
    step = seconds(settings.bmc_timeout)
    media = bool(bmc.slots())
    host, media_host = hosts(bmc, controller)
    plain, control, _ = controller.ports
    config = {
        "control": f"https://{host}:{control}",
        "token": attempt.token,
        "certificate": controller.keys.certificate,
        "key": controller.keys.public,
    }
    attempt.config = configured(msgspec.json.encode(config))
    controller.add(attempt)
    try:
        progress("switching it off")
        bmc.ensure_off(step, graceful=_GRACE)
        bmc.ensure_ejected(step)
        if media:
            progress("inserting the installer")
            _insert(bmc, attempt, f"http://{media_host}:{plain}/{attempt.token}/{ISO}", step)
        else:
            controller.offer(attempt, bmc.uuid, host)
        bmc.ensure_boot("Cd" if media else "Pxe", "Once", step)
        bmc.ensure_on(step)
        progress("booting the installer")
        hello = _called(bmc, attempt, settings, progress)
        attempt.tell(plan=_signed_plan(bmc, controller, attempt, work, host))
        report = _finished(bmc, attempt, settings, progress)
    finally:
        controller.drop(attempt)
    progress("switching it off")
    bmc.ensure_off(step)
    bmc.ensure_ejected(step)
    if "error" in report:
        raise BootFailed(f"{bmc.name}: the installer: {str(report['error'])[:400]}", "the machine was left off")
    return {"installer": hello, **report}


def _insert(bmc: Bmc, attempt: Attempt, url: str, step: float) -> None:
    bmc.ensure_inserted(url, step)
    if attempt.wait(lambda: attempt.fetched, time.monotonic() + step, lambda: None) is None:
        raise EngineUnavailable(
            f"{bmc.name}: its BMC says the medium is there and has not fetched it",
            f"can it reach {urlsplit(url).netloc}?",
        )


def hosts(bmc: Bmc, controller: Controller) -> tuple[str, str]:
    """This host as the node and as its BMC reach it."""
    node = bmc.node
    return node.address or controller.address, node.media_address or controller.address


def boot_from_disk(bmc: Bmc, settings: MetalSettings) -> None:
    """Set it to boot from its disk from now on, and switch it on. Raises EngineUnavailable."""
    step = seconds(settings.bmc_timeout)
    bmc.ensure_boot("Hdd", "Continuous", step)
    bmc.ensure_on(step)


def _called(bmc: Bmc, attempt: Attempt, settings: MetalSettings, progress: Progress) -> dict[str, Any]:
    """What the installer says of the machine. Raises UsageError for another machine's installer."""
    deadline = time.monotonic() + seconds(settings.boot_timeout)
    still_on = _still_on(bmc, attempt)

    def look() -> None:
        still_on()
        progress("booting the installer")

    hello = attempt.wait(lambda: attempt.hello, deadline, look)
    if hello is None:
        raise EngineUnavailable(
            f"{bmc.name}: the installer did not call home within {settings.boot_timeout}",
            f"does it boot from CD (or the network), and reach {bmc.node.address or 'this host'}?",
        )
    said = str(hello.get("uuid", "")).lower()
    if said != bmc.uuid:
        raise UsageError(
            f"{bmc.name}: the installer runs on machine {said[:64]}, the BMC is {bmc.uuid}'s", "nothing was written"
        )
    if bmc.node.firmware not in (None, hello.get("firmware")):
        raise UsageError(
            f"{bmc.name}: it boots in {str(hello.get('firmware'))[:16]} mode, nodes.yaml says {bmc.node.firmware}",
            "nothing was written; correct its firmware settings or nodes.yaml",
        )
    return dict(hello)


def _signed_plan(bmc: Bmc, controller: Controller, attempt: Attempt, work: Work, host: str) -> dict[str, str]:
    base = f"http://{host}:{controller.ports[0]}/{attempt.token}"
    plan: dict[str, Any] = {
        "uuid": bmc.uuid,
        "token": attempt.token,
        "expires": time.time() + _PLAN_VALID,
        "action": work.action,
        "root_disk": bmc.node.root_disk.asked(),
        "keep": [disk.asked() for disk in bmc.node.keep],
    }
    if attempt.disk is not None:
        plan |= {
            "manifest": f"{base}/manifest",
            "manifest_digest": attempt.disk.manifest.digest,
            "blocks": f"{base}/blocks",
            "disk": f"{base}/disk",
            "seed": base64.b64encode(work.seed).decode(),
            "seed_id": str(uuid.uuid4()),
        }
    data = msgspec.json.encode(plan)
    signature = controller.keys.sign(data)
    return {"plan": base64.b64encode(data).decode(), "signature": base64.b64encode(signature).decode()}


def _finished(bmc: Bmc, attempt: Attempt, settings: MetalSettings, progress: Progress) -> dict[str, Any]:
    deadline = time.monotonic() + seconds(settings.write_timeout)
    still_on = _still_on(bmc, attempt)

    def look() -> None:
        still_on()
        counts = attempt.progress
        if counts.get("total"):
            progress(
                f"writing: {counts.get('verified', 0)} of {counts['total']} chunks proven, "
                f"{counts.get('fetched', 0)} fetched, {counts.get('moved', 0)} from the disk itself"
            )

    report = attempt.wait(lambda: attempt.done, deadline, look)
    if report is None:
        raise EngineUnavailable(
            f"{bmc.name}: the installer did not finish within {settings.write_timeout}", "platforms.metal.write_timeout"
        )
    return dict(report)


def _still_on(bmc: Bmc, attempt: Attempt) -> Callable[[], None]:
    """A look whether the machine is on for as long as the installer has not said that it is done."""

    def went_off() -> None:
        if attempt.done is None:
            raise EngineUnavailable(f"{bmc.name}: it went off while the installer ran", "see its event log")

    return bmc.look_for_off(went_off)
