"""Clients that ask all at once and look at every answer."""

import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

from tests.soak.questions import Question, comparable

TIMEOUT = 120
"""Seconds after which no answer is none."""


@dataclass
class Tally:
    """What came back.

    Attributes:
        asked: How many requests have their answer, or need none.
        seconds: How long each answer took, by call.
        outcomes: How often each status and error code came.
        retries: How often a client was told to come back later, and did.
        wrong: What is wrong with each answer that is.
    """

    asked: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    outcomes: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    retries: int = 0
    wrong: list[str] = field(default_factory=list)


def ask_all(url: str, questions: Iterator[Question], count: int, clients: int) -> Iterator[Tally]:
    """Ask so many questions with so many clients; the tally so far, every half second."""
    tally, lock = Tally(), threading.Lock()
    left = itertools.islice(questions, count)

    def client() -> None:
        line = HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT)
        while True:
            with lock:
                question = next(left, None)
            if question is None:
                line.close()
                return
            ask(line, question, tally, lock)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        yield tally
        time.sleep(0.5)
    yield tally


def ask(line: HTTPConnection, question: Question, tally: Tally, lock: threading.Lock) -> None:
    """Ask one question, again if the service says so, and note what became of it."""
    if question.manner != "ask":
        leave(line, question)
        with lock:
            tally.asked += 1
            tally.outcomes[question.call, 0, question.manner] += 1
        return
    while True:
        start = time.monotonic()
        try:
            status, headers, body = send(line, question)
        except (OSError, HTTPException) as error:
            line.close()
            status, headers, body = 0, {}, repr(error).encode()
        seconds = time.monotonic() - start
        if status != 503 or "Retry-After" not in headers:
            break
        with lock:
            tally.retries += 1
        time.sleep(int(headers["Retry-After"]))
    code, problem = judged(question, status, headers, body)
    with lock:
        tally.asked += 1
        tally.seconds.setdefault(question.call, []).append(seconds)
        tally.outcomes[question.call, status, code] += 1
        if problem:
            tally.wrong.append(f"{question.call}: {problem}")


def send(line: HTTPConnection, question: Question) -> tuple[int, dict[str, str], bytes]:
    """The answer to one request, on a connection that is kept."""
    headers = {"Content-Type": question.kind} if question.kind else {}
    line.request(question.method, question.path, question.body or None, headers)
    answer = line.getresponse()
    return answer.status, dict(answer.headers), answer.read()


def leave(line: HTTPConnection, question: Question) -> None:
    """Ask, and hang up while still sending, or before the answer comes."""
    head = (
        f"{question.method} {question.path} HTTP/1.1\r\nHost: care\r\n"
        f"Content-Type: {question.kind}\r\nContent-Length: {len(question.body)}\r\n\r\n"
    ).encode()
    body = question.body
    if question.manner == "leave midway":
        body = body[: len(body) // 2]
    with socket.create_connection((line.host, line.port), TIMEOUT) as own:
        own.sendall(head + body)


def judged(
    question: Question, status: int, headers: dict[str, str], body: bytes
) -> tuple[str, str]:
    """The error code of an answer, and what is wrong with the answer; both may be empty."""
    headers = {name.lower(): value for name, value in headers.items()}
    kind = headers.get("content-type", "")
    found = comparable(kind, body) if status else body
    code = found["error"]["code"] if isinstance(found, dict) and "error" in found else ""
    if (status, code) != (question.status, question.code):
        expected = f"{question.status} {question.code}"
        return code, f"{status} {code}, expected {expected}: {body[:200]!r}"
    if question.answer is not None and found != question.answer:
        return code, "another answer than expected"
    return code, ""
