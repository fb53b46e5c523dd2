from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from objloc_ros.backbones import registry
from objloc_ros.backbones.registry import WeightsEntry
from objloc_ros.backbones.store import record_hash
from objloc_ros.cli.main import main

CONTENT = b"weights" * 1000


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsEntry]:
    """A registry of a single file that nobody serves."""
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    only = WeightsEntry(
        name="net",
        filename="net.pth",
        layout="vit",
        licence="MIT",
        source="a test",
        url="http://127.0.0.1:9/net.pth",
        size_bytes=12_300_000,
    )
    before = dict(registry.REGISTRY)
    registry.REGISTRY.clear()
    registry.REGISTRY["net"] = only
    yield only
    registry.REGISTRY.clear()
    registry.REGISTRY.update(before)  # in their order, which other tests read


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict]]:
    status = main(["weights", *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_list_as_table(entry: WeightsEntry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list"]) == 0
    head, row, _, cache = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "LICENCE", "SIZE", "STATE", "SOURCE"]
    assert row.split(maxsplit=5) == ["net", "MIT", "12.3", "MB", "missing", "a test"]
    assert cache == f"cache: {entry.path.parent}"
    entry.path.write_bytes(CONTENT)
    main(["weights", "list"])
    assert "net   MIT      7.0 kB  cached  a test" in capsys.readouterr().out


def test_list_as_json(entry: WeightsEntry, capsys: pytest.CaptureFixture[str]) -> None:
    status, (row,) = run_json(capsys, "list")
    assert status == 0
    assert row == {
        "name": "net",
        "layout": "vit",
        "licence": "MIT",
        "terms": "MIT",
        "agreement": None,
        "size_bytes": 12_300_000,
        "state": "missing",
        "path": str(entry.path),
        "url": entry.url,
        "sha256": None,
        "source": "a test",
    }


def test_fetch_offline_is_one_clear_line(entry: WeightsEntry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "fetch", "net"]) == 2
    out, err = capsys.readouterr()
    assert out == "net: MIT, a test\n  from http://127.0.0.1:9/net.pth\n"
    assert err.count("\n") == 1
    assert f"objloc: error: cannot download 'net' from {entry.url}" in err
    assert str(entry.path) in err


def test_fetch_of_what_is_there_needs_no_network(entry: WeightsEntry, capsys: pytest.CaptureFixture[str]) -> None:
    entry.path.write_bytes(CONTENT)
    record_hash(entry.path)
    assert main(["weights", "fetch", "net"]) == 0
    assert capsys.readouterr().out.endswith(f"  to {entry.path}\n")
    status, (row,) = run_json(capsys, "fetch", "net")
    assert (status, row["state"], row["size_bytes"]) == (0, "cached", len(CONTENT))


def test_unknown_name(entry: WeightsEntry, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("fetch", "verify"):
        assert main(["weights", action, "vgg"]) == 2
        assert "unknown weights 'vgg'; known: net" in capsys.readouterr().err


def test_verify_states(entry: WeightsEntry, capsys: pytest.CaptureFixture[str]) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert run_json(capsys, "verify") == (0, [])
    status, (row,) = run_json(capsys, "verify", "net")
    assert (status, row["state"]) == (1, "failed")
    assert "objloc weights fetch net" in row["error"]
    entry.path.write_bytes(CONTENT)
    assert run_json(capsys, "verify") == (0, [{"name": "net", "state": "unpinned", "sha256": digest, "error": None}])
    record_hash(entry.path)
    assert run_json(capsys, "verify")[1][0]["state"] == "ok"
    entry.path.write_bytes(b"other")
    assert main(["weights", "verify"]) == 1
    assert "net  failed" in capsys.readouterr().out


def test_verify_with_nothing_cached_prints_nothing(entry: WeightsEntry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "verify"]) == 0
    assert capsys.readouterr().out == ""


def test_non_commercial_weights_are_fetched_only_on_a_word(
    entry: WeightsEntry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.REGISTRY["shy"] = dataclasses.replace(entry, name="shy", licence="CC-BY-NC-4.0")
    assert main(["weights", "fetch", "net", "shy"]) == 2
    out, err = capsys.readouterr()
    assert out == ""  # net, which comes first, was not tried either
    assert "shy is licensed CC-BY-NC-4.0, for NON-COMMERCIAL use only" in err
    assert "add --non-commercial; nothing was fetched" in err
    main(["weights", "list"])
    assert "CC-BY-NC-4.0, non-commercial use only" in capsys.readouterr().out
    assert main(["weights", "fetch", "shy", "--non-commercial"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("shy: CC-BY-NC-4.0, non-commercial use only, a test\n")
    assert "cannot download 'shy'" in err


def test_a_missing_non_commercial_file_says_so_with_the_command(
    entry: WeightsEntry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.REGISTRY["shy"] = dataclasses.replace(entry, name="shy", licence="CC-BY-NC-4.0")
    main(["weights", "verify", "shy"])
    out = capsys.readouterr().out
    assert "`objloc weights fetch shy --non-commercial` (CC-BY-NC-4.0, non-commercial use only" in out


def test_a_licence_is_shown_before_it_is_accepted_and_nothing_is_fetched_without(
    entry: WeightsEntry, capsys: pytest.CaptureFixture[str]
) -> None:
    where = "https://example.org/licence"
    registry.REGISTRY["meta"] = dataclasses.replace(entry, name="meta", licence="LicenseRef-Meta", agreement=where)
    assert main(["weights", "fetch", "net", "meta", "--non-commercial"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"meta is under LicenseRef-Meta: read {where}, and if you accept it, add --accept-licence" in err
    main(["weights", "list"])
    assert "LicenseRef-Meta, to be accepted" in capsys.readouterr().out
    main(["weights", "verify", "meta"])
    assert "`objloc weights fetch meta --accept-licence`" in capsys.readouterr().out
    assert main(["weights", "fetch", "meta", "--accept-licence"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith(f"meta: LicenseRef-Meta, to be accepted ({where}), a test\n")
    assert "cannot download 'meta'" in err
