"""Fetching and verifying, against a small HTTP server on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from objloc_ros.backbones import registry, store
from objloc_ros.backbones.registry import REGISTRY, WeightsEntry, cache_dir, find_entry
from objloc_ros.errors import ParameterError, WeightsError

CONTENT = bytes(range(256)) * 9000  # more than two chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /good, half of it at /short, other bytes at /other; /gated asks who you are."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.path == "/gated":
            self.send_error(401)
            return
        body = {"/good": CONTENT, "/short": CONTENT[:1000], "/other": CONTENT[::-1], "/unsized": CONTENT}.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args) -> None:
        """Keep the test output clean."""


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def register(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put an entry for a path of the test server into the registry."""
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path / "cache"))

    def put(path: str, **known) -> WeightsEntry:
        url = f"http://127.0.0.1:{server.server_port}{path}"
        entry = WeightsEntry(
            name="net", filename="net.pth", layout="vit", licence="MIT", source="test", url=url, **known
        )
        monkeypatch.setitem(registry.REGISTRY, "net", entry)
        return entry

    return put


def leftovers() -> set[str]:
    return {path.name for path in cache_dir().iterdir()}


@pytest.mark.parametrize("known", [{}, {"sha256": DIGEST}, {"sha256": DIGEST, "size_bytes": len(CONTENT)}])
@pytest.mark.parametrize("route", ["/good", "/unsized"])
def test_fetch_downloads_verifies_and_reports(register, route: str, known: dict) -> None:
    seen: list[tuple[int, int | None]] = []
    register(route, **known)
    path = store.fetch("net", progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert leftovers() == {"net.pth", "net.pth.sha256"}
    assert seen[-1] == (len(CONTENT), len(CONTENT) if route == "/good" else None)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert store.verify("net").sha256 == DIGEST


def test_second_fetch_does_not_ask_the_server(register, server) -> None:
    register("/good")
    store.fetch("net")
    store.fetch("net")
    assert server.requests == ["/good"]


def test_damaged_cache_is_fetched_again(register, server) -> None:
    entry = register("/good")
    store.fetch("net")
    entry.path.write_bytes(b"bit rot")
    with pytest.raises(WeightsError, match="damaged"):
        store.verify("net")
    store.fetch("net")
    assert entry.path.read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("route", "known", "message"),
    [
        ("/other", {"sha256": DIGEST}, "but the registry says"),
        ("/short", {}, "1000 of 2304000 bytes arrived"),
        ("/short", {"sha256": DIGEST}, "1000 of 2304000 bytes arrived"),
        ("/unsized", {"size_bytes": 7}, "2304000 of 7 bytes"),
        ("/good", {"size_bytes": 7}, "offers 2304000 bytes"),
        ("/nothing", {}, "HTTP Error 404"),
    ],
)
def test_bad_download_leaves_nothing_behind(register, route: str, known: dict, message: str) -> None:
    register(route, **known)
    with pytest.raises(WeightsError, match=message):
        store.fetch("net")
    assert leftovers() == set()


def test_bad_download_keeps_the_old_file(register) -> None:
    register("/good")
    path = store.fetch("net")
    path.write_bytes(b"edited")
    register("/other")
    with pytest.raises(WeightsError, match="the first download"):
        store.fetch("net")
    assert path.read_bytes() == b"edited"
    assert leftovers() == {"net.pth", "net.pth.sha256"}


def test_refused_connection_says_how_to_go_on(register) -> None:
    with socket.socket() as probe:  # a port that was free a moment ago
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    entry = dataclasses.replace(register("/good"), url=f"http://127.0.0.1:{port}/good")
    registry.REGISTRY["net"] = entry
    with pytest.raises(WeightsError) as caught:
        store.fetch("net")
    message = str(caught.value)
    assert "\n" not in message
    for part in (entry.url, "refused", "by hand", str(entry.path)):
        assert part in message


def test_interrupted_download_leaves_nothing_behind(register) -> None:
    def interrupt(_done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    register("/good")
    with pytest.raises(KeyboardInterrupt):
        store.fetch("net", progress=interrupt)
    assert leftovers() == set()


def test_cache_that_cannot_be_written(register, tmp_path: Path) -> None:
    entry = register("/good")
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match=f"cannot write {entry.path}"):
        store.fetch("net")


def test_verify_of_a_file_placed_by_hand(register) -> None:
    entry = register("/good")
    with pytest.raises(WeightsError, match="objloc weights fetch net"):
        store.verify("net")
    entry.path.parent.mkdir(parents=True)
    entry.path.write_bytes(b"placed by hand")
    found = store.verify("net")
    assert found.expected is None
    assert found.sha256 == hashlib.sha256(b"placed by hand").hexdigest()


def test_record_is_what_sha256sum_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    store.record_hash(path)
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert store.sidecar(path).read_text() == f"{expected}  a.bin\n"
    assert store.read_recorded_hash(path) == expected
    store.sidecar(path).write_text("nonsense")
    with pytest.raises(WeightsError, match="does not hold a SHA-256"):
        store.check_file(path)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OBJLOC_CACHE": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/objloc_ros"),
        ({"OBJLOC_CACHE": "/a", "XDG_CACHE_HOME": "/x"}, "/a"),
        ({"HOME": "/h"}, "/h/.cache/objloc_ros"),
    ],
)
def test_cache_directory(variables: dict[str, str], expected: str, monkeypatch) -> None:
    for name in ("OBJLOC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == Path(expected)


def test_registry_is_consistent() -> None:
    assert {entry.licence for entry in REGISTRY.values()} == {
        "Apache-2.0",
        "Apache-2.0 AND WordNet-3.0",
        "MIT",
        "CC-BY-NC-4.0",
        "LicenseRef-DINOv3",
        "LicenseRef-apple-amlr",
    }
    assert {name for name, entry in REGISTRY.items() if entry.agreement} == {"dinov3_vits16", "dinov3_vitb16"}
    assert {name for name, entry in REGISTRY.items() if entry.non_commercial} == {
        "cutler_cascade",
        "cutler_mrcnn",
        "cutler_cascade_r1",
        "cutler_cascade_r2",
        "mobileclip2_s0",
        "mobileclip2_s2",
        "mobileclip2_s3",
        "mobileclip2_s4",
    }
    files = [entry.filename for entry in REGISTRY.values()]
    assert len(files) == len(set(files))
    for name, entry in REGISTRY.items():
        assert entry.name == name
        assert entry.embedded or str(entry.url).startswith("https://")
        assert entry.sha256 is None or len(entry.sha256) == 64


@pytest.mark.parametrize("name", [entry.name for entry in REGISTRY.values() if entry.embedded])
def test_embedded_weights_match_their_recorded_hash(name: str) -> None:
    found = store.verify(name)
    assert found.expected == found.sha256


def test_a_licence_to_be_accepted_is_accepted_before_anything_is_asked_of_the_server(register, server) -> None:
    register("/good", agreement="https://example.org/licence")
    with pytest.raises(
        WeightsError, match=r"read https://example\.org/licence, and if you accept it, add --accept-lic"
    ):
        store.fetch("net", non_commercial=True)
    assert server.requests == []
    assert store.fetch("net", accept_licence=True).read_bytes() == CONTENT


def test_a_host_that_wants_an_account_is_answered_by_hand(register) -> None:
    entry = register("/gated")
    with pytest.raises(WeightsError, match="401") as refused:
        store.fetch("net")
    assert f"in a browser from {entry.url} to {entry.path}" in str(refused.value)
    assert "weights:=FILE on a node, --weights FILE" in str(refused.value)


def test_the_hash_in_a_file_name_is_held_against_it(tmp_path: Path) -> None:
    good, bad = tmp_path / f"net-{DIGEST[:8]}.pth", tmp_path / "net-0123abcd.pth"
    for path in (good, bad):
        path.write_bytes(CONTENT)
    assert store.check_file(good).expected == DIGEST[:8]
    with pytest.raises(WeightsError, match="expected 0123abcd"):
        store.check_file(bad)
    store.record_hash(bad)  # whoever records a hash knows better than the name
    assert store.check_file(bad).expected == DIGEST


def test_unknown_weights_list_the_known() -> None:
    with pytest.raises(ParameterError, match="unknown weights 'vgg'; known: tiny, tiny_found_head"):
        find_entry("vgg")
