"""How the service ends: what is under way is finished, and whoever comes anew is refused at once.

uvicorn closes its own copy of the socket that listens. BentoML's supervisor holds another, through
which the system would go on to accept connections that nobody answers, and which would be reset
once the last request is done. Only a socket that is shut down refuses them, whoever holds it; a
worker that comes after, should one have ended alone, listens to it anew.
"""

import socket
from contextlib import suppress

import uvicorn


def refuse_when_ending() -> None:
    """Let uvicorn shut its sockets before it finishes what is under way."""
    finish = uvicorn.Server.shutdown

    async def shutdown(self: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        for listening in sockets or []:
            with suppress(OSError):  # systems that cannot, such as macOS
                listening.shutdown(socket.SHUT_RDWR)
        await finish(self, sockets)

    uvicorn.Server.shutdown = shutdown  # type: ignore[method-assign]
