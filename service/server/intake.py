"""How a request's body comes in: in large pieces, taken as they are parsed.

ASGI hands a body over as messages. For each quarter of a megabyte uvicorn stops reading, copies it
four times on its way and wakes the request's task, which fetches it through every middleware. Here
the connection is read into memory that is kept at hand, of which a request may take its body as it
lies there; the task is woken when the body is complete, or has been found wanting. What a request
is and how long its body, httptools says as ever.
"""

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import httptools
import uvicorn.config
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

DIVERT = "care.divert"
"""Extension of the ASGI scope: a function that is told who takes the rest of the body."""

GONE = "care.gone"
"""Extension of the ASGI scope: a function that says whether its client has left."""

READ_AT_ONCE = 1 << 19
"""Bytes: more no longer stay in the cache of a core until they have been searched and moved."""

LONGEST_HEAD = 1 << 20
"""Bytes that may come without a head, a chunk or a message being complete."""

PATIENCE = 0.01
"""Seconds of work on one connection's bytes before others have their turn."""

SMALL = 1 << 12
"""Bytes: what comes in smaller chunks of unknown number uvicorn joins before the task is woken."""

Taker = Callable[[bytes | bytearray, int], bool]
"""Given memory and how many bytes at its beginning come next, until it says False; raises nothing.

The memory is its own only until it returns."""


class _Memory(threading.local):
    """What an event loop reads to: what is read is taken before anything else is."""

    def __init__(self) -> None:
        self.whole = bytearray(READ_AT_ONCE)
        self.view = memoryview(self.whole)


MEMORY = _Memory()


class Intake(asyncio.BufferedProtocol):
    """A connection of uvicorn's, read into memory that all connections of an event loop share.

    Args:
        before: What stands before the app that uvicorn serves.
    """

    def __init__(self, *, before: Callable[[ASGIApp], ASGIApp] | None = None, **given: Any) -> None:
        self._memory = MEMORY.whole, MEMORY.view
        self._http = Http(**given)
        if before:
            self._http.app = cast(Any, before(cast(ASGIApp, self._http.app)))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to."""
        return self._memory[1]

    def buffer_updated(self, nbytes: int) -> None:
        """So much has been read."""
        whole, view = self._memory
        began = time.thread_time()  # of work: who waits for a core has kept no one waiting
        taken = self._http.body_received(whole, nbytes)
        if taken < nbytes:
            self._http.data_received(cast(bytes, view[taken:nbytes]))  # httptools takes either
        self._http.await_more()
        if time.thread_time() - began > PATIENCE:
            self._http.give_way()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Uvicorn's, as are all below."""
        self._http.connection_made(cast(asyncio.Transport, transport))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._http.connection_lost(exc)

    def eof_received(self) -> None:  # noqa: D102
        self._http.eof_received()

    def pause_writing(self) -> None:  # noqa: D102
        self._http.pause_writing()

    def resume_writing(self) -> None:  # noqa: D102
        self._http.resume_writing()


class Http(HttpToolsProtocol):
    """uvicorn's HTTP, which a request may ask to hand over its body directly."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.taker: Taker | None = None
        self._in_head = False
        self._unfinished = 0  # bytes since something was complete
        self._cycles = weakref.WeakSet[RequestResponseCycle]()
        self._left = 0  # bytes of a body that are still to come, if that is known
        self._past_parser = False
        self._refused = False  # what came was no request: nothing more is read as one

    def _should_upgrade_to_ws(self) -> bool:
        return False  # nothing here speaks WebSocket

    def _unsupported_upgrade_warning(self) -> None:
        pass  # so there is nothing to install either

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request as for every other."""
        super().connection_made(transport)
        self.await_more()

    def data_received(self, data: bytes) -> None:
        """Parse what is no body that a request takes.

        A request that offers another protocol (`Upgrade: h2c`, as Java's client does) is read as
        one of this (RFC 9110, section 7.8). httptools ends it with its head, for it takes what
        follows for the other protocol's; its body would then be run as requests.
        """
        self._unset_keepalive_if_required()
        self._unfinished += len(data)
        rest, parsed = memoryview(data), False
        try:
            while not parsed:
                try:
                    self.parser.feed_data(rest)
                    parsed = True
                except httptools.HttpParserUpgrade as upgrade:
                    rest = rest[upgrade.args[0] :]
                    self._begin_again()
        except httptools.HttpParserError:
            self._refuse("Invalid HTTP request received.")
        else:
            if self._unfinished > LONGEST_HEAD:
                self._refuse("The request's head is too long.")

    def _begin_again(self) -> None:
        """Parse the head once more, as if it offered nothing."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":  # what follows is another protocol's in any case
            raise httptools.HttpParserError
        lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
        lines += [b"%s: %s" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = new_parser(self)
        self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))

    def _refuse(self, why: str) -> None:
        self.logger.warning(why)
        if self.cycle is not None and not self.cycle.response_complete:
            self.send_400_response(why)  # in place of what is being answered, and ends at once
            return
        self._refused = True
        fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        fields += [*self.server_state.default_headers, (b"content-length", b"%d" % len(why))]
        lines = [b"HTTP/1.1 400 Bad Request", *(b"%s: %s" % field for field in fields)]
        self.transport.write(b"\r\n".join([*lines, b"", why.encode()]))
        self._read_out()

    def on_message_begin(self) -> None:
        """Begin with its head."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a field of the head; those that follow a chunked body are not asked for."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Offer it to the request that begins."""
        self._in_head, self._unfinished = False, 0
        if self.parser.should_upgrade():
            return  # see `data_received`
        is_old = self.parser.get_http_version() == "1.0"
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts != 1 and (hosts or not is_old):
            raise httptools.HttpParserError  # RFC 9112, section 3.2
        if is_old:
            self.expect_100_continue = False  # RFC 9110, section 10.1.1
        if not self.url.startswith(b"/"):  # a whole address, RFC 9110, section 4.2.3
            address = httptools.parse_url(self.url)
            if not address.path:
                self.url = b"/?" + (address.query or b"")
        self.taker, self._left = None, 0
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:
            self._cycles.add(self.cycle)
            self.cycle.transport = cast(Any, Ending(self))
            # To be sure of: httptools refuses other lengths than digits, two, and one with chunks.
            self._left = int(dict(self.headers).get(b"content-length", 0))
            extensions = cast(dict[str, Any], self.scope).setdefault("extensions", {})
            cycle = weakref.ref(self.cycle)
            extensions[DIVERT] = partial(_divert, weakref.ref(self), cycle)
            extensions[GONE] = partial(_gone, cycle)

    def body_received(self, memory: bytearray, size: int) -> int:
        """Hand over, past the parser, what of a read belongs to a body that a request takes.

        From then on the parser knows nothing of the rest of it, whether it is taken or not, and
        another one waits for the next request, if the connection shall see one.

        Returns:
            How many bytes at its beginning are done with.
        """
        if self._refused:
            return size
        if not self._past_parser and not (self.taker and self._left):
            return 0
        self._past_parser = True
        self._unset_keepalive_if_required()
        if part := min(size, self._left):
            self._left -= part
            self._hand_over(memory, part)
            if not self._left:
                self.on_message_complete()
                if self.cycle.response_complete and not self.cycle.keep_alive:
                    self.transport.close()  # see `end`
        if self._left or not self.cycle.keep_alive:
            return size
        self._past_parser = False
        self.parser = new_parser(self)
        return part

    def on_body(self, body: bytes) -> None:
        """Hand a chunk over, or leave it to uvicorn."""
        self._unfinished = 0
        self._left = max(0, self._left - len(body))
        if len(body) < SMALL or not self._hand_over(body, len(body)):
            self.taker = None
            super().on_body(body)

    def _hand_over(self, memory: bytes | bytearray, size: int) -> bool:
        """Whether a body has a taker, which then has had this piece."""
        if self.taker is None or self.cycle.response_complete:
            return False
        if not self.taker(memory, size):
            self.taker = None
            self.cycle.message_event.set()
        return True

    def on_message_complete(self) -> None:
        """Let go of what was given."""
        self._unfinished = 0
        if self.parser.should_upgrade():
            return  # see `data_received`
        self.taker, self._left = None, 0
        super().on_message_complete()

    def end(self) -> None:
        """Close the connection, with what a client still sends read first."""
        if not self.cycle.more_body:
            self.transport.close()
            return
        self._past_parser = True
        self._read_out()

    def _read_out(self) -> None:
        """Say no more, but read on until the client has ended or time is up (`await_more`).

        Else the system would reset the connection, and whoever sends before it reads would never
        see why it was refused (RFC 9112, section 9.6).
        """
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def give_way(self) -> None:
        """Let others have their turn: libuv reads on, up to 32 times, while there is something."""
        if not self.flow.read_paused and not self.transport.is_closing():
            self.flow.pause_reading()
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def await_more(self) -> None:
        """Wait for a request, or the rest of one that is answered, but not for ever.

        uvicorn's clock is stopped by what comes after an answer, whatever it is.
        """
        answered = self.cycle is None or (self.cycle.response_complete and not self.pipeline)
        if answered and not self.timeout_keep_alive_task and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every request that its client is gone."""
        super().connection_lost(exc)
        # uvicorn tells the last one; the one that is answered may have others behind it
        for cycle in self._cycles:
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()


class Ending:
    """What a request writes its answer to; it leaves to its connection how that ends."""

    def __init__(self, connection: Http) -> None:
        self._connection = weakref.ref(connection)
        self._transport = connection.transport
        self.write, self.is_closing = self._transport.write, self._transport.is_closing

    def close(self) -> None:
        """End the connection, as no other answer can follow."""
        http = self._connection()
        if http and http.cycle.transport is self and http.cycle.response_complete:
            http.end()
        else:  # in mid-answer, or a later request is on its way already
            self._transport.close()


def new_parser(connection: Http) -> httptools.HttpRequestParser:
    """A parser as lenient as uvicorn's."""
    parser = httptools.HttpRequestParser(connection)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _divert(
    connection: weakref.ref[Http],
    request: weakref.ref[RequestResponseCycle],
    take: Taker | None,
) -> None:
    """Let `take` have what comes of a request's body from now on; None ends that."""
    http, cycle = connection(), request()
    # A later request may be on its way already, and nothing may overtake what still waits.
    if http and cycle and cycle is http.cycle and not (take and cycle.body):
        http.taker = take


def _gone(request: weakref.ref[RequestResponseCycle]) -> bool:
    cycle = request()
    return cycle is None or cycle.disconnected


def check_present(request: Request) -> None:
    """See that a request's client still waits for the answer. May be called in any thread.

    Raises:
        ClientDisconnect: It has gone, as far as the server tells.
    """
    gone = request.scope.get("extensions", {}).get(GONE)
    if gone and gone():
        raise ClientDisconnect


async def take_body(request: Request, take: Callable[[bytes | bytearray, int], object]) -> None:
    """Give a request's body to `take`, piece by piece, whatever server it comes from.

    Args:
        request: Nothing of whose body has been read.
        take: Given memory and how many bytes at its beginning come next; it may not keep it.

    Raises:
        ClientDisconnect: It ends before it is complete.
        Exception: Whatever `take` raises; it is given no more then.
    """
    divert = request.scope.get("extensions", {}).pop(DIVERT, None)
    failures: list[Exception] = []

    def taker(memory: bytes | bytearray, size: int) -> bool:
        try:
            take(memory, size)
        except Exception as failure:
            failures.append(failure)
        return not failures

    try:
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body = message.get("body", b"")
            if failures or not taker(body, len(body)):
                raise failures[0]
            if not message.get("more_body", False):
                return
            if divert:
                divert(taker)
    finally:
        failures.clear()  # or the failure, through its traceback, would keep the body and itself
        if divert:
            divert(None)


def use_intake(before: Callable[[ASGIApp], ASGIApp]) -> None:
    """Let uvicorn take it where it would choose by itself. To be called before it starts.

    Args:
        before: As `Intake` has it.
    """
    protocols = cast(dict[str, Any], uvicorn.config.HTTP_PROTOCOLS)
    protocols["auto"] = partial(Intake, before=before)
