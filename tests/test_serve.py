"""The local server answers as a static host does, and gives nothing away but its folder."""

from __future__ import annotations

import gzip
import http.client
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from tools.serve import HOST, serve

LONG = "<!doctype html><title>Page</title>" + "a sentence. " * 200


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    (folder / "below").mkdir(parents=True)
    (folder / "index.html").write_text(LONG)
    (folder / "below/index.html").write_text("below")
    (folder / "404.html").write_text("lost")
    (tmp_path / "secret.txt").write_text("secret")
    with serve(folder, prefix="/handbook/") as address:
        assert address.startswith(f"http://{HOST}:")
        yield address


def ask(address, path, **headers):
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)) as connection:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()


def test_a_page_is_compressed(site):
    status, headers, body = ask(site, "/handbook/", **{"Accept-Encoding": "br, gzip"})
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert len(body) < len(LONG) / 4
    assert gzip.decompress(body).decode() == LONG


@pytest.mark.parametrize(
    ("path", "status", "where"),
    [("/handbook", 301, "/handbook/"), ("/handbook/below", 301, "/handbook/below/"),
     ("/handbook/below/", 200, None), ("/handbook/gone", 404, None),
     ("/handbook/../../secret.txt", 403, None),
     ("/handbook/%2e%2e/secret.txt", 403, None),
     ("/handbook//etc/passwd", 403, None)],
)  # fmt: skip
def test_folders_missing_pages_and_what_lies_outside(site, path, status, where):
    got, headers, body = ask(site, path)
    assert (got, headers["Location"]) == (status, where)
    assert body == {200: b"below", 301: b"", 403: b"lost", 404: b"lost"}[status]
