"""Bags in every container, and everything that can be wrong with them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
import bag_making as making
from std_msgs.msg import Float32, String

from objloc_ros.bags.reader import BagReader, read_bag
from objloc_ros.errors import InputError

WORDS = [
    ("/talk", 10, String(data="a" * 3000)),
    ("/level", 20, Float32(data=0.5)),
    ("/talk", 30, String(data="b" * 3000)),
]


@pytest.mark.parametrize("container", making.CONTAINERS)
def test_every_container_is_read_and_left_as_it_was(tmp_path: Path, container: str) -> None:
    path = making.write(tmp_path / "bag", WORDS, container)
    before = making.fingerprint(tmp_path)
    with BagReader(path) as bag:
        assert bag.kinds == {"/talk": "std_msgs/msg/String", "/level": "std_msgs/msg/Float32"}
        assert bag.counts == {"/talk": 2, "/level": 1}
        assert [(m.topic, m.recorded_ns) for m in bag.messages()] == [("/talk", 10), ("/level", 20), ("/talk", 30)]
        assert [m.recorded_ns for m in bag.messages(["/level"])] == [20]
    assert [m.message for m in read_bag(path)] == [message for _, _, message in WORDS]
    assert making.fingerprint(tmp_path) == before


@pytest.mark.parametrize("container", ["sqlite3", "mcap, chunks"])
def test_a_bag_in_several_files(tmp_path: Path, container: str) -> None:
    parts = [making.write(tmp_path / f"part{i}", WORDS[:2] if i == 0 else WORDS[2:], container) for i in range(2)]
    for part in parts:
        (file,) = (f for f in part.iterdir() if f.suffix in (".db3", ".mcap"))
        file.rename(parts[0] / f"{file.name}")
    text = (parts[0] / "metadata.yaml").read_text()
    names = sorted(f.name for f in parts[0].iterdir() if f.suffix in (".db3", ".mcap"))
    text = text.replace(
        f"relative_file_paths:\n  - {names[0]}\n", "relative_file_paths:\n  - " + "\n  - ".join(names) + "\n"
    )
    assert all(name in text for name in names)
    (parts[0] / "metadata.yaml").write_text(text)
    assert [m.stamp_ns for m in read_bag(parts[0])] == [10, 20, 30]


@pytest.mark.parametrize("container", ["sqlite3", "mcap", "mcap, chunks"])
def test_a_single_file(tmp_path: Path, container: str) -> None:
    making.write(tmp_path / "bag", WORDS, container)
    (file,) = (f for f in (tmp_path / "bag").iterdir() if f.suffix in (".db3", ".mcap"))
    (tmp_path / "bag" / "metadata.yaml").unlink()
    assert len(list(read_bag(file))) == 3


def test_a_folder_without_metadata(tmp_path: Path) -> None:
    path = making.write(tmp_path / "bag", WORDS)
    (path / "metadata.yaml").unlink()
    with pytest.raises(InputError, match=r"it has no metadata.yaml; `ros2 bag reindex .*/bag` makes one"):
        list(read_bag(path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no metadata.yaml; and no .mcap or .db3 file: it is no bag"):
        list(read_bag(tmp_path / "empty"))


@pytest.mark.parametrize("container", ["sqlite3", "mcap"])
def test_a_file_of_zero_bytes(tmp_path: Path, container: str) -> None:
    path = making.write(tmp_path / "bag", WORDS, container)
    (file,) = (f for f in path.iterdir() if f.suffix in (".db3", ".mcap"))
    file.write_bytes(b"")
    for name in (path, file):
        with pytest.raises(InputError, match=rf"{file.name} is empty: 0 bytes"):
            list(read_bag(name))


def test_an_mcap_that_is_cut_off(tmp_path: Path) -> None:
    path = making.write(tmp_path / "bag", WORDS, "mcap")
    file = path / "bag.mcap"
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(InputError, match=r"bag.mcap is cut off: it has no end mark at byte 700; `mcap recover"):
        list(read_bag(path))


def test_a_database_that_is_cut_off(tmp_path: Path) -> None:
    many = [("/talk", 1_000_000_000 * i, String(data=f"{i}" * 3000)) for i in range(1, 60)]
    path = making.write(tmp_path / "bag", many, "sqlite3")
    file = path / "bag.db3"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=r"cannot read bag .*: .*(malformed|truncated|corrupt)"):
        list(read_bag(path))


def test_a_damaged_page_says_how_far_one_could_read(tmp_path: Path) -> None:
    many = [("/talk", 1_000_000_000 * i, String(data=f"{i:03d}" * 3000)) for i in range(1, 60)]
    path = making.write(tmp_path / "bag", many, "mcap, messages")
    file = path / "bag.mcap"
    content = bytearray(file.read_bytes())
    places = [i for i in range(len(content)) if content[i : i + 4] == b"\x28\xb5\x2f\xfd"]
    content[places[7]] = 0
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read bag .* after 7 messages, the last recorded at 7.000 s: "):
        list(read_bag(path))


def test_a_database_that_was_not_closed(tmp_path: Path) -> None:
    path = making.write(tmp_path / "bag", WORDS, "sqlite3")
    connection = sqlite3.connect(path / "bag.db3")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("UPDATE messages SET timestamp = timestamp + 1")
    connection.commit()
    before = making.fingerprint(tmp_path)
    with pytest.raises(InputError, match=r"it was not closed, and bag.db3-wal holds messages"):
        list(read_bag(path))
    assert making.fingerprint(tmp_path) == before
    connection.close()
    assert [m.stamp_ns for m in read_bag(path)] == [11, 21, 31], "closing moves them"


def test_missing_files_and_wrong_names(tmp_path: Path) -> None:
    path = making.write(tmp_path / "bag", WORDS, "mcap, files")
    with pytest.raises(InputError, match="name the folder of a compressed bag"):
        list(read_bag(path / "bag.mcap.zstd"))
    (path / "bag.mcap.zstd").unlink()
    with pytest.raises(InputError, match="files are missing"):
        list(read_bag(path))
    (tmp_path / "words.txt").write_text("hello")
    with pytest.raises(InputError, match="Unrecognized storage format"):
        list(read_bag(tmp_path / "words.txt"))
    with pytest.raises(InputError, match="no such file or folder"):
        list(read_bag(tmp_path / "none"))


def test_types_that_nobody_has_are_ignored_on_other_topics(tmp_path: Path) -> None:
    path = making.write_unknown(tmp_path / "bag", WORDS)
    assert len(list(read_bag(path, ["/talk"]))) == 2
    with pytest.raises(InputError, match="message type 'odd_msgs/msg/Odd' is not installed"):
        list(read_bag(path, ["/odd"]))


def test_a_topic_of_two_types(tmp_path: Path) -> None:
    path = making.write(tmp_path / "bag", [*WORDS, ("/talk", 40, Float32())], "mcap")
    with pytest.raises(InputError, match=r"topic /talk of bag .* holds messages of two types: std_msgs/msg/String and"):
        list(read_bag(path, ["/talk"]))
    assert len(list(read_bag(path, ["/level"]))) == 1


def test_a_topic_that_is_not_there(tmp_path: Path) -> None:
    path = making.write(tmp_path / "bag", WORDS)
    with BagReader(path) as bag, pytest.raises(InputError, match=r"has no topic /a, /b; it has /level, /talk"):
        bag.require_topics(["/b", "/talk", "/a"])
