"""What every platform, deploy driver, transport and reader of images must do, as tests to inherit from.

In a test file, subclass a contract and give the fixtures its docstring names; pytest collects the tests::

    class TestMine(PlatformContract):
        @pytest.fixture
        def platform(self):
            return MyPlatform(MySettings())

The built-in implementations pass the same ones. ``pytest.register_assert_rewrite("certify.testing.contracts")`` in a conftest
makes failures speak.
"""

from __future__ import annotations

import hashlib
import posixpath
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from certify.deploy.driver import FleetDriver
from certify.deploy.plan import PlannedInstance, Release
from certify.errors import CertifyError, ImageError, ImageInvalid, NoVerdict
from certify.images.candidate import ImageSource, Transport
from certify.images.files import MOST_READ, ImageFiles
from certify.images.reference import parse
from certify.nodes.node import Node, ShellSettings
from certify.nodes.platform import NodeSpec, Platform, PlatformKind, PlatformSettings

_RUN = "20260101t000000-contract"


class PlatformContract:
    """Fixtures: ``kind`` (:class:`PlatformKind`), ``platform`` and ``source`` (an image it boots, that has a ``sh``)."""

    def test_it_is_of_its_kind(self, kind: PlatformKind, platform: Platform) -> None:
        assert platform.name == kind.name
        assert isinstance(platform.settings, type(kind.settings))
        assert isinstance(kind.settings, PlatformSettings)

    def test_it_offers_no_more_than_its_kind(self, kind: PlatformKind, platform: Platform, source: ImageSource) -> None:
        assert platform.why_not(source.candidate) is None
        assert platform.offers(source.candidate) <= kind.offers
        assert platform.memory_needed(source.candidate) >= 0

    def test_commands_say_what_they_did(self, platform: Platform, source: ImageSource) -> None:
        with booted(platform, source) as node:
            done = node.run("printf out; printf err >&2; exit 3")
            assert (done.status, done.stdout, done.stderr) == (3, b"out", b"err")
            assert node.run("cd / && pwd").text == "/"
            assert [r.text for r in node.run_many(["echo 1", "echo 2"])] == ["1", "2"]

    def test_bytes_arrive_as_they_are(self, platform: Platform, source: ImageSource) -> None:
        octal = "".join(f"\\0{number:03o}" for number in range(256))
        with booted(platform, source) as node:
            assert node.run(f"printf %b '{octal}'").stdout == bytes(range(256))

    def test_a_process_apart_says_the_same(self, platform: Platform, source: ImageSource) -> None:
        with booted(platform, source) as node:
            status, out, err = node.machine.run_apart("printf out; printf err >&2; exit 3", 30.0)
            assert (status, out, err) == (3, b"out", b"err")

    def test_it_lives_until_it_is_stopped(self, platform: Platform, source: ImageSource) -> None:
        with booted(platform, source) as node:
            machine = node.machine
            assert machine.why_dead() is None
            assert isinstance(machine.console(), bytes)
            report = machine.stop()
            assert report.seconds >= 0
            assert machine.why_dead()

    def test_it_comes_back_from_a_restart(self, platform: Platform, source: ImageSource) -> None:
        if "reboot" not in platform.offers(source.candidate):
            return
        with booted(platform, source) as node:
            node.machine.restart()
            assert node.machine.why_dead() is None
            assert node.machine.run_apart("echo on", 60.0)[1] == b"on\n"

    def test_taking_away_is_safe_to_repeat(self, platform: Platform, source: ImageSource) -> None:
        with booted(platform, source) as node:
            node.machine.remove()
            node.machine.remove()
        platform.close(_RUN)
        platform.close(_RUN)


class FleetDriverContract:
    """Fixtures: ``driver`` (a :class:`FleetDriver` of a fleet with one instance), ``instance`` (its name), ``source`` and
    ``release`` of an image that serves well; nothing runs there before."""

    def test_a_rollout_and_back(
        self, driver: FleetDriver, instance: str, source: ImageSource, release: Release
    ) -> None:
        planned = PlannedInstance(name=instance, previous=None, changes=True)
        assert driver.running(instance) is None
        try:
            for _ in range(2):  # killed in between, a rollout goes on by repeating what it was doing
                assert driver.provision(planned, source, release)
            for _ in range(2):
                assert driver.validate(planned, release)
            for _ in range(2):
                assert driver.admit(planned, release)
            assert self._served(driver, instance) == release.digest
            assert driver.soak(planned, release)
            for _ in range(2):
                assert driver.decommission(planned, release)
            assert self._served(driver, instance) == release.digest
        finally:
            for _ in range(2):
                assert driver.restore(planned, release)
        assert driver.running(instance) is None

    @staticmethod
    def _served(driver: FleetDriver, instance: str) -> str:
        found = driver.running(instance)
        return found.digest if found else ""


class TransportContract:
    """Fixtures: ``transport``, ``reference`` (of an image that is there) and ``missing`` (of one that is not), both text."""

    def test_it_opens_what_it_says(self, transport: Transport, reference: str) -> None:
        candidate = transport.open(parse(reference)).candidate
        assert candidate.digest.startswith("sha256:")
        assert len(candidate.digest) == 71
        assert candidate.size > 0
        assert candidate.os == "linux"
        assert candidate.architecture

    def test_the_same_is_the_same(self, transport: Transport, reference: str) -> None:
        assert transport.open(parse(reference)).candidate == transport.open(parse(reference)).candidate

    def test_every_byte_is_what_its_digest_says(self, transport: Transport, reference: str) -> None:
        source = transport.open(parse(reference))
        if config := source.config_bytes():
            assert f"sha256:{hashlib.sha256(config).hexdigest()}" == source.candidate.config_digest
        for layer in source.layers():
            hasher, size = hashlib.sha256(), 0
            for piece in source.blob(layer):
                hasher.update(piece)
                size += len(piece)
            assert f"sha256:{hasher.hexdigest()}" == layer.digest
            assert size == layer.size

    def test_what_is_not_there_is_an_error_of_ours(self, transport: Transport, missing: str) -> None:
        error = raised(lambda: transport.open(parse(missing)))
        assert isinstance(error, ImageError | NoVerdict)
        assert error.message
        assert "\n" not in error.message


class ImageFilesContract:
    """Fixture: ``files`` (:class:`ImageFiles` of an image that has ``/etc/passwd``)."""

    def test_names_are_absolute_plain_and_unique(self, files: ImageFiles) -> None:
        paths = [file.path for file in files.listed()]
        assert len(paths) == len(set(paths))
        assert all(path.startswith("/") and posixpath.normpath(path) == path for path in paths)
        assert "/etc/passwd" in paths

    def test_contents_are_as_long_as_said(self, files: ImageFiles) -> None:
        plain = [f for f in files.listed() if stat.S_ISREG(f.mode) and 0 < f.size <= 65536][:50]
        assert plain
        for file in plain:
            assert len(files.content(file.path) or b"") == file.size

    def test_what_is_no_file_has_no_content(self, files: ImageFiles) -> None:
        assert files.content("/etc") is None
        assert files.content("/nowhere/at/all") is None

    def test_too_much_is_refused(self, files: ImageFiles) -> None:
        for file in files.listed():
            if stat.S_ISREG(file.mode) and file.size > MOST_READ:
                assert isinstance(raised(lambda file=file: files.content(file.path)), ImageInvalid)  # type: ignore[misc]

    def test_what_is_buried_can_be_read(self, files: ImageFiles) -> None:
        for file, read in files.buried():
            assert file.path.startswith("/")
            assert isinstance(read(), bytes)

    def test_closing_is_safe_to_repeat(self, files: ImageFiles) -> None:
        files.close()
        files.close()


@contextmanager
def booted(platform: Platform, source: ImageSource) -> Iterator[Node]:
    """A node of an image, taken away afterwards with what was made for it."""
    spec = NodeSpec(_RUN, "contract")
    try:
        machine = platform.boot(source, spec, lambda _: None)
        node = Node(machine, source.candidate, spec, ShellSettings())
        try:
            yield node
        finally:
            node.remove()
    finally:
        platform.close(_RUN)


def raised(action: Callable[[], Any]) -> CertifyError:
    """The error of certify's tree that an action raises. Raises AssertionError when it raises none."""
    try:
        action()
    except CertifyError as error:
        return error
    raise AssertionError("nothing was raised")
