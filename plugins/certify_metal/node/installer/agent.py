"""The installer's agent: calls home, is given one signed plan, obeys it if it is for this machine, and says how it went.

Its configuration was put into the boot medium for this one attempt: where home is, the certificate home must show, the key
plans must be signed with, and a token that is worth nothing afterwards.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from .disks import NoSuchDisk, idle_controllers, list_disks, select
from .fetch import Remote
from .gpt import BadTable
from .medium import WriteFailed, wipe
from .writer import Order, Writer

_HOME_SECONDS = 120.0
_GONE = 410
_ENDS = 16 * 1024**2


class Refused(Exception):
    """A plan that must not be obeyed."""


class Home:
    """The controller, as the agent speaks to it: HTTPS with its one certificate."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._base = f"{config['control']}/{config['token']}"
        self._context = ssl.create_default_context(cadata=config["certificate"])
        self._context.check_hostname = False  # it is reached by address; the certificate itself is pinned

    def ask(self, path: str, body: Any = None, timeout: float = 60.0) -> tuple[Any, str]:
        """GET, or POST of JSON. The answer, and the date home says it is."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._base}/{path}", data=data)
        with urllib.request.urlopen(request, timeout=timeout, context=self._context) as answer:
            return json.loads(answer.read() or b"null"), str(answer.headers.get("Date", ""))

    def call(self, facts: dict[str, Any]) -> None:
        """Say who we are, until home listens; set the clock to home's."""
        deadline = time.monotonic() + _HOME_SECONDS
        while True:
            try:
                _, date = self.ask("hello", facts)
                _set_clock(date)
                return
            except ssl.SSLCertVerificationError:  # somebody else's home
                raise
            except urllib.error.HTTPError as error:
                if error.code == _GONE:
                    raise Refused("this attempt is over: the machine should have booted from its disk") from None
            except OSError:  # no address yet
                pass
            if time.monotonic() > deadline:
                raise Refused("home does not answer")
            time.sleep(0.3)


def main() -> int:
    """Run to the end; the status says whether the disk was written."""
    config = json.loads(Path("/certify/config.json").read_text())
    Path("/certify/home.pem").write_text(config["key"])
    home = Home(config)
    disks = list_disks()
    home.call({**machine_facts(), "disks": disks})
    answer, _ = home.ask("plan", timeout=300.0)
    try:
        plan = accept(
            answer, Path("/certify/home.pem"), {"uuid": machine_uuid(), "token": config["token"]}, time.time()
        )
        result = obey(plan, disks, lambda tally: home.ask("progress", tally))
    except (Refused, NoSuchDisk, WriteFailed, BadTable, OSError, KeyError, ValueError) as error:
        home.ask("done", {"error": f"{type(error).__name__}: {error}"})
        return 1
    home.ask("done", result)
    return 0


def accept(answer: dict[str, str], key: Path, own: dict[str, str], now: float) -> dict[str, Any]:
    """The plan, if it is signed, for this machine and this attempt, and has not expired. Raises Refused."""
    plan_bytes, signature = base64.b64decode(answer["plan"]), base64.b64decode(answer["signature"])
    if not signed(plan_bytes, signature, key):
        raise Refused("the plan's signature is wrong")
    plan: dict[str, Any] = json.loads(plan_bytes)
    if plan["uuid"].lower() != own["uuid"].lower():
        raise Refused(f"the plan is for machine {plan['uuid']}; this is {own['uuid']}")
    if plan["token"] != own["token"]:
        raise Refused("the plan is of another attempt")
    if plan["expires"] < now:
        raise Refused(f"the plan expired {now - plan['expires']:.0f} s ago")
    return plan


def signed(data: bytes, signature: bytes, key: Path) -> bool:
    """Ed25519 (RFC 8032), by OpenSSL."""
    places = Path(f"{key}.data"), Path(f"{key}.sig")
    for place, content in zip(places, (data, signature), strict=True):
        place.write_bytes(content)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(key), "-rawin"]
    done = subprocess.run(
        [*command, "-in", str(places[0]), "-sigfile", str(places[1])], capture_output=True, check=False
    )
    return done.returncode == 0


def obey(plan: dict[str, Any], disks: list[dict[str, Any]], report: Any) -> dict[str, Any]:
    """Write the one disk the plan means. Raises NoSuchDisk, WriteFailed, BadTable, OSError, Refused."""
    root = select(disks, plan["root_disk"])
    keep = [select(disks, asked) for asked in plan["keep"]]
    if root["name"] in {disk["name"] for disk in keep}:
        raise Refused(f"{root['name']} is both the root disk and one to keep")
    began = time.monotonic()
    if plan["action"] in ("metadata", "full"):
        wiped = wipe(f"/dev/{root['name']}", full=plan["action"] == "full")
        return {"disk": root, "wiped": wiped, "seconds": round(time.monotonic() - began, 3)}
    if plan["action"] != "write":
        raise Refused(f"the plan wants {plan['action']!r}, which this installer does not know")
    kept = [{"serial": disk["serial"], "digest": ends_digest(f"/dev/{disk['name']}")} for disk in keep]
    with closing(Remote(plan["manifest"])) as remote:
        manifest = json.loads(_checked(remote.whole(), plan["manifest_digest"], "manifest"))
    order = Order(
        manifest["size"], manifest["chunk_size"], manifest["chunks"], manifest["block_size"],
        base64.b64decode(plan["seed"]), UUID(plan["seed_id"]),
    )  # fmt: skip
    with closing(Image(plan, manifest["blocks"])) as image:
        writer = Writer(f"/dev/{root['name']}", order, image)
        over = threading.Event()
        watcher = threading.Thread(target=_watch, args=(writer, report, over), daemon=True)
        watcher.start()
        try:
            writer.write()
        finally:
            over.set()
            watcher.join()
    seconds = round(time.monotonic() - began, 3)
    return {**writer.tally.numbers(), "disk": root, "kept": kept, "seconds": seconds, "memory": _peak()}


class Image:
    """The image that a plan names: implements :class:`.writer.Source`."""

    def __init__(self, plan: dict[str, Any], blocks_digest: str) -> None:
        self._disk = Remote(plan["disk"])
        self._blocks = Remote(plan["blocks"])
        self._blocks_digest = blocks_digest

    def piece(self, start: int, into: memoryview) -> None:
        self._disk.piece(start, into)

    def close(self) -> None:
        self._disk.close()
        self._blocks.close()

    def blocks(self) -> bytes:
        return _checked(self._blocks.whole(), self._blocks_digest, "block index")


def _checked(content: bytes, digest: str, what: str) -> bytes:
    """``content``, if it has this sha256. Raises Refused."""
    if hashlib.sha256(content).hexdigest() != digest.removeprefix("sha256:"):
        raise Refused(f"the {what} is not the one the plan names")
    return content


def ends_digest(path: str) -> str:
    """sha256 of the first and the last :data:`_ENDS` bytes of a disk that is only ever opened for reading."""
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        digest = hashlib.sha256(file.read(_ENDS))
        file.seek(max(0, size - _ENDS))
        digest.update(file.read(_ENDS))
    return digest.hexdigest()


def _watch(writer: Writer, report: Any, over: threading.Event) -> None:
    while not over.wait(1.0):
        try:
            report(writer.tally.numbers())
        except OSError:
            continue  # progress is for people; the result is said at the end, or the write fails


def machine_uuid() -> str:
    """The UUID of the machine (SMBIOS type 1)."""
    return Path("/sys/class/dmi/id/product_uuid").read_text().strip().lower()


def machine_facts() -> dict[str, Any]:
    """What machine this is, beside its disks."""
    dmi, net = Path("/sys/class/dmi/id"), Path("/sys/class/net")
    text = {
        name: (dmi / name).read_text().strip()
        for name in ("product_name", "product_serial", "sys_vendor", "bios_version")
    }
    memory = next(
        line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")
    )
    nics = {path.name: (path / "address").read_text().strip() for path in net.iterdir() if (path / "device").exists()}
    return {
        **text,
        "uuid": machine_uuid(),
        "memory": int(memory) * 1024,
        "firmware": "uefi" if Path("/sys/firmware/efi").exists() else "bios",
        "tpm": Path("/sys/class/tpm/tpm0").exists(),
        "nics": nics,
        "idle": idle_controllers(),
        "clock": time.time(),
        "up": float(Path("/proc/uptime").read_text().split()[0]),
    }


def _peak() -> int:
    """Most memory this process and the kernel's initial file system ever had, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024


def _set_clock(date: str) -> None:
    if date and abs(time.time() - (now := parsedate_to_datetime(date).timestamp())) > 2:
        time.clock_settime(time.CLOCK_REALTIME, now)


if __name__ == "__main__":
    status = main()
    os.sync()
    sys.exit(status)
