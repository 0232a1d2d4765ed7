"""How bodies come in: over raw sockets, whatever a client does with them."""

import asyncio
import gc
import hashlib
import json
import re
import socket
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from itertools import pairwise

import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from uvicorn.server import ServerState

from service.server.intake import Intake, take_body
from tests import patience
from tests.server import Server, started
from tests.service.pictures import compressed, film, png, square

FILM = film(square(1000, 1100, 20, 30))
"""Of more than a megabyte: many chunks."""

HEAD = b'--e\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
BODY = HEAD + FILM + b"\r\n--e--\r\n"


class Line:
    """A connection to a server, byte by byte."""

    def __init__(self, server: Server) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), patience.SECONDS)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, *pieces: bytes, pause: float = 0) -> None:
        for piece in pieces:
            self.socket.sendall(piece)
            time.sleep(pause)

    def answer(self) -> tuple[int, bytes]:
        """Status and content of the next answer."""
        status = int(self._file.readline().split()[1])
        length = 0
        while (line := self._file.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return status, self._file.read(length)

    def ended(self) -> bool:
        """Whether the server has closed it, with nothing more to say."""
        return self._file.read(1) == b""


def head(*lines: str, length: int | None = len(BODY)) -> bytes:
    """The head of a request with a form; `lines` are more header fields."""
    form = "Content-Type: multipart/form-data; boundary=e"
    announced = [] if length is None else [f"Content-Length: {length}"]
    fields = ["Host: x", form, *announced, *lines]
    return "\r\n".join(["POST /classify HTTP/1.1", *fields, "", ""]).encode()


def top(answer: tuple[int, bytes]) -> dict:
    """The most probable label of an answer that has to be a 200."""
    status, content = answer
    assert status == 200, content
    return json.loads(content)["predictions"][0]


@pytest.fixture(scope="module")
def expected(server) -> dict:
    answer = patience.post(f"{server.url}/classify", files={"image": FILM})
    return top((answer.status_code, answer.content))


@pytest.mark.parametrize(
    "cuts",
    [
        pytest.param([0], id="whole"),
        pytest.param(range(0, len(HEAD) + 40, 1), id="bytes"),
        pytest.param(range(0, len(BODY), 100_003), id="chunks"),
        pytest.param([0, len(BODY) - 9, len(BODY) - 5, len(BODY) - 1], id="within-the-boundary"),
    ],
)
def test_however_a_body_is_cut_it_is_read_the_same(server, expected, cuts):
    ends = [*cuts, len(BODY)]
    with Line(server) as line:
        line.send(head())
        line.send(*(BODY[start:end] for start, end in pairwise(ends)), pause=0.0005)

        assert top(line.answer()) == expected


def test_a_chunked_body_is_read_the_same(server, expected):
    pieces = [BODY[start : start + 70_000] for start in range(0, len(BODY), 70_000)]
    with Line(server) as line:
        line.send(head("Transfer-Encoding: chunked", length=None))
        line.send(*(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n")

        assert top(line.answer()) == expected


def test_who_asks_first_is_told_to_go_on(server, expected):
    with Line(server) as line:
        line.send(head("Expect: 100-continue"))
        assert line.answer() == (100, b"")
        line.send(BODY)

        assert top(line.answer()) == expected


def test_a_client_of_http_1_0_is_not_told_to_go_on(server, expected):
    asked = head("Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
    with Line(server) as line:
        line.send(asked, BODY, pause=0.2)

        assert top(line.answer()) == expected
        assert line.ended()


def test_requests_sent_ahead_are_answered_in_turn(server, expected):
    with Line(server) as line:
        line.send((head() + BODY) * 3 + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")

        assert [top(line.answer()) for _ in range(3)] == [expected] * 3
        assert line.answer()[0] == 200


def test_a_form_is_refused_at_its_first_part_and_the_connection_goes_on(server, expected):
    wrong = BODY.replace(b'name="image"', b'name="imgae"')
    with Line(server) as line:
        line.send(head(), wrong[:300])
        status, content = line.answer()
        assert (status, json.loads(content)["error"]["code"]) == (400, "bad_option")
        line.send(wrong[300:], head(), BODY)

        assert top(line.answer()) == expected


def test_a_form_is_refused_at_a_later_part_before_the_rest_has_come(server):
    late = BODY.removesuffix(b"--e--\r\n") + HEAD
    with Line(server) as line:
        line.send(head(length=len(late) + 1_000_000), late[:500_000])
        time.sleep(0.2)
        line.send(late[500_000:])

        status, content = line.answer()
        assert (status, json.loads(content)["error"]["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "framing",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Transfer-Encoding: chunked, identity",),
        ("Content-Length: +5",),
        ("Content-Length: 5 5",),
    ],
)
def test_a_body_whose_length_is_in_doubt_is_refused(server, framing):
    with Line(server) as line:
        line.send(head(*framing, length=None) + b"5\r\nhello\r\n0\r\n\r\n")

        assert line.answer()[0] == 400


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [("1.1", 0, 400), ("1.1", 1, 200), ("1.1", 2, 400), ("1.0", 0, 200), ("1.0", 2, 400)],
)
def test_a_request_names_one_host(server, version, hosts, status):
    with Line(server) as line:
        line.send(f"GET /livez HTTP/{version}\r\n".encode(), b"Host: x\r\n" * hosts, b"\r\n")

        assert line.answer()[0] == status


@pytest.mark.parametrize(
    ("target", "status"),
    [("/models", 200), ("/nowhere", 404), ("/", 200), ("", 200), ("?from=here", 200)],
)
def test_a_whole_address_is_read_as_its_path(server, target, status):
    with Line(server) as line:
        line.send(f"GET http://x:80{target} HTTP/1.1\r\nHost: x:80\r\n\r\n".encode())

        assert line.answer()[0] == status


def test_what_comes_after_the_announced_length_is_no_part_of_the_form(server, expected):
    with Line(server) as line:
        line.send(head() + BODY + b"POST /classify no HTTP\r\n\r\n")

        answers = [line.answer()]
        if answers[0][0] == 200:
            assert top(answers[0]) == expected
            answers.append(line.answer())
        assert answers[-1][0] == 400
        assert line.ended()


def test_nothing_after_a_last_request_disturbs_its_answer(server, expected):
    with Line(server) as line:
        line.send(head("Connection: close"), BODY[:9], pause=0.2)
        line.send(BODY[9:] + b"no HTTP\r\n\r\n")

        assert top(line.answer()) == expected
        assert line.ended()


def test_nothing_is_upgraded(server):
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    with Line(server) as line:
        line.send(b"GET /classify HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")

        assert line.answer()[0] == 405


OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQA")
"""What Java's client and `curl --http2` say in the head of every request."""


@pytest.mark.parametrize("pause", [0, 0.05])
def test_a_request_that_offers_another_protocol_is_read_as_one_of_this(server, expected, pause):
    form = head(*OFFER)
    with Line(server) as line:
        line.send(form[:9], form[9:], BODY[:1000], BODY[1000:] + head() + BODY, pause=pause)
        line.send(form + BODY)

        for _ in range(3):
            assert top(line.answer()) == expected


@pytest.mark.parametrize("pause", [0, 0.3])
def test_no_body_is_run_as_a_request(server, pause):
    inner = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: inner\r\n\r\n"
    with Line(server) as line:
        line.send(head(*OFFER, length=len(inner)), inner, b"GET /no HTTP/1.1\r\nHost: x\r\n\r\n")

        assert [line.answer()[0] for _ in range(2)] == [400, 404]
    told = server.log.count("Invalid HTTP")
    with Line(server) as line:
        line.send(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", inner, inner, pause=pause)

        assert line.answer()[0] == 400
        assert line.ended()
    patience.until(lambda: server.log.count("Invalid HTTP") > told)
    assert server.log.count("Invalid HTTP") == told + 1
    assert "inner" not in server.log


def test_fields_behind_a_body_are_not_read(server):
    with Line(server) as line:
        line.send(b"GET /models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        line.send(b"0\r\nX-Request-ID: behind\r\n\r\n")

        assert line.answer()[0] == 200
    patience.until(lambda: server.log.count('"/models"') > 0)
    assert "behind" not in server.log


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_who_sends_before_it_reads_sees_why_it_is_refused(server, version):
    refused = HEAD.replace(b"image", b"other") + bytes(20_000_000)
    asked = head("Connection: close", length=len(refused)).replace(b"1.1", version.encode())
    with Line(server) as line:
        line.send(asked, refused)

        status, content = line.answer()
        assert (status, json.loads(content)["error"]["code"]) == (400, "bad_option")
        assert line.ended()


@pytest.mark.parametrize(
    "start", [b"GET / HTTP/1.1\r\nX: ", b"GET /", b"GET / HTTP/1.1\r\n" + b"X: y"]
)
def test_a_head_without_end_is_refused(server, start):
    fields = b"\r\nX: y" * 200_000 if start.endswith(b"y") else b"y" * 1_400_000
    with Line(server) as line:
        line.send(start, fields)
        assert line.answer()[0] == 400
        assert line.ended()


def waiting(server: Server) -> float:
    """How many requests are here and not yet worked on."""
    metrics = patience.get(f"{server.url}/metrics").text
    return float(re.search(r"^care_waiting (\S+)", metrics, re.MULTILINE)[1])


@pytest.mark.parametrize("sent", [0, 100, 600_000])
def test_who_leaves_within_a_body_leaves_its_place(server, sent):
    with Line(server) as line:
        line.send(head(), BODY[:sent])
        patience.until(lambda: waiting(server) == 1)
    patience.until(lambda: waiting(server) == 0)

    assert "Traceback" not in server.log
    assert "internal_error" not in server.log


@pytest.mark.parametrize("path", ["/classify", "/classify_batch"])
def test_nothing_is_worked_out_for_who_has_left(models_folder, tmp_path, path):
    slow = {"files": {"image": compressed(FILM)}}
    limits = {"concurrency": 1, "decode_timeout_s": 2 * patience.SECONDS}
    with started(models_folder, tmp_path, **limits) as single:
        patience.post(f"{single.url}/classify", **slow)  # the decoder is there from now on
        with ThreadPoolExecutor(1) as pool, single.standing_still():
            busy = pool.submit(patience.post, f"{single.url}/classify", **slow)
            metrics = partial(patience.get, f"{single.url}/metrics")
            patience.until(lambda: "care_working 1.0" in metrics().text)
            with ExitStack() as clients:
                for _ in range(3):
                    line = clients.enter_context(Line(single))
                    line.send(head().replace(b"/classify", path.encode()), BODY)
                patience.until(lambda: waiting(single) == 3)
            assert not busy.done()

        left = f'care_requests_total{{key="-",route="{path}",status="499"}} 3.0'
        patience.until(lambda: left in metrics().text)
        assert busy.result().status_code == 200
        assert 'care_stage_seconds_count{stage="read"} 2.0' in metrics().text
        assert "internal_error" not in single.log


@pytest.fixture(scope="module")
def hasty(models_folder, tmp_path_factory) -> Iterator[Server]:
    """A server with little patience."""
    own = tmp_path_factory.mktemp("hasty")
    with started(models_folder, own, upload_timeout_s=1.5) as running:
        yield running


@pytest.fixture(scope="module")
def small(models_folder, tmp_path_factory) -> Iterator[Server]:
    """A server with little room; it is ended by the last test that has it."""
    own = tmp_path_factory.mktemp("small")
    with started(models_folder, own, max_upload_mb=1.5) as running:
        yield running


@pytest.mark.parametrize("sent", [0, 100, 600_000])
def test_a_body_that_stops_coming_is_given_up(hasty, sent):
    with Line(hasty) as line:
        line.send(head(), BODY[:sent])

        status, content = line.answer()
        assert (status, json.loads(content)["error"]["code"]) == (408, "too_slow")


def test_a_body_of_unknown_length_is_refused_at_the_limit(small):
    piece = b"%x\r\n%s\r\n" % (100_000, bytes(100_000))
    with Line(small) as line:
        line.send(head("Transfer-Encoding: chunked", length=None))
        line.send(b"%x\r\n%s\r\n" % (len(HEAD), HEAD), *[piece] * 15)

        status, content = line.answer()
        assert (status, json.loads(content)["error"]["code"]) == (413, "too_large")


def test_when_the_end_comes_a_body_under_way_is_answered_and_nobody_else_let_in(small, expected):
    with Line(small) as line:
        line.send(head(), BODY[:600_000])
        patience.until(lambda: waiting(small) == 1)
        small.terminate()
        patience.until(small.refuses)
        line.send(BODY[600_000:])

        assert top(line.answer()) == expected
        assert line.ended()
    assert small.ended() == 0


def test_the_server_takes_bodies_in_this_way():
    import service.api  # noqa: F401 - has to say so before uvicorn looks

    config = uvicorn.Config(lambda: None)
    config.load()

    async def connected() -> asyncio.BaseProtocol:
        given = {"config": config, "server_state": ServerState(), "app_state": {}}
        return config.http_protocol_class(**given)

    assert isinstance(asyncio.run(connected()), Intake)


class Transport(asyncio.Transport):
    """Keeps what is written, and whether reading is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.reading, self.closed = b"", True, False

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False


def connected(app: object, state: ServerState, **settings: float) -> tuple[Intake, Transport]:
    """A connection that has just been made to an app, and what it writes to."""
    config = uvicorn.Config(app, http=Intake, lifespan="off", log_config=None, **settings)
    config.load()
    protocol, transport = Intake(config=config, server_state=state, app_state={}), Transport()
    protocol.connection_made(transport)
    return protocol, transport


def read(protocol: Intake, piece: bytes) -> None:
    """What an event loop does with bytes that have come."""
    while piece:
        room = protocol.get_buffer(-1)
        part, piece = piece[: len(room)], piece[len(room) :]
        room[: len(part)] = part
        protocol.buffer_updated(len(part))


def received(pieces: list[bytes], *, refuse_at: int = 10**9, lost: bool = False) -> tuple:
    """What one request gets of its body when these are read one after another.

    Returns:
        Its chunks; how many messages it was woken for; how it ended; whether it is read on.
    """
    chunks: list[bytes] = []
    woken, ended = 0, None

    def take(memory: bytes | bytearray, size: int) -> None:
        chunks.append(bytes(memory[:size]))
        if sum(map(len, chunks)) >= refuse_at:
            raise ValueError("enough")

    async def app(scope, receive, send) -> None:
        nonlocal woken, ended

        async def counted():
            nonlocal woken
            message = await receive()
            woken += 1
            return message

        try:
            await take_body(Request(scope, counted), take)
            ended = "complete"
        except (ClientDisconnect, ValueError) as error:
            ended = type(error).__name__
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def play() -> bool:
        state = ServerState()
        protocol, transport = connected(app, state)
        for piece in pieces:
            wait_until = asyncio.get_running_loop().time() + 5
            while not transport.reading and asyncio.get_running_loop().time() < wait_until:
                await asyncio.sleep(0)
            read(protocol, piece)
            for _ in range(5):
                await asyncio.sleep(0)
        if lost:
            protocol.connection_lost(None)
        while ended is None:
            await asyncio.sleep(0)
        await asyncio.gather(*state.tasks)
        return transport.reading

    reading = asyncio.run(asyncio.wait_for(play(), 20))
    return chunks, woken, ended, reading


CHUNKS = [bytes([n]) * 200_000 for n in range(50)]
LARGE = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"


def test_a_large_body_wakes_its_request_only_when_it_begins_and_is_complete():
    chunks, woken, ended, _ = received([LARGE, *CHUNKS])

    assert b"".join(chunks) == b"".join(CHUNKS)
    assert (woken, ended) == (2, "complete")


def test_nothing_overtakes_what_came_with_the_head():
    chunks, _, ended, _ = received([LARGE + CHUNKS[0] + CHUNKS[1][:7], CHUNKS[1][7:], *CHUNKS[2:]])

    assert b"".join(chunks) == b"".join(CHUNKS)
    assert ended == "complete"


def test_who_refuses_a_chunk_is_given_no_more_and_the_rest_is_passed_over():
    chunks, woken, ended, reading = received([LARGE, *CHUNKS], refuse_at=1_000_000)

    assert len(b"".join(chunks)) == 1_000_000
    assert (woken, ended, reading) == (2, "ValueError", True)


def test_a_lost_connection_wakes_its_request():
    chunks, _, ended, _ = received([LARGE, *CHUNKS[:9]], lost=True)

    assert len(b"".join(chunks)) == 1_800_000
    assert ended == "ClientDisconnect"


def test_a_lost_connection_ends_the_request_that_others_sent_ahead_wait_behind():
    played = []

    async def app(scope, receive, send) -> None:
        played.append(scope["path"])
        assert (await receive())["type"] == "http.request"
        played.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def play() -> bytes:
        state = ServerState()
        protocol, transport = connected(app, state)
        read(protocol, b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(3)))
        await asyncio.sleep(0)
        protocol.connection_lost(ConnectionResetError())
        await asyncio.gather(*state.tasks)
        return transport.written

    assert asyncio.run(asyncio.wait_for(play(), 20)) == b""
    assert played == ["/0", "http.disconnect"]


def test_a_body_of_many_tiny_chunks_comes_in_few_pieces():
    """Each piece costs an object, many times the bytes of a tiny one."""
    opened = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    some = b"".join(b"1\r\n%c\r\n" % (n % 256) for n in range(10_000))
    chunks, _, ended, _ = received([opened, *[some] * 20, b"0\r\n\r\n"])

    assert b"".join(chunks) == bytes(n % 256 for n in range(10_000)) * 20
    assert ended == "complete"
    assert len(chunks) < 100


def test_a_request_that_reads_no_body_is_gone_when_it_is_answered():
    """Not only when Python next looks for cycles: its body may be large."""
    gone = []

    async def app(scope, receive, send) -> None:
        gone.append(weakref.ref(receive.__self__))
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body"})

    async def play() -> None:
        state = ServerState()
        for _ in range(3):
            protocol, _ = connected(app, state)
            read(protocol, LARGE + CHUNKS[0])
            await asyncio.gather(*state.tasks)
            protocol.connection_lost(None)
            await asyncio.sleep(0)

    gc.disable()
    try:
        asyncio.run(play())
        assert [one() for one in gone] == [None] * 3
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "rest", [[], CHUNKS[:20], CHUNKS, [*CHUNKS, b"\r\n"], [*CHUNKS[:49], CHUNKS[49] + b"\r\n"]]
)
def test_who_is_refused_in_mid_body_and_falls_silent_is_left(rest):
    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body"})

    async def play() -> None:
        state = ServerState()
        protocol, transport = connected(app, state, timeout_keep_alive=0.2)
        read(protocol, LARGE)
        await asyncio.gather(*state.tasks)
        for piece in rest:
            read(protocol, piece)
        while not transport.closed:
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(play(), 20))


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHo"])
def test_who_never_asks_is_left(begun):
    async def play() -> None:
        protocol, transport = connected(None, ServerState(), timeout_keep_alive=0.1)
        read(protocol, begun)
        while not transport.closed:
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(play(), 20))


def test_who_is_refused_and_goes_on_sending_is_left():
    async def play() -> bytes:
        protocol, transport = connected(None, ServerState(), timeout_keep_alive=0.2)
        read(protocol, b"no request\r\n\r\n")
        told = transport.written
        while not transport.closed:
            read(protocol, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0.02)
        assert transport.written == told
        return told

    told = asyncio.run(asyncio.wait_for(play(), 20))
    assert told.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert told.endswith(b"\r\n\r\nInvalid HTTP request received.")


def test_others_have_their_turn_while_a_body_takes_long():
    def work(memory: bytes | bytearray, size: int) -> bool:
        began = time.thread_time()
        while time.thread_time() < began + 0.02:
            pass
        return True

    async def app(scope, receive, send) -> None:
        await take_body(Request(scope, receive), lambda memory, size: time.sleep(0.02))

    async def play() -> None:
        protocol, transport = connected(app, ServerState())
        read(protocol, LARGE + CHUNKS[0])
        for _ in range(5):
            await asyncio.sleep(0)
        read(protocol, CHUNKS[1])
        assert transport.reading
        protocol._http.taker = work
        read(protocol, CHUNKS[2])
        assert not transport.reading
        await asyncio.sleep(0)
        assert transport.reading

        read(protocol, CHUNKS[3])
        transport.close()  # in the meantime
        await asyncio.sleep(0)
        assert not transport.reading
        protocol.connection_lost(None)

    asyncio.run(asyncio.wait_for(play(), 20))


@pytest.mark.parametrize("refuse", [False, True])
@pytest.mark.parametrize("after", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_what_a_request_takes_ends_where_its_body_does(refuse, after):
    """Of three requests on a connection, the last of which says so; `after` comes all the same."""
    bodies: list[bytes] = []

    async def app(scope, receive, send) -> None:
        body = bytearray()

        def take(memory: bytes | bytearray, size: int) -> None:
            body.extend(memory[:size])
            if refuse and len(body) > 3_000_000:
                raise ValueError("enough")

        with suppress(ValueError):
            await take_body(Request(scope, receive), take)
        bodies.append(bytes(body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    large = b"".join(CHUNKS)
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + after

    async def play() -> bytes:
        state = ServerState()
        protocol, transport = connected(app, state)
        begun, rest = LARGE + large[:700], large[700:]
        for piece in (begun, rest + begun, rest + last):
            read(protocol, piece)
            for _ in range(9):
                await asyncio.sleep(0)
        await asyncio.gather(*state.tasks)
        return transport.written

    written = asyncio.run(asyncio.wait_for(play(), 20))

    assert written.count(b"HTTP/1.1 200") == written.count(b"HTTP/1.1") == 3
    assert [large.startswith(body) for body in bodies] == [True] * 3
    assert [len(body) == len(large) for body in bodies] == [not refuse, not refuse, False]
    assert bodies[2] == b""


def test_a_body_is_taken_from_any_server():
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in CHUNKS]
    messages.append({"type": "http.request"})
    body = bytearray()

    async def receive():
        return messages.pop(0)

    def take(memory: bytes | bytearray, size: int) -> None:
        body.extend(memory[:size])

    asyncio.run(take_body(Request({"type": "http"}, receive), take))

    assert body == b"".join(CHUNKS)


def test_a_form_of_one_file_and_a_form_of_several_hold_the_bytes_that_were_sent(client):
    pictures = [png(square(100 + 50 * n, 120, 20, 30)) for n in range(3)]
    digests = [hashlib.sha256(picture).hexdigest() for picture in pictures]
    files = [("image", picture) for picture in pictures]

    alone = [client.post("/classify", files=[file], data={"model": "skin"}) for file in files]
    together = client.post("/classify_batch", files=files, data={"model": "skin"})

    assert [answer.json()["image"]["sha256"] for answer in alone] == digests
    assert [item["result"]["image"]["sha256"] for item in together.json()["items"]] == digests
