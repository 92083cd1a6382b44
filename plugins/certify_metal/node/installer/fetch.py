"""Fetches a file, or ranges of it (RFC 9110, section 14), from any web server, over connections that are kept open."""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlsplit

from .medium import WriteFailed

_TRIES = 5
_SECONDS = 30.0


class Remote:
    """One file of a web server. Safe to use from several threads; :meth:`close` it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._at = urlsplit(url)
        self._idle: list[http.client.HTTPConnection] = []

    def whole(self) -> bytes:
        """All of it. Raises OSError when the server does not answer, WriteFailed when it answers wrongly."""
        return self._tried(None, None)

    def piece(self, start: int, into: memoryview) -> None:
        """Fill ``into`` with the bytes from ``start`` on. Raises as :meth:`whole`."""
        self._tried(start, into)

    def close(self) -> None:
        """Close all connections."""
        while self._idle:
            self._idle.pop().close()

    def _tried(self, start: int | None, into: memoryview | None) -> bytes:
        for tries in range(1, _TRIES + 1):
            line = self._line()
            try:
                content = self._once(line, start, into)
            except (OSError, http.client.HTTPException) as error:
                content = None
                why: Exception = OSError(f"{self._url}: {type(error).__name__}: {error}")
            except WriteFailed:
                line.close()
                raise
            else:
                why = WriteFailed(f"{self._url}: the stream ends early, {_TRIES} times in a row")
            if content is not None:
                self._idle.append(line)
                return content
            line.close()
            if tries == _TRIES:
                raise why
            time.sleep(0.2 * 2 ** (tries - 1))
        raise AssertionError("the last try returns or raises")

    def _line(self) -> http.client.HTTPConnection:
        """One that was used before, while there is one: taking from a list is atomic."""
        try:
            return self._idle.pop()
        except IndexError:
            kind = http.client.HTTPSConnection if self._at.scheme == "https" else http.client.HTTPConnection
            return kind(self._at.hostname or "", self._at.port, timeout=_SECONDS)

    def _once(self, line: http.client.HTTPConnection, start: int | None, into: memoryview | None) -> bytes | None:
        """The content, empty where it went ``into`` the buffer; None for a stream that was cut."""
        headers = {} if into is None or start is None else {"Range": f"bytes={start}-{start + len(into) - 1}"}
        line.request("GET", f"{self._at.path}{'?' if self._at.query else ''}{self._at.query}", headers=headers)
        answer = line.getresponse()
        if answer.status >= 500:
            raise OSError(f"{self._url}: the server answers {answer.status}")
        if answer.status != (206 if headers else 200):
            why = "sends no ranges" if answer.status == 200 else "does not have it"
            raise WriteFailed(f"{self._url}: the server {why} (status {answer.status})")
        if into is None:
            return answer.read()
        if answer.length is not None and answer.length != len(into):
            raise WriteFailed(f"{self._url}: {len(into)} bytes were asked for, and {answer.length} came")
        done = 0
        while done < len(into):
            got = answer.readinto(into[done:])
            if not got:
                return None
            done += got
        if answer.read():
            raise WriteFailed(f"{self._url}: more came than the {len(into)} bytes that were asked for")
        return b""
