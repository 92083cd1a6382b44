"""The notary: a process beside a run that takes down its outcomes, gives the verdict and signs.

Started as ``python -m certify.trust.notary``.

It never imports a suite, a conftest or pytest: what they do in their process cannot reach the runner key's use, nor take
back what was told. Messages are lines of JSON: on standard input ``begin``, then ``collected`` and ``outcome`` as they come,
then ``finish``; ``begin`` and ``finish`` are answered on standard output. A run whose process died stays unfinished, with the
outcomes it had; only where it was to be signed and had failed already it is certified as failed: ending it hides nothing.

The verdict is of the *plans* given at the beginning, before any suite was imported (:class:`certify.evidence.run.Planned`).
"""

from __future__ import annotations

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
from certify.nodes.platform import FROM_CACHE


class Begin(Struct, frozen=True, tag="begin"):
    """What is known before anything is collected. ``config`` is certify.yaml's path, if one was named."""

    directory: str
    run: Run
    plans: tuple[SuitePlan, ...]
    sign: bool
    config: str | None = None


class Collected(Struct, frozen=True, tag="collected"):
    """Ids that a process of the run has collected, and those among them that are in doubt: twice, or not their suite's."""

    ids: tuple[str, ...]
    doubtful: tuple[str, ...] = ()


class Outcome(Struct, frozen=True, tag="outcome"):
    """One check's outcome."""

    check: Check


class Booted(Struct, frozen=True):
    """How one target was booted: cold or restored, and the driver's own words."""

    boot: str = "none"
    details: dict[str, Any] = {}


class Finish(Struct, frozen=True, tag="finish"):
    """The end. ``booted`` says by target how it was booted; ``problems`` are reasons for which nothing can be said of any."""

    booted: dict[str, Booted]
    code: tuple[Part, ...]
    phases: dict[str, float]
    problems: tuple[str, ...] = ()


class Answer(Struct, frozen=True):
    """``error`` (with ``hint`` and ``status``) when it could not be done, else the run and what was signed."""

    run: Run | None = None
    signed: tuple[str, ...] = ()
    unsealed: str = ""
    error: str = ""
    hint: str = ""
    status: int = 2


Message = Begin | Collected | Outcome | Finish


class Notary:
    """One run's."""

    def __init__(self, begin: Begin) -> None:
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

    def take(self, message: Collected | Outcome) -> None:
        """Write down what was told. Raises EvidenceError when it cannot be kept."""
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
            code=message.code,
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
        for target in self._run.targets:
            problems = list(message.problems)
            how = message.booted.get(target.id, Booted())
            if how.details.get("snapshot") == FROM_CACHE and own_check(BOOTS_COLD, target.id) not in self._checks:
                problems.append("its nodes came from an earlier run's memory, and nothing booted it from the beginning")
            if problems:
                yield target, "; ".join(problems)

    def abandoned(self) -> None:
        """The run's process is gone before its end. What had failed by then has failed."""
        if self._sign and any(check.outcome == FAILED for check in self._checks.values()):
            self.finish(Finish({}, (), {}, ("the run's process ended before its checks did",)))

    def _signed(self, run: Run, manifest: str) -> tuple[str, ...]:
        from certify.trust.bless import sign_certificates

        if not self._sign:
            return ()
        return tuple(str(path) for path in sign_certificates(self._bundle, run, manifest, self._config))


def _as_booted(target: Target, how: Booted) -> Target:
    """The target as the run named it at its beginning; only how it was booted is learnt later."""
    return msgspec.structs.replace(target, boot=how.boot, details=how.details)


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Take messages until the input ends."""
    notary: Notary | None = None
    broken: CertifyError | None = None
    finished = False
    for line in source:
        message = msgspec.json.decode(line, type=Message)
        try:
            if isinstance(message, Begin):
                notary = Notary(message)
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
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
