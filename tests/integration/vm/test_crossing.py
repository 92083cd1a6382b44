"""One artifact on two platforms: a container image as a machine, a disk as a container, and where they differ."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest

from certify.config import Config
from certify.hooks import Plugins
from certify.images.resolve import Resolver
from certify.images.store import Store
from certify_disk.oci_disk import disk_of
from tests.images.builder import CACHE
from tests.integration.conftest import DEMO, MakeImage, Workspace
from tests.integration.vm.test_machines import GOOD, LONG

KERNEL = f"platforms: {{vm: {{kernel: {CACHE}/vmlinuz, initrd: {CACHE}/initrd.img}}}}\n"


def parity(work: Workspace) -> list[dict[str, object]]:
    document = json.loads((work.path / ".certify/runs/latest/parity.json").read_text())
    assert document["schema"] == "certify.parity/v1"
    found: list[dict[str, object]] = document["compared"][0]["differences"]
    return found


def test_a_container_image_runs_on_both(work: Workspace) -> None:
    work.write("certify.yaml", KERNEL)
    suites = [word for name in ("baseline", "boot", "hygiene", "parity") for word in ("--suite", name)]
    chosen = ("-k", "not whole_after_a_restart")  # test_machines restarts machines
    done = work.pytest("--image", DEMO + "good", "--platform", "container,vm", *suites, *chosen, timeout=LONG)
    assert done.status == 0, done.out
    assert {t["platform"] for t in work.last_run["targets"]} == {"container", "vm"}
    assert "0 not allowed" in done.out
    assert [d for d in parity(work) if not d["allowed"]] == []


@pytest.mark.slow
def test_a_disk_runs_on_both(work: Workspace) -> None:
    suites = [word for name in ("baseline", "parity") for word in ("--suite", name)]
    done = work.pytest("--image", str(GOOD), "--platform", "container,vm", *suites, timeout=LONG)
    assert done.status == 0, done.out
    assert [d for d in parity(work) if not d["allowed"]] == []
    assert any(d["kind"] == "kernel" for d in parity(work)) or parity(work)


@pytest.mark.slow
def test_a_difference_that_is_not_allowed_fails_the_check(work: Workspace) -> None:
    work.write("certify.yaml", KERNEL + "settings: {parity: {allowed: []}}\n")
    done = work.pytest("--image", DEMO + "good", "--platform", "container,vm", "--suite", "parity", timeout=LONG)
    assert done.status == 1, done.out
    assert "kernel." in done.out or "units:" in done.out


def test_an_image_without_a_kernel_says_what_to_do(work: Workspace) -> None:
    done = work.pytest("--image", DEMO + "good", "--platform", "vm", "--suite", "boot", timeout=LONG)
    assert done.status == 6, done.out
    assert "ships no kernel" in done.out


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory, make_image: MakeImage) -> Path:
    reference = make_image(
        "tree", base="debian", command=["/sbin/init"], files={"/opt/note": {"content": "x", "uid": 1234, "mode": "0640"}},
        links={"/opt/link": "note"},
    )  # fmt: skip
    source = Resolver(Plugins().transports(Config())).open(reference)
    return disk_of(source, Store(tmp_path_factory.mktemp("store"))).path


def debugfs(disk: Path, command: str) -> str:
    done = subprocess.run(["/usr/sbin/debugfs", "-R", command, str(disk)], capture_output=True, text=True, check=True)
    return done.stdout


def test_owners_modes_links_and_attributes_reach_the_disk(rootfs: Path) -> None:
    told = debugfs(rootfs, "stat /opt/note")
    assert "Mode:  0640" in told
    assert "User:  1234" in told
    assert 'Fast link dest: "note"' in debugfs(rootfs, "stat /opt/link")
    assert "Mode:  04755" in debugfs(rootfs, "stat /usr/bin/passwd")
    assert subprocess.run(["/usr/sbin/e2fsck", "-fn", str(rootfs)], capture_output=True).returncode == 0
    assert stat.S_IMODE(rootfs.stat().st_mode) == 0o400


def test_the_disk_of_a_container_image_is_made_once(rootfs: Path) -> None:
    assert rootfs.with_name("done.json").exists()
