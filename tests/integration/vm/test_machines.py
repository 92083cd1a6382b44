"""``pytest --image disk.qcow2``: real guests under QEMU, reached over virtio-serial, forked from memory."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.images.builder import CACHE, load
from tests.images.defects import missed
from tests.images.disk import build_disk
from tests.integration.conftest import KILLS, Workspace, wait_for

GOOD = CACHE / "disk-good.qcow2"
LONG = 600


def suite(work: Workspace, text: str) -> str:
    work.write("mine/test_mine.py", "import pytest\n" + text)
    return "mine"


def details(work: Workspace) -> dict[str, object]:
    found: dict[str, object] = work.last_run["targets"][0]["details"]
    return found


def guests() -> list[int]:
    """QEMU processes of certify on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if b"qemu-system" in line.split(b"\0")[0] and b"guest=certify-" in line:
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize(
    "chosen",
    [
        "not whole_after_a_restart and not power_cut and not every_declared_firmware",
        pytest.param("not whole_after_a_restart", marks=pytest.mark.slow),
    ],
)  # vm has a reboot, as boot has
def test_a_good_disk_passes_the_suites_of_containers_and_those_of_machines(work: Workspace, chosen: str) -> None:
    suites = [word for name in ("baseline", "boot", "hygiene", "vm") for word in ("--suite", name)]
    done = work.pytest("--image", str(GOOD), *suites, "-k", chosen, timeout=LONG)
    assert done.status == 0, done.out
    assert set(work.outcomes().values()) == {"passed"}, done.out
    target = work.last_run["targets"][0]
    assert (target["platform"], target["driver"], target["boot"]) == ("vm", "libvirt", "restored")
    assert target["details"]["acceleration"] in ("kvm", "tcg")
    assert target["details"]["acceleration_reason"]
    assert sorted(target["details"]["firmware_declared"]) == ["bios", "uefi"]
    console = (work.path / ".certify/runs/latest/nodes" / f"{GOOD.name}-vm" / "console.log").read_bytes()
    assert console.index(b"SeaBIOS") < console.index(b"GRUB") < console.index(b"Linux version")
    assert not guests()


@pytest.mark.slow
def test_every_seeded_defect_is_found(work: Workspace) -> None:
    suites = [word for name in ("baseline", "boot", "hygiene", "vm") for word in ("--suite", name)]
    bad = build_disk(load("disk-bad"))
    done = work.pytest("--image", str(bad), *suites, "-k", "not power and not restart and not firmware", timeout=LONG)
    assert done.status == 1, done.out
    assert missed((work.path / ".certify/runs/latest").resolve(), "disk-bad") == [], done.out


def test_the_second_run_starts_from_memory_and_still_proves_a_cold_boot(work: Workspace) -> None:
    name = suite(work, "def test_it(node):\n    assert node.run('id -u').text == '0'\n")
    for _ in range(2):  # whatever ran before, the second one finds a snapshot
        done = work.pytest("--image", str(GOOD), "--suite", name, timeout=LONG)
        assert done.status == 0, done.out
        if details(work)["snapshot"] == "from the cache":
            break
    assert details(work)["snapshot"] == "from the cache"
    checks = {check["id"]: check for check in work.last_run["checks"]}
    cold = checks[f"certify::boots_cold[{GOOD.name}-vm]"]
    assert (cold["outcome"], cold["suite"]) == ("passed", "certify")
    assert cold["duration"] > 1


@pytest.mark.slow
def test_a_damaged_snapshot_is_found_and_made_anew(work: Workspace) -> None:
    name = suite(work, "def test_it(node):\n    pass\n")
    work.write("certify.yaml", "platforms: {vm: {memory: 768MiB}}\n")  # a machine of its own, so a snapshot of its own
    assert work.pytest("--image", str(GOOD), "--suite", name, timeout=LONG).status == 0
    store = Path("~/.cache/certify/snapshots").expanduser()
    newest = max(store.glob("*/meta.json"), key=lambda path: path.stat().st_mtime).parent
    with (newest / "ram").open("r+b") as file:
        file.seek(1024 * 1024)
        byte = file.read(1)
        file.seek(1024 * 1024)
        file.write(bytes([byte[0] ^ 1]))
    done = work.pytest("--image", str(GOOD), "--suite", name, timeout=LONG)
    assert done.status == 0, done.out
    assert details(work)["snapshot"] == "made in this run"


def test_forks_are_alike_and_apart(work: Workspace) -> None:
    """One boot, and yet: their own randomness, the right time, nothing shared on disk; a second node has its own name."""
    text = """
import time
SEEN = set()
@pytest.mark.parametrize("n", range(4))
def test_apart(node, n):
    assert node.how.boot == "restored"
    assert not node.run("test -e /root/mark").ok
    node.run("touch /root/mark")
    random = node.run("head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid").text
    assert random not in SEEN
    SEEN.add(random)
    assert abs(float(node.run("date +%s.%N").text) - time.time()) < 3

def test_two(node, second_node):
    ask = "cat /proc/sys/kernel/hostname; cat /sys/class/net/e*/address"
    one, two = node.run(ask).lines, second_node.run(ask).lines
    assert one[0] != two[0] and one[1] != two[1]
    assert node.boot_id == second_node.boot_id
"""
    done = work.pytest("--image", str(GOOD), "--suite", suite(work, text), "--isolation", "check", timeout=LONG)
    assert done.status == 0, done.out
    assert not guests()


def test_a_panic_ends_the_check_at_once_with_its_console_as_proof(work: Workspace) -> None:
    text = """
import time
def test_panics(node):
    begun = time.monotonic()
    try:
        node.run("echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 60")
    finally:
        assert time.monotonic() - begun < 20
"""
    done = work.pytest("--image", str(GOOD), "--suite", suite(work, text), "--isolation", "check", timeout=LONG)
    assert done.status in (1, 6), done.out
    assert "panic" in done.out
    allure = work.path / ".certify/runs/latest/allure-results"
    attached = [a for f in allure.glob("*-result.json") for a in json.loads(f.read_text()).get("attachments", [])]
    by_name = {a["name"]: allure / a["source"] for a in attached}
    assert b"Kernel panic - not syncing" in by_name["console"].read_bytes()
    assert by_name["screen"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.deep
def test_a_guest_that_does_not_come_back_from_a_reboot_is_a_failed_check(work: Workspace) -> None:
    text = """
def test_gone(node):
    node.run("dd if=/dev/zero of=/dev/vda bs=1M count=2 conv=notrunc 2>/dev/null; sync")
    node.reboot()
"""
    done = work.pytest("--image", str(GOOD), "--suite", suite(work, text), "--isolation", "check", timeout=LONG)
    assert done.status == 1, done.out
    assert work.outcomes()["test_gone"] == "failed"
    assert "nothing to boot" in done.out


@pytest.mark.slow
def test_a_full_disk_in_the_guest_fails_its_check_and_not_the_run(work: Workspace) -> None:
    text = """
def test_full(node):
    result = node.run("dd if=/dev/zero of=/fill bs=4M; sync; echo x >/more", timeout=120)
    assert b"No space left" in result.stderr
    assert node.run("echo alive").text == "alive"
    assert node.facts.packages

def test_clock_off_by_ten_years(node):
    node.run("date -s '-10 years'")
    assert node.run("sleep 0.2; echo fine").text == "fine"
"""
    done = work.pytest("--image", str(GOOD), "--suite", suite(work, text), "--isolation", "check", timeout=LONG)
    assert done.status == 0, done.out


@pytest.mark.deep
def test_qemu_killed_in_a_check_is_no_verdict(work: Workspace) -> None:
    work.write("certify.yaml", "platforms: {vm: {forks: false}}\n")
    name = suite(work, "def test_waits(node):\n    node.run('touch /begun; sleep 40')\n")
    process = work.start("pytest", "--image", str(GOOD), "--suite", name)
    wait_for(lambda: len(guests()) >= 1 and "ready after" in (work.path / "out.log").read_text(), "the guest", 120)
    for pid in guests():
        os.kill(pid, signal.SIGKILL)
    assert process.wait(120) == 6
    assert work.outcomes()["test_waits"] == "no-verdict"


@pytest.mark.slow
def test_a_guest_needs_no_network(work: Workspace) -> None:
    work.write("certify.yaml", "platforms: {vm: {nics: 0, forks: false, memory: 512MiB}}\n")
    text = "def test_it(node):\n    assert node.run('ls /sys/class/net').text == 'lo'\n    assert node.how.boot == 'cold'\n"
    done = work.pytest("--image", str(GOOD), "--suite", suite(work, text), timeout=LONG)
    assert done.status == 0, done.out


@pytest.mark.slow
def test_workers_share_one_snapshot(work: Workspace) -> None:
    text = (
        '@pytest.mark.parametrize("n", range(6))\ndef test_it(node, n):\n    assert node.run("echo on").text == "on"\n'
    )
    done = work.pytest("--image", str(GOOD), "--suite", suite(work, text), "-n", "2", timeout=LONG)
    assert done.status == 0, done.out
    outcomes = [check["outcome"] for check in work.last_run["checks"]]
    assert (set(outcomes), len(outcomes) in (6, 7)) == ({"passed"}, True)


@pytest.mark.slow
def test_a_small_budget_runs_one_guest_at_a_time(work: Workspace) -> None:
    work.write("certify.yaml", "memory_budget: 1200MiB\n")
    text = "@pytest.mark.parametrize('n', range(3))\ndef test_it(node, n):\n    assert node.run('true').ok\n"
    done = work.pytest("--image", str(GOOD), "--suite", suite(work, text), "--isolation", "check", timeout=LONG)
    assert done.status == 0, done.out


@pytest.mark.parametrize(
    ("content", "firmware", "reason"),
    [
        (bytes(1024 * 1024), "bios", "nothing to boot"),
        (bytes(1024 * 1024), "uefi", "nothing to boot"),
        (b"\xfa\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa" + bytes(1024 * 1024), "uefi", "nothing to boot"),
    ],
)
def test_a_disk_that_does_not_boot_fails_at_once(work: Workspace, content: bytes, firmware: str, reason: str) -> None:
    (work.path / "bad.raw").write_bytes(content)
    work.write("certify.yaml", f"platforms: {{vm: {{firmware: [{firmware}]}}}}\n")
    begun = time.monotonic()
    done = work.pytest("--image", "bad.raw", "--suite", suite(work, "def test_it(node):\n    pass\n"), timeout=LONG)
    assert done.status == 1, done.out
    assert reason in done.out
    assert time.monotonic() - begun < 60
    assert work.outcomes()["test_it"] == "failed"
    assert not guests()


def test_a_boot_loop_is_found(work: Workspace) -> None:
    """A boot sector that waits a while and resets the machine, for ever."""
    wait = bytes.fromhex("66b90000000866497 5fc".replace(" ", ""))  # mov ecx, 0x08000000; dec ecx; jnz back
    sector = (wait + bytes.fromhex("b0fee664f4ebfd")).ljust(510, b"\0") + b"\x55\xaa"
    (work.path / "loop.raw").write_bytes(sector + bytes(1024 * 1024))
    work.write("certify.yaml", "platforms: {vm: {firmware: [bios]}}\n")
    done = work.pytest("--image", "loop.raw", "--suite", suite(work, "def test_it(node):\n    pass\n"), timeout=LONG)
    assert done.status == 1, done.out
    assert "boots again and again" in done.out


@pytest.mark.deep
def test_four_guests_of_a_killed_run_are_collected(work: Workspace) -> None:
    text = """
@pytest.mark.parametrize("n", range(1))
def test_four(node, second_node, other_node, n):
    other_node(own_identity=True), other_node(cold=False)
    print("all four")
    node.run("sleep 60")
"""
    name = suite(work, text)
    for _ in range(max(1, KILLS // 4)):
        process = work.start("pytest", "--image", str(GOOD), "--suite", name)
        wait_for(lambda: len(guests()) >= 4, "four guests", 180)
        process.kill()
        process.wait()
        before = guests()
        assert len(before) >= 4
        told = work.certify("gc", timeout=60)
        assert told.status == 0, told.text
        assert len(re.findall("removed virtual machine", told.out)) == len(before)
        assert not guests()
        assert work.certify("gc").out.strip() == "nothing was left behind"


def test_inspect_tells_what_is_on_a_disk(work: Workspace) -> None:
    told = work.certify("inspect", str(GOOD))
    assert told.status == 0
    for words in ("gpt", "EFI system", "bios, uefi", "Debian GNU/Linux 12", "544.2 MB virtual"):
        assert words in told.out
    disk = json.loads(work.certify("inspect", str(GOOD), "--json").out)["disk"]
    assert [p["filesystem"] for p in disk["partitions"]] == ["", "vfat", "ext4"]


@pytest.mark.slow
def test_the_console_is_shown_live(work: Workspace) -> None:
    work.write("certify.yaml", "platforms: {vm: {forks: false}}\n")
    done = work.pytest(
        "--image", str(GOOD), "--suite", suite(work, "def test_it(node):\n    pass\n"), "-s", timeout=LONG
    )
    assert "Linux version" in done.err
    assert "\x1b[" not in done.err


@pytest.mark.slow
def test_secure_boot_is_on_where_it_is_asked_for(work: Workspace) -> None:
    work.write("certify.yaml", "platforms: {vm: {firmware: [uefi-secure]}}\n")
    text = "def test_it(node):\n    told = node.run('od -An -t u1 /sys/firmware/efi/efivars/SecureBoot-*')\n"
    text += "    assert told.text.split()[-1] == '1'\n"
    done = work.pytest("--image", str(GOOD), "--suite", suite(work, text), timeout=LONG)
    assert done.status == 0, done.out
