"""HTTP requests to an exchange, within bounds that hold for every library that asks.

An answer has a largest size, however well it is packed; a redirect leads to no other host and never out of
TLS; and once an exchange has said when it wants to be asked again (``Retry-After``), it is not asked before.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import override

import aiohttp
from yarl import URL

#: Bytes of an answer, unpacked. The longest lists of symbols known, BINANCE's, have about 15 MiB.
LARGEST_ANSWER = 32 * 2**20
#: Seconds for one answer as a whole, however slowly it trickles in.
SLOWEST_ANSWER = 60.0
#: Seconds that an exchange may make us wait; a longer ban is asked about again after these.
LONGEST_WAIT = 3600.0

REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 5
_TLS = ("https", "wss")


class AnswerError(aiohttp.ClientError):
    """An answer is not taken; the message says which and why."""


class RateLimitedError(aiohttp.ClientError):
    """The exchange wants not to be asked for ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def retry_after(error: BaseException | None) -> float:
    """Return the seconds that the exchange wants us to wait, by an error or what caused it; else 0."""
    while error is not None:
        if isinstance(error, RateLimitedError):
            return error.retry_after
        error = error.__cause__ or error.__context__
    return 0.0


class RateLimits:
    """Remembers until when which host wants not to be asked."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # by time.monotonic()

    def check(self, url: URL) -> None:
        """Raise RateLimitedError while the host of ``url`` wants not to be asked."""
        left = self._until.get(url.authority, 0.0) - time.monotonic()
        if left > 0:
            raise RateLimitedError(f"{url.host} wants no requests for {left:.0f} s", left)

    def note(self, url: URL, status: int, headers: Mapping[str, str]) -> None:
        """Raise RateLimitedError if an answer refuses for a time, and remember that time."""
        told = headers.get("Retry-After")
        if status < 400 or not told or not (wait := min(_seconds(told), LONGEST_WAIT)):
            return
        self._until[url.authority] = time.monotonic() + wait
        raise RateLimitedError(f"{url.host} answers {status}; retry in {wait:.0f} s", wait)


def _seconds(told: str) -> float:
    """Read Retry-After (RFC 9110, 10.2.3): seconds or a date; 0 where it is neither."""
    if told.isascii() and told.isdecimal():
        return float(told[:9])
    try:
        date = parsedate_to_datetime(told)
    except ValueError:
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def redirected(url: URL, location: str) -> URL:
    """Return where a redirect leads. Raises AnswerError if that is another host, or outside of TLS."""
    try:
        target = url.join(URL(location))
    except ValueError:
        raise AnswerError(
            f"{shown(url)}: redirects to something that is not an address; not followed"
        ) from None
    if target.host != url.host:
        raise AnswerError(f"{shown(url)}: redirects to another host, {target.host}; not followed")
    if url.scheme in _TLS and target.scheme not in _TLS:
        raise AnswerError(f"{shown(url)}: redirects to {target.scheme}, without TLS; not followed")
    return target


def too_large(url: URL) -> AnswerError:
    """Return what to raise where an answer is larger than LARGEST_ANSWER."""
    return AnswerError(f"{shown(url)}: the answer has more than {LARGEST_ANSWER // 2**20} MiB; rejected")


def shown(url: URL) -> str:
    """Return an address without its query, which may hold a key."""
    return f"{url.scheme}://{url.authority}{url.path}"


class BoundedResponse(aiohttp.ClientResponse):
    """aiohttp's answer, read up to LARGEST_ANSWER."""

    @override
    async def read(self) -> bytes:
        if self._body is None:
            try:
                self._body = await self._bounded()
            except BaseException:
                self.close()
                raise
        return await super().read()

    async def _bounded(self) -> bytes:
        body = bytearray()
        async for chunk in self.content.iter_any():
            body += chunk
            if len(body) > LARGEST_ANSWER:
                raise too_large(self.url)
        return bytes(body)


def within(limits: RateLimits) -> aiohttp.ClientMiddlewareType:
    """Return what makes a session of aiohttp's keep to ``limits``, and to the rule of redirects."""

    async def send(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        limits.check(request.url)
        answer = await handler(request)
        try:
            limits.note(request.url, answer.status, answer.headers)
            if answer.status in REDIRECTS and (location := answer.headers.get("Location")):
                redirected(request.url, location)
        except aiohttp.ClientError:
            answer.close()
            raise
        return answer

    return send
