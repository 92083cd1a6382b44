"""The notary: a process beside a run that takes down its outcomes, gives the verdict and signs.

Started as ``python -m certify.trust.notary``.

It never imports a suite, a conftest or pytest: what they do in their process cannot reach the runner key's use, nor take
back what was told. Messages are lines of JSON: on standard input ``loaded`` for each file of code before it runs, ``begin``,
``collected`` and ``outcome`` as they come, then ``finish``; ``begin`` and ``finish`` are answered on standard output. A run
whose process died stays unfinished, with the outcomes it had; only where it was to be signed and had failed already it is
certified as failed: ending it hides nothing.

The verdict is of the *plans* given at the beginning, before any suite was imported (:class:`certify.evidence.run.Planned`).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from certify.config import Config, load_config
from certify.errors import CertifyError, EvidenceError
from certify.evidence.bundle import Bundle
from certify.evidence.junit import junit
from certify.evidence.plan import SuitePlan
from certify.evidence.run import (
    BOOTS_COLD,
    FAILED,
    NO_VERDICT,
    OWN_SUITE,
    RUN_IS_SOUND,
    Check,
    Part,
    Planned,
    Run,
    Target,
    own_check,
    timestamp,
)
from certify.evidence.suite_files import SuiteFiles
from certify.nodes.platform import FROM_CACHE
from certify.trust.witness import Loaded, Witness
from certify.trust.workers import WorkersLine


class Begin(Struct, frozen=True, tag="begin"):
    """What is known before anything is collected. ``files`` says by suite where it lies; ``config`` is certify.yaml's path,
    if one was named."""

    directory: str
    run: Run
    plans: tuple[SuitePlan, ...]
    files: dict[str, SuiteFiles]
    sign: bool
    config: str | None = None


class TookPart(Struct, frozen=True, tag="took part"):
    """What a process says of itself: configuration and plugins."""

    code: tuple[Part, ...]


class Collected(Struct, frozen=True, tag="collected"):
    """Ids that a process of the run has collected, and those among them that are in doubt: twice, or not their suite's."""

    ids: tuple[str, ...]
    doubtful: tuple[str, ...] = ()


class Outcome(Struct, frozen=True, tag="outcome"):
    """One check's outcome."""

    check: Check


class Failing(Struct, frozen=True, tag="failing"):
    """A check that has failed and is not at its end yet."""

    check: Check


class Booted(Struct, frozen=True):
    """How one target was booted: cold or restored, and the driver's own words."""

    boot: str = "none"
    details: dict[str, Any] = {}


class Finish(Struct, frozen=True, tag="finish"):
    """The end. ``booted`` says by target how it was booted; ``problems`` are reasons for which nothing can be said of any;
    ``workers`` is how many processes beside the run's own have run checks."""

    booted: dict[str, Booted]
    phases: dict[str, float]
    problems: tuple[str, ...] = ()
    workers: int = 0


class Answer(Struct, frozen=True):
    """``error`` (with ``hint`` and ``status``) when it could not be done, else the run and what was signed."""

    run: Run | None = None
    signed: tuple[str, ...] = ()
    unsealed: str = ""
    error: str = ""
    hint: str = ""
    status: int = 2


Message = Loaded | TookPart | Begin | Collected | Failing | Outcome | Finish


class Notary:
    """One run's. ``witness`` has been told what took part since before it began."""

    def __init__(self, begin: Begin, witness: Witness, line: WorkersLine | None = None) -> None:
        self._witness = witness
        self._line = line
        self._files = begin.files
        self._base = Path(begin.config or "certify.yaml").absolute().parent.resolve()
        self._config: Config = load_config(Path(begin.config) if begin.config else None)
        self._sign = begin.sign
        if begin.sign:
            from certify.trust.keys import KeyStore

            KeyStore(Path(self._config.trust.keys)).signer("runner")
        self._plans = begin.plans
        self._planned = Planned(begin.plans, begin.run.targets)
        self._run = msgspec.structs.replace(begin.run, planned=self._planned.planned)
        self._bundle = Bundle.create(Path(begin.directory), self._run)
        self._checks: dict[str, Check] = {}
        self._collected: set[str] = set()
        self._doubtful: set[str] = set()
        self._failing: dict[str, Check] = {}
        self._changed: set[str] = set()
        self._measure()

    def take(self, message: Collected | Failing | Outcome) -> None:
        """Write down what was told. Raises EvidenceError when it cannot be kept."""
        if isinstance(message, Failing):
            self._failing[message.check.id] = message.check
            return
        if isinstance(message, Collected):
            self._collected |= set(message.ids)
            self._doubtful |= set(message.doubtful)
            return
        check = self._planned.named(message.check)
        self._bundle.append(check)
        if check.id in self._checks:  # what was said stands; that it was said again is told
            self._doubtful.add(check.id)
            return
        self._checks[check.id] = check

    def finish(self, message: Finish) -> Answer:
        """Give the verdicts, write the documents, seal and sign. Raises CertifyError."""
        from certify.trust.bless import seal

        self._measure()
        self._end_failing()
        for target, reason in self._unsound(message):
            found = own_check(RUN_IS_SOUND, target.id)
            self.take(Outcome(Check(id=found, target=target.id, outcome=NO_VERDICT, suite=OWN_SUITE, reason=reason)))
        head = self._bundle.head
        self._bundle.close()
        left_out = tuple(check for check, _ in self._run.planned if check not in self._collected)
        run = msgspec.structs.replace(
            self._run,
            status="finished",
            finished=timestamp(),
            targets=tuple(_as_booted(target, message.booted.get(target.id, Booted())) for target in self._run.targets),
            code=self._witness.parts(self._files.values(), self._base),
            deselected=left_out if self._run.selected else (),
            twice=tuple(sorted(self._doubtful)),
            phases=message.phases,
        )
        run = self._planned.conclude(run, self._checks.values())
        self._bundle.write_run(run)
        self._bundle.write("junit.xml", junit(run).encode())
        manifest = self._bundle.write_manifest()
        unsealed = seal(self._bundle, run, manifest, head, self._config)
        return Answer(run, self._signed(run, manifest), unsealed)

    def _unsound(self, message: Finish) -> Iterator[tuple[Target, str]]:
        """The targets nothing can be said of, and why."""
        silent = message.workers - (self._line.heard_from() if self._line and message.workers else 0)
        for target in self._run.targets:
            problems = [*message.problems, *sorted(self._changed)]
            if silent > 0:
                problems.append(f"{silent} workers did not tell what they loaded")
            how = message.booted.get(target.id, Booted())
            if how.details.get("snapshot") == FROM_CACHE and own_check(BOOTS_COLD, target.id) not in self._checks:
                problems.append("its nodes came from an earlier run's memory, and nothing booted it from the beginning")
            if problems:
                yield target, "; ".join(problems)

    def _end_failing(self) -> None:
        """What had failed and never came to its end has failed."""
        for check in [check for check in self._failing.values() if check.id not in self._checks]:
            self.take(Outcome(check))

    def _measure(self) -> None:
        """A suite whose files are not, at the beginning and at the end, those of its plan proves nothing."""
        for suite in self._run.suites:
            files = self._files.get(suite.name)
            try:
                same = files is not None and files.digest() == suite.digest
            except (CertifyError, OSError):
                same = False
            if not same:
                self._changed.add(f"the files of suite {suite.name} changed while it ran")

    def abandoned(self) -> None:
        """The run's process is gone before its end. What had failed by then has failed."""
        self._end_failing()
        if self._sign and any(check.outcome == FAILED for check in self._checks.values()):
            self.finish(Finish({}, {}, ("the run's process ended before its checks did",)))

    def _signed(self, run: Run, manifest: str) -> tuple[str, ...]:
        from certify.trust.bless import sign_certificates

        if not self._sign:
            return ()
        return tuple(str(path) for path in sign_certificates(self._bundle, run, manifest, self._config))


def _as_booted(target: Target, how: Booted) -> Target:
    """The target as the run named it at its beginning; only how it was booted is learnt later."""
    return msgspec.structs.replace(target, boot=how.boot, details=how.details)


def _messages(source: BinaryIO) -> Iterator[Message]:
    """The messages up to one that was cut in the middle, because the run's process is gone."""
    for line in source:
        if not line.endswith(b"\n"):
            return
        yield msgspec.json.decode(line, type=Message)


def serve(source: BinaryIO, sink: BinaryIO, address: str = "") -> None:
    """Take messages until the input ends. ``address``: where workers tell what they load."""
    witness = Witness(os.getppid())
    line = WorkersLine(address, witness) if address else None
    notary: Notary | None = None
    broken: CertifyError | None = None
    finished = False
    for message in _messages(source):
        try:
            if isinstance(message, Loaded):
                witness.take(message)
            elif isinstance(message, TookPart):
                witness.take(*message.code)
            elif isinstance(message, Begin):
                notary = Notary(message, witness, line)
                _answer(sink, Answer())
            elif notary is None:
                raise EvidenceError("the notary was told of a run that never began")
            elif isinstance(message, Finish):
                finished = True
                if broken is not None:
                    raise broken
                _answer(sink, notary.finish(message))
            else:
                notary.take(message)
        except CertifyError as error:
            if isinstance(message, Begin | Finish):
                _answer(sink, Answer(error=error.message, hint=error.hint, status=error.exit_code))
            else:
                broken = broken or error  # told at the end: a run whose outcomes were not kept has no verdict
    if notary is not None and not finished and broken is None:
        notary.abandoned()


def _answer(sink: BinaryIO, answer: Any) -> None:
    sink.write(msgspec.json.encode(answer) + b"\n")
    sink.flush()


def main() -> None:
    """Serve standard input. A keyboard's interrupt is for the run, whose end is told."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer, *sys.argv[1:])


if __name__ == "__main__":
    main()
