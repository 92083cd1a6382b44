"""The Redfish driver against the lab's real service, through a proxy that breaks what BMCs break."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from certify.errors import EngineUnavailable, UsageError
from certify_metal.bmc import interface as driver
from certify_metal.bmc import redfish
from certify_metal.bmc.redfish import RedfishBmc
from certify_metal.host.inventory import Secret
from tests.integration.metal.proxy import Proxy

Through = Callable[..., tuple[RedfishBmc, Proxy]]
INSERT, EJECT, RESET = "VirtualMedia.InsertMedia", "VirtualMedia.EjectMedia", "ComputerSystem.Reset"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less: the lab answers at once, and the tests make it not to."""
    monkeypatch.setattr(driver, "POLL", 0.05)
    monkeypatch.setattr(driver, "_ACT_AGAIN", 1.0)
    monkeypatch.setattr(redfish, "_ANSWER", 2.0)


@pytest.fixture
def iso() -> Iterator[str]:
    """The address of something that can be inserted."""

    class Media(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "4096")
            self.end_headers()
            self.wfile.write(bytes(4096))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Media)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/a.iso"
    server.shutdown()
    server.server_close()


def connected(bmc: RedfishBmc) -> RedfishBmc:
    bmc.connect()
    return bmc


def once(ending: str, verdict: Any) -> Callable[..., Any]:
    """A rule for the first request to a path that ends so."""
    left = [verdict]
    return lambda method, path, body: left.pop() if method != "GET" and path.endswith(ending) and left else None


def test_power_media_and_boot_device(through: Through, iso: str) -> None:
    bmc, proxy = through()
    connected(bmc).ensure_inserted(iso, 20)
    bmc.ensure_boot("Cd", "Once", 10)
    bmc.ensure_on(10)
    bmc.ensure_on(10)
    assert bmc.power() == "On"
    assert proxy.count("POST", RESET) == 1
    bmc.ensure_off(10)
    bmc.ensure_ejected(10)
    bmc.ensure_ejected(10)
    assert proxy.count("POST", EJECT) == 1
    assert bmc.facts()["power"] == "Off"


def test_a_connection_cut_in_the_middle_of_an_insert_mounts_once(through: Through, iso: str) -> None:
    bmc, proxy = through(once(INSERT, "drop-after"))
    connected(bmc).ensure_inserted(iso, 20)
    assert proxy.count("POST", INSERT) == 1


def test_an_insert_that_never_arrived_is_sent_again(through: Through, iso: str) -> None:
    bmc, proxy = through(once(INSERT, "drop"))
    connected(bmc).ensure_inserted(iso, 20)
    assert proxy.count("POST", INSERT) == 1


def test_a_task_that_ends_in_an_exception_is_told(through: Through, iso: str) -> None:
    def rule(method: str, path: str, body: dict[str, Any]) -> Any:
        if path.endswith(INSERT):
            return 202, {}, {"Location": "/redfish/v1/TaskService/TaskMonitors/7"}
        if path.endswith("/TaskMonitors/7"):
            return 202, {"TaskState": "Exception", "Messages": [{"Message": "cannot reach the image"}]}, {}
        return None

    bmc, _ = through(rule)
    with pytest.raises(EngineUnavailable, match="ended as Exception: cannot reach the image"):
        connected(bmc).ensure_inserted(iso, 3)


@pytest.mark.parametrize("status", [409, 503])
def test_an_eject_that_is_refused_for_now_is_tried_again(through: Through, iso: str, status: int) -> None:
    bmc, proxy = through(once(EJECT, (status, {"error": {"message": "busy"}}, {})))
    connected(bmc).ensure_inserted(iso, 20)
    bmc.ensure_ejected(10)
    assert proxy.count("POST", EJECT) == 1


def test_media_that_stay_inserted_for_a_while_are_waited_for(through: Through, iso: str) -> None:
    stale = []

    def rule(method: str, path: str, body: dict[str, Any]) -> Any:
        if path.endswith(EJECT):
            stale.extend([1] * 4)
        if method == "GET" and path.endswith("/VirtualMedia/Cd") and stale:
            stale.pop()
            media = {"@odata.id": path, "Id": "Cd", "Name": "Cd", "MediaTypes": ["CD"], "Inserted": True, "Image": iso}
            return 200, media, {}
        return None

    bmc, proxy = through(rule)
    connected(bmc).ensure_inserted(iso, 20)
    bmc.ensure_ejected(10)
    assert not stale
    assert proxy.count("POST", EJECT) == 1


def test_a_reset_whose_answer_never_comes_is_one_reset(through: Through) -> None:
    bmc, proxy = through(once(RESET, "drop-after"))
    connected(bmc).ensure_on(20)
    assert proxy.count("POST", RESET) == 1


def test_a_patch_that_is_refused_while_the_machine_starts_is_tried_again(through: Through) -> None:
    answers = [(503, {"error": {"message": "in POST"}}, {})] * 3
    bmc, proxy = through(lambda method, path, body: answers.pop() if method == "PATCH" and answers else None)
    connected(bmc).ensure_boot("Hdd", "Continuous", 20)
    assert sum(method == "PATCH" for method, _, _ in proxy.changes) == 1


def test_a_refused_password_is_tried_once(through: Through, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTATED", "not-it-any-more")
    bmc, proxy = through(lambda method, path, body: None)
    given = msgspec.structs.replace(bmc.node.bmc, password=Secret(env="ROTATED"))
    bmc = RedfishBmc("metal-1", msgspec.structs.replace(bmc.node, bmc=given))
    with pytest.raises(UsageError, match="refuses the user 'admin'") as caught:
        bmc.connect()
    assert "not-it-any-more" not in str(caught.value) + "".join(bmc.exchanges)
    assert [path for _, path in proxy.seen if path != "/redfish/v1/"] == [given.system]


def test_a_password_that_is_rotated_meanwhile_locks_nobody_out(through: Through) -> None:
    rotated = [False]
    denied = (401, {"error": {"message": "no", "code": "Base.1.0.GeneralError"}}, {})
    bmc, proxy = through(lambda method, path, body: denied if rotated[0] else None)
    connected(bmc)
    rotated[0], before = True, len(proxy.seen)
    with pytest.raises(UsageError, match="refuses the user"):
        bmc.ensure_on(20)
    assert len(proxy.seen) - before == 1


@pytest.mark.parametrize("change", [{"uuid": "00000000-0000-0000-0000-000000000001"}, {"serial": "other"}])
def test_another_machine_than_the_inventorys_is_left_alone(through: Through, change: dict[str, str]) -> None:
    bmc, proxy = through(None, **change)
    with pytest.raises(UsageError, match=r"nodes\.yaml says"):
        bmc.connect()
    assert proxy.changes == []


def test_a_bmc_that_says_nothing_is_unknown(through: Through) -> None:
    dead = [False]
    bmc, proxy = through(lambda method, path, body: "drop" if dead[0] else None)
    connected(bmc)
    dead[0] = True
    with pytest.raises(EngineUnavailable):
        bmc.power()
    with pytest.raises(EngineUnavailable, match="not off after"):
        bmc.ensure_off(1)
    assert proxy.changes == []
