"""Serve the built book, to this machine only: compressed, and as below a project's address."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from tornado import web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from tools.cache import BUILD

HOST = "127.0.0.1"
HTML = BUILD / "html"


class Pages(web.StaticFileHandler):
    """Answer with a file, with the index of a folder, or with the book's own 404 page."""

    def write_error(self, status_code: int, **_: object) -> None:
        """Send the page, or the bare status in a book that has none."""
        page = Path(self.root) / "404.html"
        self.finish(page.read_text(encoding="utf-8") if page.is_file() else f"{status_code}\n")


@contextlib.contextmanager
def serve(folder: Path | str = HTML, *, prefix: str = "/") -> Iterator[str]:
    """Serve ``folder`` below ``prefix`` on a free port as long as the ``with`` block lasts.

    It yields the address of the site: ``http://127.0.0.1:41234/handbook/``.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder} is no folder; `make book` builds the book")
    (listening,) = bind_sockets(0, HOST)
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    async def answer() -> None:
        files = {"path": str(Path(folder).resolve()), "default_filename": "index.html"}
        application = web.Application(
            [(f"{prefix}(.*)", Pages, files), (prefix[:-1], web.RedirectHandler, {"url": prefix})],
            compress_response=True,
            log_function=lambda _: None,
        )
        server = HTTPServer(application)
        server.add_socket(listening)
        await ended.wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=loop.run_until_complete, args=(answer(),), daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{listening.getsockname()[1]}{prefix}"
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
