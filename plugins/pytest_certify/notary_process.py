"""The notary's process, as the run's process sees it (:mod:`certify.trust.notary`)."""

from __future__ import annotations

import subprocess

import msgspec

from certify.errors import CertifyError, EvidenceError
from certify.processes import clean_environment, own_python
from certify.trust.notary import Answer, Message
from certify.trust.workers import new_address


class NotaryProcess:
    """Started before anything of the project is loaded. What was told it cannot be taken back."""

    def __init__(self, *, workers: bool = False) -> None:
        """``workers``: the run will have some, who tell it what they load by :attr:`address`."""
        self.address = new_address() if workers else ""
        self._process = subprocess.Popen(
            own_python("certify.trust.notary", *filter(None, [self.address])),
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def tell(self, message: Message) -> None:
        """Send a message. Raises EvidenceError when the notary is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(message) + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._gone() from None

    def ask(self, message: Message) -> Answer:
        """Send a message and wait for its answer. Raises EvidenceError, or what the notary says is wrong."""
        assert self._process.stdout is not None
        self.tell(message)
        line = self._process.stdout.readline()
        if not line:
            raise self._gone()
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error:
            error = (EvidenceError if answer.status == EvidenceError.exit_code else CertifyError)(
                answer.error, answer.hint
            )
            error.exit_code = answer.status
            raise error
        return answer

    def close(self) -> None:
        """Let it end, and wait until it has."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue  # it is gone already, and with it what was not read
        self._process.wait()

    def _gone(self) -> EvidenceError:
        assert self._process.stderr is not None
        said = self._process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        return EvidenceError(
            f"the process that keeps the evidence has ended: {said[-1] if said else 'no reason given'}"
        )
