"""Serve the built book on this machine the way a static host does.

Text is compressed with gzip, every file has its type, an ``ETag`` and a ``Cache-Control``, a
folder answers with its ``index.html``, and what is missing is answered by ``404.html``. The
server listens on the loopback interface only. ``make serve`` and the browser tests use it, so
that what is measured is what a reader of the published book gets.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import sys
import threading
from collections.abc import Iterator
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from tools.cache import BUILD

HOST = "127.0.0.1"
HTML = BUILD / "html"

# The operating system's own table of types differs between machines, so this one is ours.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".ipynb": "application/x-ipynb+json; charset=utf-8",
    ".webmanifest": "application/manifest+json; charset=utf-8",
    ".xml": "application/xml; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".map": "application/json; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".ico": "image/x-icon",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".pdf": "application/pdf",
}
COMPRESSED_LEAST = 256  # bytes; a shorter text grows when it is compressed


class Answer(NamedTuple):
    """One file as it is sent: its bytes, plain and compressed, and what names this version."""

    body: bytes
    compressed: bytes | None
    etag: str
    modified: float
    content_type: str


@lru_cache(maxsize=1024)
def _answer(path: Path, modified: float, _size: int) -> Answer:
    """Read and compress a file once; a changed file has another time or size."""
    body = path.read_bytes()
    content_type = TYPES.get(path.suffix.lower(), "application/octet-stream")
    is_text = "charset" in content_type or content_type == "application/wasm"
    # A fixed time inside the archive keeps its bytes the same on each run.
    small = gzip.compress(body, 6, mtime=0) if is_text and len(body) >= COMPRESSED_LEAST else None
    return Answer(body, small, hashlib.sha256(body).hexdigest()[:20], modified, content_type)


def answer(path: Path) -> Answer:
    """Return the file at ``path`` as it is sent.

    Raises:
        OSError: the file cannot be read.
    """
    state = path.stat()
    return _answer(path, state.st_mtime, state.st_size)


def found(folder: Path, url_path: str) -> Path | None:
    """Return the file below ``folder`` that a path of an address names, or None.

    Nothing outside ``folder`` is ever found, whatever dots, escapes or links the path holds.
    """
    try:
        path = (folder / unquote(url_path, errors="strict").lstrip("/")).resolve()
        if path.is_dir():
            path /= "index.html"
        is_ours = path.is_file() and path.is_relative_to(folder.resolve())
    except (OSError, ValueError):  # a null byte, a name that is too long, not UTF-8
        return None
    return path if is_ours else None


class Handler(BaseHTTPRequestHandler):
    """Answer GET and HEAD from one folder."""

    protocol_version = "HTTP/1.1"  # connections stay open, as with a real host
    server_version = "handbook"
    sys_version = ""
    # Without this a reply of two small packets waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    timeout = 60

    def __init__(self, *arguments, folder: Path, prefix: str, quiet: bool) -> None:
        """Remember the folder, and the path below which it stands."""
        self.folder, self.prefix, self.quiet = folder, prefix, quiet
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Send a file with its body."""
        self._reply(with_body=True)

    def do_HEAD(self) -> None:
        """Send only what would stand before the body."""
        self._reply(with_body=False)

    def _reply(self, *, with_body: bool) -> None:
        # Not self.path as it is: it may hold a query, or a whole address.
        wanted = urlsplit(self.path).path
        if wanted == self.prefix.rstrip("/") or (
            wanted.startswith(self.prefix) and not wanted.endswith("/") and self._is_folder(wanted)
        ):
            # Relative links of an index page need the slash. One leading slash, or
            # `//name` would lead to another host.
            self._redirect("/" + quote(unquote(wanted)).strip("/") + "/")
            return
        inside = wanted.removeprefix(self.prefix) if wanted.startswith(self.prefix) else None
        path = None if inside is None else found(self.folder, inside)
        if path is not None:
            self._send(HTTPStatus.OK, answer(path), with_body=with_body)
        elif (missing := self.folder / "404.html").is_file():
            self._send(HTTPStatus.NOT_FOUND, answer(missing), with_body=with_body)
        else:
            plain = Answer(b"404 Not Found\n", None, "", 0.0, TYPES[".txt"])
            self._send(HTTPStatus.NOT_FOUND, plain, with_body=with_body)

    def _is_folder(self, wanted: str) -> bool:
        path = found(self.folder, wanted.removeprefix(self.prefix))
        return path is not None and not unquote(wanted).endswith(f"/{path.name}")

    def _redirect(self, where: str) -> None:
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, status: HTTPStatus, file: Answer, *, with_body: bool) -> None:
        packed = file.compressed is not None and "gzip" in self.headers.get("Accept-Encoding", "")
        # A compressed file is another representation and needs another tag.
        tag = f'"{file.etag}-gzip"' if packed else f'"{file.etag}"'
        body = file.compressed if packed else file.body
        if status is HTTPStatus.OK and tag in self.headers.get("If-None-Match", ""):
            status, body, with_body = HTTPStatus.NOT_MODIFIED, b"", False
        self.send_response(status)
        if status is not HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", file.content_type)
            self.send_header("Content-Length", str(len(body)))
        if packed:
            self.send_header("Content-Encoding", "gzip")
        if file.compressed is not None:
            self.send_header("Vary", "Accept-Encoding")
        if file.etag:
            self.send_header("ETag", tag)
            self.send_header("Last-Modified", formatdate(file.modified, usegmt=True))
        # A page is asked for anew each time and answered by 304 when it is the same. What a
        # page loads has a hash of its content in its address, so it may be kept.
        is_page = file.content_type == TYPES[".html"] or status is HTTPStatus.NOT_FOUND
        self.send_header("Cache-Control", "no-cache" if is_page else "max-age=600")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *arguments) -> None:
        """Log a request unless the server was asked to be quiet."""
        if not self.quiet:
            super().log_message(*arguments)


class Server(ThreadingHTTPServer):
    """A server whose open connections do not keep the program from ending."""

    daemon_threads = True
    request_queue_size = 128  # a browser opens many connections at once

    def handle_error(self, *arguments) -> None:
        """Pass over a browser that closed its connection early; that is no fault."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(*arguments)


@contextlib.contextmanager
def serve(
    folder: Path | str = HTML, port: int = 0, *, prefix: str = "/", quiet: bool = True
) -> Iterator[str]:
    """Serve ``folder`` as long as the ``with`` block lasts, and give its address.

    Args:
        folder: the root of the site, such as ``_build/html``.
        port: where to listen; 0 takes any free port.
        prefix: the path below which the site stands, such as ``/handbook/``, because a
            project's pages seldom stand at the root of their host.
        quiet: whether to print no line for each request.

    Yields:
        The address of the site, ending in ``prefix``: ``http://127.0.0.1:41234/``.

    Raises:
        FileNotFoundError: ``folder`` is not there or is no folder.
        ValueError: ``prefix`` does not begin and end with a slash.
        OSError: the port is taken.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; `make book` builds the book")
    if not (prefix.startswith("/") and prefix.endswith("/")):
        raise ValueError(f"prefix must begin and end with a slash, got {prefix!r}")
    handler = partial(Handler, folder=folder, prefix=prefix, quiet=quiet)
    server = Server((HOST, port), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main(arguments: list[str] | None = None) -> int:
    """Serve the book until the program is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tools.serve", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=HTML, help="default: _build/html")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free port")
    parser.add_argument("--prefix", default="/", help="path below which the book stands")
    options = parser.parse_args(arguments)
    try:
        with serve(options.folder, options.port, prefix=options.prefix) as address:
            print(f"{address} (stop with Ctrl+C)", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print()
    except (OSError, ValueError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
