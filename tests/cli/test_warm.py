"""``hybridcore warm`` fills a directory from an origin or a peer, and says what it did."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hybridcore import Lmdb
from hybridcore.cli import main


@pytest.fixture
def url():
    """An HTTP service on loopback that has every key but "gone"."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.path.encode()
            self.send_response(404 if b"gone" in body else 200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Cache-Control", "max-age=3600")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_from_an_origin(url, tmp_path, capsys) -> None:
    """Keys of a file are loaded into the directory once; what is missing is told."""
    keys = tmp_path / "keys"
    keys.write_text("a\nb\ngone\n")
    command = ["warm", str(tmp_path / "cache"), "--keys", str(keys), "--origin", url, "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["report"]["loaded"], told["report"]["missing"]) == (2, 1)
    assert told["ledger"]["strategies"]["manual"]["warmed"] == 2
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["report"]["promoted"] == 2
    assert main([*command[:-1]]) == 0
    assert "promoted" in capsys.readouterr().out
    with Lmdb(tmp_path / "cache") as disk:
        assert sorted(disk) == ["a", "b"]


def test_from_a_peer(tmp_path, capsys) -> None:
    """The fresh entries of another directory are copied, and --explain only tells."""
    with Lmdb(tmp_path / "peer") as peer:
        peer.put("a", 1)
    command = ["warm", str(tmp_path / "cache"), "--peer", str(tmp_path / "peer"), "--json"]
    assert main([*command, "--explain"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"key": "a", "decision": "copy"}]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["report"]["loaded"] == 1
    with Lmdb(tmp_path / "cache") as disk:
        assert disk["a"] == 1


@pytest.mark.parametrize("more", [[], ["--keys", "keys"], ["--peer", "nowhere"]])
def test_wrong_use(more, tmp_path, capsys) -> None:
    """What cannot be done is said in one line."""
    assert main(["warm", str(tmp_path / "cache"), *more]) == 2
    assert capsys.readouterr().err.count("\n") == 1
