"""What a worker's process runs: `python -m service.batch.worker DESCRIPTOR`.

First comes what makes the work, then tasks; see workers.py.
"""

import os
import select
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

from imaging.expendable import SPARE_SECONDS, expect_the_worst


def main() -> None:
    """Work until nobody is left to work for."""
    expect_the_worst()
    descriptor = int(sys.argv[1])
    threading.Thread(target=_leave_with_parent, args=(descriptor,), daemon=True).start()
    connection = Connection(descriptor)
    try:
        work = connection.recv()(lambda question: _ask(connection, question))
        connection.send(("ready", None))
        # Decoders complain on stderr, in words of their own choice; no log wants them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        while True:
            seconds, task = connection.recv()
            # Where a decoder keeps the interpreter for itself, no thread of ours would notice.
            signal.setitimer(signal.ITIMER_REAL, seconds + SPARE_SECONDS)
            connection.send(("done", work(task)))
            signal.setitimer(signal.ITIMER_REAL, 0)
    except (EOFError, ConnectionError):
        return
    except Exception as error:
        connection.send(("failed", portable(error)))


def _ask(connection: Connection, question: Any) -> Any:
    connection.send(("ask", question))
    return connection.recv()


def _leave_with_parent(descriptor: int) -> None:
    """End this process when the other end of its pipe is gone; else it would work for nobody."""
    poll = select.poll()
    poll.register(descriptor, 0)  # hanging up is reported unasked
    poll.poll()
    os._exit(1)


def portable(error: Exception) -> Exception:
    """An error as it can be sent to another process: with its traceback in words."""
    import pickle

    where = "".join(traceback.format_tb(error.__traceback__))
    try:
        sent = pickle.loads(pickle.dumps(error))
    except Exception:
        sent = RuntimeError(type(error).__name__)
    sent.add_note(f"in a worker:\n{where}")
    return sent


if __name__ == "__main__":
    main()
