"""The local server: it answers as a static host does, and gives nothing away but its folder."""

from __future__ import annotations

import gzip
import http.client
import socket
from urllib.parse import urlsplit

import pytest

from tools.serve import TYPES, found, main, serve

LONG = "<!doctype html><title>Page</title>" + "a sentence. " * 200


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    (folder / "below").mkdir(parents=True)
    (folder / "index.html").write_text(LONG)
    (folder / "below" / "index.html").write_text("below")
    (folder / "a name.css").write_text("b {}" * 100)
    (folder / "font.woff2").write_bytes(bytes(1000))
    (folder / "404.html").write_text("lost")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


def ask(address, path, method="GET", **headers):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=5)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=named)
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply, body


def test_text_is_compressed_for_who_asks(site):
    with serve(site) as address:
        reply, body = ask(address, "/", Accept_Encoding="br, gzip")
        assert reply.status == 200
        assert reply.headers["Content-Encoding"] == "gzip"
        assert reply.headers["Vary"] == "Accept-Encoding"
        assert len(body) < len(LONG) / 4
        assert gzip.decompress(body).decode() == LONG
        reply, body = ask(address, "/index.html")
        assert reply.headers["Content-Encoding"] is None
        assert body.decode() == LONG


def test_fonts_are_not_compressed_again(site):
    with serve(site) as address:
        reply, body = ask(address, "/font.woff2", Accept_Encoding="gzip")
    assert (reply.headers["Content-Encoding"], len(body)) == (None, 1000)
    assert reply.headers["Content-Type"] == "font/woff2"
    assert reply.headers["Cache-Control"] == "max-age=600"


def test_an_unchanged_page_is_not_sent_again(site):
    with serve(site) as address:
        first, _ = ask(address, "/", Accept_Encoding="gzip")
        tag = first.headers["ETag"]
        again, body = ask(address, "/", Accept_Encoding="gzip", If_None_Match=tag)
        assert (again.status, body) == (304, b"")
        plain, _ = ask(address, "/", If_None_Match=tag)
        assert plain.status == 200
        (site / "index.html").write_text(LONG + "more")
        changed, _ = ask(address, "/", Accept_Encoding="gzip", If_None_Match=tag)
        assert changed.status == 200
    assert first.headers["Cache-Control"] == "no-cache"


def test_a_missing_page_is_answered_by_the_books_own(site):
    with serve(site) as address:
        reply, body = ask(address, "/nothing/here.html")
        assert (reply.status, body) == (404, b"lost")
        (site / "404.html").unlink()
        reply, body = ask(address, "/nothing/here.html")
        assert (reply.status, body) == (404, b"404 Not Found\n")


def test_names_with_spaces_and_queries(site):
    with serve(site) as address:
        reply, body = ask(address, "/a%20name.css?digest=1")
    assert (reply.status, body) == (200, b"b {}" * 100)
    assert reply.headers["Content-Type"] == TYPES[".css"]


def test_a_folder_is_answered_with_a_slash(site):
    with serve(site) as address:
        reply, _ = ask(address, "/below")
        assert (reply.status, reply.headers["Location"]) == (301, "/below/")
        assert ask(address, "/below/")[1] == b"below"
        assert ask(address, "//below")[0].headers["Location"] == "/below/"


def test_only_the_head_when_only_that_is_asked(site):
    with serve(site) as address:
        reply, body = ask(address, "/", method="HEAD")
    assert (reply.status, body, reply.headers["Content-Length"]) == (200, b"", str(len(LONG)))


def test_below_a_prefix_as_on_a_project_page(site):
    with serve(site, prefix="/handbook/") as address:
        assert address.endswith("/handbook/")
        assert ask(address, "/handbook/")[0].status == 200
        assert ask(address, "/handbook")[0].headers["Location"] == "/handbook/"
        assert ask(address, "/handbook/below/")[1] == b"below"
        assert ask(address, "/index.html")[0].status == 404
        assert ask(address, "/")[0].status == 404


@pytest.mark.parametrize(
    "path",
    ["/../secret.txt", "/%2e%2e/secret.txt", "/below/../../secret.txt", "/..%2fsecret.txt",
     "//etc/passwd", "/%00", "/%ff", "/" + "x" * 5000, "/link.txt"],
)  # fmt: skip
def test_nothing_outside_the_folder_is_found(site, path):
    (site / "link.txt").symlink_to(site.parent / "secret.txt")
    assert found(site, path) is None
    with serve(site) as address:
        reply, body = ask(address, path)
    assert reply.status == 404
    assert b"secret" not in body


def test_it_listens_on_this_machine_only(site):
    with serve(site) as address:
        assert urlsplit(address).hostname == "127.0.0.1"
        others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
        for host in others - {"127.0.0.1", "::1"}:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.settimeout(2)
                assert probe.connect_ex((host, urlsplit(address).port)) != 0


def test_the_port_is_free_afterwards(site):
    with serve(site) as address:
        port = urlsplit(address).port
    with serve(site, port) as again:
        assert ask(again, "/")[0].status == 200


def test_bad_input_is_refused_at_once(site, capsys):
    with pytest.raises(FileNotFoundError, match="make book"), serve(site / "absent"):
        pass
    with pytest.raises(ValueError, match="slash"), serve(site, prefix="handbook"):
        pass
    assert main([str(site / "absent")]) == 1
    assert "make book" in capsys.readouterr().err


def test_a_taken_port_is_said(site, capsys):
    with serve(site) as address:
        assert main([str(site), "--port", str(urlsplit(address).port)]) == 1
    assert "in use" in capsys.readouterr().err
