"""Under a path prefix, behind a reverse proxy: paths are as they are without one."""

from collections.abc import Callable

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Prefix:
    """Takes the prefix off the paths of requests whose proxy has passed it on.

    Stands before everything, so that BentoML's health checks answer under the prefix too.

    Args:
        app: What answers.
        prefix: Says what the prefix is, "" for none.
    """

    def __init__(self, app: ASGIApp, prefix: Callable[[], str]) -> None:
        self.app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        prefix = self._prefix() if scope["type"] == "http" else ""
        if prefix and scope["path"] == prefix:
            query = scope["query_string"].decode("latin-1")
            home = f"{prefix}/?{query}" if query else f"{prefix}/"
            await RedirectResponse(home)(scope, receive, send)
            return
        if prefix and scope["path"].startswith(f"{prefix}/"):
            scope = {
                **scope,
                "path": scope["path"].removeprefix(prefix),
                "raw_path": scope["raw_path"].removeprefix(prefix.encode()),
            }
        await self.app(scope, receive, send)
