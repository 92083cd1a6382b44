"""Bad input: one clear line, the right exit code, nothing left behind."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import docker
import pytest

from tests.integration.conftest import DEMO, MakeImage, Workspace, left_behind
from tests.unit.images.imagefiles import blob, image, index, layout, simple_layout

BUSYBOX = {"copy": "/usr/bin/busybox", "mode": "0755"}


def one_line_and_hint(text: str) -> bool:
    """An error is a line that says what, and one that says what to do; no traceback."""
    return "Traceback" not in text and len([line for line in text.strip().splitlines() if line.strip()]) <= 2


@pytest.mark.parametrize(
    ("reference", "says", "hint"),
    [
        ("docker-deamon:app:1", "unknown transport 'docker-deamon'", "did you mean docker-daemon:?"),
        ("ftp://x/y", "unknown transport 'ftp'", "known:"),
        (
            "docker-daemon:certify-demo:god",
            "the engine has no such image",
            "did you mean docker-daemon:certify-demo:good?",
        ),
        (":1", "is no image name", "a tag needs a name"),
        ("docker-archive:/nowhere.tar", "no such file", "check the path"),
        ("oci:/nowhere", "no such directory", "oci-layout"),
        ("disk.qcow2", "no such file", "check the path"),
        ("docker://127.0.0.1:1/app:1", "does not answer", ""),
    ],
)
def test_bad_references(work: Workspace, reference: str, says: str, hint: str) -> None:
    for done, status in ((work.certify("inspect", reference), 2), (work.pytest("--image", reference), 4)):
        unreachable = "does not answer" in says
        assert done.status == (6 if unreachable else status), done.text
        assert says in done.text
        assert hint in done.text
        assert "Traceback" not in done.text
    assert one_line_and_hint(work.certify("inspect", reference).err)
    assert not (work.path / ".certify").exists()


def test_an_image_for_another_architecture(work: Workspace) -> None:
    blobs, descriptor = image("s390x")
    path = layout(work.path / "i", blobs, [descriptor])
    work.write("test_x.py", "def test_x(node): pass\n")
    done = work.pytest("--image", f"oci:{path}", "test_x.py")
    assert done.status == 6
    assert "is built for linux/s390x, not linux/" in done.out


def test_an_index_without_this_platform(work: Workspace) -> None:
    blobs, descriptor = image("s390x")
    multi = index([{**descriptor, "platform": {"os": "linux", "architecture": "s390x"}}])
    top = {"mediaType": "application/vnd.oci.image.index.v1+json", **blob(multi)}
    path = layout(work.path / "i", {**blobs, blob(multi)["digest"]: multi}, [top])
    done = work.pytest("--image", f"oci:{path}")
    assert done.status == 4
    assert "the index has no image for linux/" in done.err


def test_a_cut_archive(work: Workspace) -> None:
    (work.path / "a.tar").write_bytes(os.urandom(3000))
    done = work.pytest("--image", "docker-archive:a.tar")
    assert done.status == 4
    assert "not a whole tar archive" in done.err


@pytest.mark.parametrize("name", ["../evil", "/etc/evil"])
def test_an_archive_that_leaves_its_folder(work: Workspace, name: str) -> None:
    with tarfile.open(work.path / "a.tar", "w") as tar:
        info = tarfile.TarInfo(name)
        tar.addfile(info, io.BytesIO())
    done = work.pytest("--image", "oci-archive:a.tar")
    assert done.status == 4
    assert "leaves the archive" in done.err


def test_a_layer_with_a_wrong_digest(work: Workspace, engine: docker.DockerClient) -> None:
    path = simple_layout(work.path / "i")
    layer = max((path / "blobs/sha256").iterdir(), key=lambda p: p.stat().st_size)
    layer.write_bytes(layer.read_bytes().replace(b"hello\n", b"jello\n"))
    work.write("test_x.py", "def test_x(node): pass\n")
    done = work.pytest("--image", f"oci:{path}", "test_x.py")
    assert done.status == 6
    assert "do not have the digest" in done.out
    assert left_behind(engine, work.last_run["id"]) == []


def test_an_image_that_prints_a_gibibyte(work: Workspace, make_image: MakeImage) -> None:
    program = "head -c 1073741824 /dev/zero | tr '\\0' x; sleep 600"
    links = {f"/bin/{name}": "sh" for name in ("head", "tr", "sleep")}
    reference = make_image("flood", command=["/bin/sh", "-c", program], files={"/bin/sh": BUSYBOX}, links=links)
    work.write(
        "test_x.py", "def test_x(node): assert node.run('echo on').text == 'on'\ndef test_y(node): node.console()\n"
    )
    done = work.pytest("--image", reference, "test_x.py")
    assert done.status == 0, done.text
    log = next((work.path / ".certify/runs/latest/nodes").rglob("console.log"))
    assert log.stat().st_size <= 4 * 1024**2


def test_an_image_that_prints_terminal_escapes(work: Workspace, make_image: MakeImage) -> None:
    program = "printf '\\033]0;owned\\007\\033[2J'; exit 3"
    reference = make_image("terminal", command=["/bin/sh", "-c", program], files={"/bin/sh": BUSYBOX})
    work.write("test_x.py", "def test_x(node): pass\n")
    done = work.pytest("--image", reference, "test_x.py")
    assert done.status == 1
    assert "\x1b" not in done.text


def test_what_a_guest_prints_never_reaches_the_terminal_raw(work: Workspace) -> None:
    work.write(
        "test_x.py",
        "def test_x(node):\n"
        "    said = node.run(\"printf 'a\\\\033[2Jb\\\\nc\\\\007'\").text\n"
        "    print(said)\n"
        "    assert said == 'x'\n"
        "def test_y(node): node.read('/nowhere\\033[31m')\n",
    )
    done = work.pytest("--image", DEMO + "scratch", "test_x.py")
    assert done.status == 1
    assert "\\x1b[2J" in done.out
    assert "\x1b" not in done.out
    assert "\x07" not in done.out


def test_no_engine(work: Workspace) -> None:
    gone = {"DOCKER_HOST": "tcp://127.0.0.1:1"}
    done = work.pytest("--image", DEMO + "good", **gone)
    assert done.status == 6
    assert "the docker engine does not answer" in done.text
    assert "certify doctor" in done.text
    doctor = work.certify("doctor", **gone)
    assert doctor.status == 1
    assert "problem  docker engine" in doctor.out
    assert work.certify("gc", **gone).status == 0


def test_evidence_that_cannot_be_kept(work: Workspace, engine: docker.DockerClient) -> None:
    work.write("test_x.py", "def test_x(node): pass\n")
    work.write("file", "")
    done = work.pytest("--image", DEMO + "scratch", "test_x.py", "--evidence", "file/below")
    assert done.status == 4
    assert "Traceback" not in done.text
    assert "--evidence" in done.text


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_fills_up_while_evidence_is_written(work: Workspace, engine: docker.DockerClient) -> None:
    import subprocess

    small = work.path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], check=True)
    try:
        checks = "def test_x(node): node.run('head -c 100000 /dev/urandom | base64')\n"
        work.write("test_x.py", checks + "".join(f"def test_{i}(node): assert 'x' * 9000 == {i}\n" for i in range(40)))
        done = work.pytest("--image", DEMO + "scratch", "test_x.py", "--evidence", str(small), "-q", "--tb=no")
        assert done.status == 6, done.text
        assert "No space left on device" in done.text
        assert "make room or name another place with --evidence DIR" in done.text
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert not [name for name in left_behind(engine) if "scratch" in name and str(os.getpid()) in name]


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("suitess: [baseline]\n", "certify.yaml:1: suitess: no such setting", "did you mean 'suites'?"),
        (
            "platforms:\n  container: {memry: 1GiB}\n",
            "certify.yaml:2: platforms.container.memry",
            "did you mean 'memory'?",
        ),
        ("suites: [\n", "certify.yaml:2: not YAML", ""),
        ("suites: [basline]\n", "--suite basline: no installed suite", "did you mean baseline?"),
        ("settings: {baseline: {time_zoen: UTC}}\n", "settings.baseline.time_zoen", "did you mean 'time_zone'?"),
        ("settings: {baseline: {time_zone: 3}}\n", "expected str", "got 3"),
    ],
)
def test_mistakes_in_certify_yaml(work: Workspace, text: str, says: str, hint: str) -> None:
    work.write("certify.yaml", text)
    done = work.pytest("--image", DEMO + "scratch")
    assert done.status == 4
    assert says in done.err
    assert hint in done.err
    assert "Traceback" not in done.text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--suite", "hygeine"], "did you mean hygiene?"),
        (["--suite", "./nowhere"], "no such folder"),
        (["--platform", "contaner"], "did you mean container?"),
        (["--platform", "moon"], "no such platform"),
        (["--certify-config", "none.yaml"], "none.yaml: No such file"),
        (["--sign"], "make keys with `certify init`"),
        (["certify_suites.boot.test_nothing::test_x"], "no installed suite has that check"),
    ],
)
def test_mistakes_on_the_command_line(work: Workspace, arguments: list[str], says: str) -> None:
    done = work.pytest("--image", DEMO + "scratch", *arguments)
    assert done.status == 4, done.text
    assert says in done.text
    assert "Traceback" not in done.text


def test_an_unknown_need_is_a_mistake_of_the_suite(work: Workspace) -> None:
    work.write("test_n.py", "import pytest\n@pytest.mark.needs('systmd')\ndef test_x(node): pass\n")
    done = work.pytest("--image", DEMO + "scratch", "test_n.py")
    assert done.status == 4
    assert "needs('systmd'): unknown" in done.text


def test_nothing_is_left_in_the_temp_folder(work: Workspace, tmp_path: Path) -> None:
    temp = tmp_path / "temp"
    temp.mkdir()
    work.write("test_x.py", "def test_x(node): pass\n")
    assert work.pytest("--image", DEMO + "scratch", "test_x.py", TMPDIR=str(temp)).status == 0
    assert list(temp.iterdir()) == []
