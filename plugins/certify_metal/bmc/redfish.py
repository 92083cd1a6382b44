"""A BMC that speaks Redfish (DMTF DSP0266). sushy parses; retries, time and errors are ours."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests
import sushy
from sushy import auth, connector, exceptions

from certify.errors import CertifyError, EngineUnavailable, UsageError
from certify.logs import responses
from certify.waiting import until
from certify_metal.bmc.interface import POLL, Bmc, Busy
from certify_metal.bmc.quirks import Quirks, quirks_of
from certify_metal.host.inventory import MetalNode

_TASK = 120.0  # seconds that a task of a BMC may take
_ANSWER = 20.0
_CD = {"CD", "DVD"}
_SILENT = (exceptions.ConnectionError, requests.RequestException)
_LATER = {404, 409, 412, 423, 500, 502, 503, 504}  # answers of a BMC that is busy with something else


class OnePerCall(connector.Connector):  # type: ignore[misc]
    """sushy's connector without its own repeats: one request, one answer or one error."""

    def _op(self, *args: Any, **options: Any) -> Any:
        options.setdefault("server_side_retries_left", 0)
        return super()._op(*args, **options)


class RedfishBmc(Bmc):
    """Implements :class:`certify_metal.bmc.interface.Bmc`. An exchange is kept as method, path and status."""

    def __init__(self, name: str, node: MetalNode) -> None:
        super().__init__(name, node)
        self._root: Any = None
        self._system: Any = None
        self.quirks = Quirks()

    # -- who it is -------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        given = self.node.bmc
        address = urlsplit(given.address)
        verify = given.ca if given.ca is not None else True
        line = OnePerCall(
            f"{address.scheme}://{address.netloc}", verify=verify, response_callback=self._record,
            server_side_retries=1, default_request_timeout=_ANSWER, connect_timeout=5,
        )  # fmt: skip
        password = auth.BasicAuth(given.username, given.password.read())
        try:
            self._root = sushy.Sushy(given.address, auth=password, connector=line, root_prefix="/redfish/v1/")
            self._system = self._find()
        except exceptions.AccessError:
            raise self._refused() from None
        except (exceptions.SushyError, requests.RequestException) as error:
            raise self._silent(error) from None
        self._identify()
        self.quirks = quirks_of(self._system.manufacturer or "", self._system.model or "")

    def _find(self) -> Any:
        wanted = self.node.bmc.system
        if wanted is not None:
            return self._root.get_system(wanted)
        systems = self._root.get_system_collection().get_members()
        same = [s for s in systems if self.node.uuid and (s.uuid or "").lower() == self.node.uuid.lower()]
        if len(same or systems) != 1:
            there = ", ".join(s.path for s in systems) or "none"
            raise UsageError(f"{self.name}: its BMC has {len(systems)} systems: {there}", "name one: bmc.system")
        return (same or systems)[0]

    def _identify(self) -> None:
        """Raises UsageError unless the machine is the one the inventory means."""
        pairs = (("uuid", self.node.uuid, self._system.uuid), ("serial", self.node.serial, self._system.serial_number))
        for what, wanted, seen in pairs:
            if wanted is not None and wanted.lower() != (seen or "").lower():
                raise UsageError(
                    f"{self.name}: the machine there has {what} {seen}, nodes.yaml says {wanted}",
                    "nothing was changed; correct nodes.yaml",
                )

    @property
    def uuid(self) -> str:
        return str(self._system.uuid or "").lower()

    def facts(self) -> dict[str, Any]:
        system = self._system
        return {
            "protocol": "redfish", "manufacturer": system.manufacturer, "model": system.model, "serial": system.serial_number,
            "uuid": self.uuid, "bios": system.bios_version, "power": self.power(),
        }  # fmt: skip

    def critical_events(self) -> set[str] | None:
        found: set[str] = set()
        logs = 0
        for holder in (self._system.path, *(manager.path for manager in self._guarded(lambda: self._system.managers))):
            for service in self._members(f"{holder}/LogServices"):
                logs += 1
                for entry in self._members(f"{service['@odata.id']}/Entries"):
                    if entry.get("Severity") == "Critical":
                        found.add(f"{entry.get('Created', '')} {entry.get('Message', '')}".strip())
        return found if logs else None

    def _members(self, path: str) -> list[dict[str, Any]]:
        """A collection's members, each read where the collection does not carry it; none where there is no collection."""
        members = self._get(path).get("Members", [])
        return [member if len(member) > 1 else self._get(str(member["@odata.id"])) for member in members]

    def _get(self, path: str) -> dict[str, Any]:
        def ask() -> Any:
            try:
                return self._root._conn._op("GET", path).json()
            except exceptions.HTTPError as error:
                if error.status_code == 404:
                    return None
                raise

        found = self._guarded(ask)
        return dict(found) if found is not None else {}

    # -- power -----------------------------------------------------------------------------------------------------

    def power(self) -> str:
        state = self._read(self._system).power_state
        return str(getattr(state, "value", state))

    def _reset(self, kind: str) -> None:
        field = self._system._actions.reset  # sushy has no public way to post without its own repeats
        known = {str(getattr(value, "value", value)) for value in field.allowed_values or []}
        if kind == "GracefulShutdown" and known and kind not in known:
            kind = "ForceOff"
        self._change("POST", field.target_uri, {"ResetType": kind})

    # -- boot device -----------------------------------------------------------------------------------------------

    def _set_boot(self, target: str, enabled: str) -> None:
        override = {
            "BootSourceOverrideTarget": target,
            "BootSourceOverrideEnabled": self.quirks.boot_enabled or enabled,
        }
        self._change("PATCH", self._system.path, {"Boot": override})

    def _boots_from(self, target: str) -> bool:
        boot = self._read(self._system).boot
        return str(getattr(boot.target, "value", boot.target)) == target

    def boot_targets(self) -> set[str]:
        return {str(getattr(target, "value", target)) for target in self._system.boot.allowed_values or []}

    # -- virtual media ---------------------------------------------------------------------------------------------

    def slots(self, timeout: float = 10.0) -> list[Any]:
        """Virtual media that take a CD or DVD image: those of the system, else those of its managers.

        Reading is safe to repeat, and is, for ``timeout`` seconds. Raises EngineUnavailable.
        """
        said: list[EngineUnavailable] = []

        def ask() -> list[list[Any]]:
            try:
                return [self._guarded(self._slots)]
            except EngineUnavailable as error:
                said[:] = [error]
                return []

        found = until(ask, timeout, POLL)
        if not found:
            raise said[0]
        return found[0]

    def _slots(self) -> list[Any]:
        for holder in (self._system, *self._system.managers):
            try:
                members = holder.virtual_media.get_members()
            except (exceptions.MissingAttributeError, exceptions.ResourceNotFoundError):
                continue
            found = [m for m in members if {str(getattr(t, "value", t)) for t in m.media_types or []} & _CD]
            if found:
                return found
        return []

    def ensure_ejected(self, timeout: float) -> None:
        for slot in self.slots(timeout):
            self._ensure(
                "without media",
                lambda slot=slot: not self._read(slot).inserted,  # type: ignore[misc]
                lambda slot=slot: self._media(slot._get_eject_media_uri(), {}, {"Image": None}),  # type: ignore[misc]
                timeout,
            )

    def ensure_inserted(self, url: str, timeout: float) -> None:
        slots = self.slots(timeout)
        if not slots:
            raise EngineUnavailable(
                f"{self.name}: its BMC has no virtual CD or DVD", "boot it from the network, or license the feature"
            )
        slot = slots[0]

        def seen() -> bool:
            now = self._read(slot)
            return bool(now.inserted) and now.image == url

        body = {"Image": url, "Inserted": True, "WriteProtected": True, **self.quirks.insert_fields}
        self._ensure(
            "with the installer's medium", seen, lambda: self._media(slot._get_insert_media_uri(), body, body), timeout
        )

    def _media(self, how: tuple[str, bool], posted: dict[str, Any], patched: dict[str, Any]) -> None:
        """By the action where the slot has one, else by writing its ``Image`` (DSP0266: some services offer only that)."""
        path, by_patch = how
        self._change("PATCH" if by_patch else "POST", path, patched if by_patch else posted)

    def _read(self, resource: Any) -> Any:
        self._guarded(lambda: resource.refresh(force=True))
        return resource

    def _guarded(self, ask: Callable[[], Any]) -> Any:
        """Read; once more where the connection broke, which takes nothing to repeat. Raises EngineUnavailable."""
        for last in (False, True):
            try:
                return ask()
            except CertifyError:
                raise
            except exceptions.AccessError:
                raise self._refused() from None
            except _SILENT as error:
                if last:
                    raise self._silent(error) from None
            except exceptions.SushyError as error:
                raise self._silent(error) from None
        raise AssertionError("the last attempt returns or raises")

    def _change(self, method: str, path: str, body: dict[str, Any]) -> None:
        """One change, sent once. A task is watched to its end. Raises EngineUnavailable; Busy when it was refused for now."""
        line = self._root._conn
        try:
            answer = line._op(method, path, data=body, headers={"If-Match": "*"} if self.quirks.if_match else None)
        except exceptions.AccessError:
            raise UsageError(
                f"{self.name}: its BMC refuses {method} {path}", "give the user the operator's role"
            ) from None
        except exceptions.HTTPError as error:
            if error.status_code in _LATER:
                raise Busy(f"{method} {path} was answered {error.status_code}") from None
            raise EngineUnavailable(f"{self.name}: {method} {path}: {error}", "see its event log") from None
        except _SILENT as error:
            raise self._silent(error) from None
        if answer.status_code == 202 and (monitor := answer.headers.get("Location")):
            self._watch_task(monitor)

    def _watch_task(self, monitor: str) -> None:
        """DSP0266, 12.2 "Asynchronous operations": done when the monitor answers anything but 202. Raises EngineUnavailable."""

        def ended() -> bool:
            answer = self._guarded(lambda: self._root._conn._op("GET", urlsplit(monitor).path))
            content = answer.json() if answer.content else {}
            state = content.get("TaskState", "Completed" if answer.status_code != 202 else "Running")
            if state in ("Exception", "Killed", "Cancelled"):
                words = "; ".join(str(m.get("Message", "")) for m in content.get("Messages", []))
                raise EngineUnavailable(
                    f"{self.name}: a task of its BMC ended as {state}: {words[:200]}", "see its event log"
                )
            return answer.status_code != 202 and state not in ("Running", "New", "Starting", "Pending")

        if not until(ended, _TASK, POLL):
            raise EngineUnavailable(f"{self.name}: a task of its BMC does not end", "see its event log")

    _log = staticmethod(responses(logging.getLogger(__name__)))

    def _record(self, response: Any) -> None:
        self._log(response)
        request = response.request
        self.exchanges.append(f"{request.method} {urlsplit(request.url).path} {response.status_code}")
