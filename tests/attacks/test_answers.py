"""What an image leaves out, or buries, is no answer that speaks for it."""

from __future__ import annotations

import json

import docker
import pytest

from tests.attacks.test_images import BUSYBOX
from tests.integration.conftest import MakeImage, Workspace

#: An image with accounts that no baseline lets pass; what is missing from it must not make it one without accounts.
ACCOUNTS = {
    "/etc/passwd": {"content": "root:x:0:0::/root:/bin/sh\ntoor::0:0::/root:/bin/sh\n"},
    "/etc/group": {"content": "root:x:0:\n"},
    "/etc/shadow": {"content": "root::19000:0:::::\n", "mode": "0666"},
    "/etc/os-release": {"content": "ID=x\n"},
}


@pytest.mark.deep
@pytest.mark.parametrize("tools", [("sh",), ("sh", "cat"), ("sh", "cat", "ls", "stat", "find", "readlink", "sed")])
def test_an_image_without_tools_is_no_image_without_accounts(
    work: Workspace, make_image: MakeImage, tools: tuple[str, ...]
) -> None:
    programs = {f"/bin/{tool}": BUSYBOX for tool in (*tools, "sleep")}
    reference = make_image(
        f"tools{len(tools)}", command=["/bin/sh", "-c", "sleep 600"], files={**programs, **ACCOUNTS}, env=["PATH=/app"]
    )
    done = work.pytest("--image", reference, "--suite", "baseline", "-q", "--tb=line")
    assert done.status in (1, 6), done.text
    assert not {"PASSED", "INCOMPLETE"} & set(work.last_run["verdicts"].values())
    assert "holds a program only" not in json.dumps(work.last_run["checks"])


def test_a_tool_that_is_missing_is_no_file_that_went_away() -> None:
    from certify.errors import Unanswered
    from certify.nodes.shell import Result
    from certify_suites.scan import answered

    gone = b"stat: cannot statx '/proc/1/fd/3': No such file or directory\n"
    gone += b"find: \xe2\x80\x98/run/x\xe2\x80\x99: No such file or directory\n"
    assert answered(Result("find", 1, b"", gone, 0.0)).status == 1
    for said in (b"find: 'stat': No such file or directory", b"sh: stat: not found", b"find: /root: Permission denied"):
        with pytest.raises(Unanswered):
            answered(Result("find", 1, b"", said, 0.0))


@pytest.mark.deep
def test_a_secret_that_a_later_layer_removes_is_found(
    work: Workspace, engine: docker.DockerClient, make_image: MakeImage
) -> None:
    token = "ghp_" + "a1B2" * 9
    files = {f"/bin/{tool}": BUSYBOX for tool in ("sh", "busybox", "sleep", "rm")}
    below = make_image(
        "secretbelow", command=["/bin/sh", "-c", "sleep 600"], files={**files, "/srv/token": {"content": token}}
    )
    container = engine.containers.run(below.partition(":")[2], ["/bin/rm", "/srv/token"], detach=True)
    try:
        container.wait(timeout=30)
        container.commit("certify-demo", "test-secretgone", changes='CMD ["/bin/sh", "-c", "sleep 600"]')
        done = work.pytest("--image", "docker-daemon:certify-demo:test-secretgone", "--suite", "hygiene", "-q")
    finally:
        container.remove(force=True)
        engine.images.remove("certify-demo:test-secretgone", force=True)
    assert work.outcomes()["test_no_tokens"] == "failed", done.text
    assert "/srv/token (in a lower layer)" in done.out


@pytest.mark.parametrize(
    "realm", ["http://127.0.0.1:5000.evil.example/", "http://127.0.0.1:5000@evil.example/", "ftp://x/", "http://[::1/"]
)
def test_a_realm_that_only_begins_like_the_registry_gets_no_credentials(realm: str) -> None:
    from certify_registry.transport import Registry

    client = object.__new__(Registry)
    client._base = "http://127.0.0.1:5000/v2/app"
    assert not client._may_have_credentials(realm)
    assert client._may_have_credentials("http://127.0.0.1:5000/token")
    assert client._may_have_credentials("https://auth.example/token")
