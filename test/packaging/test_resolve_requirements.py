"""The check of the requirements files, with an index of a few empty wheels in place of PyPI."""

import sys
import time
import zipfile
from pathlib import Path

import pytest
from waiting import PATIENCE_S

pytest.importorskip("uv")
import resolve_requirements
from resolve_requirements import CONSTRAINTS, PYTHONS, Case, Result, judge, list_cases

ROOT = Path(__file__).resolve().parents[2]
SKIMAGE = Result("", "Because scikit-image==0.25.2 has no usable wheels")


@pytest.fixture
def index(tmp_path):
    """Builds wheels that say of themselves what is given, and returns uv's arguments for them alone."""

    def build(name, version, python="py3", platform="any", needs=()):
        info = f"{name}-{version}.dist-info"
        metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {n}" for n in needs)]
        tag = f"{python}-none-{platform}" if python == "py3" else f"{python}-{python}-{platform}"
        with zipfile.ZipFile(tmp_path / f"{name}-{version}-{tag}.whl", "w") as wheel:
            wheel.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
            wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            wheel.writestr(f"{info}/RECORD", "")
        return ["--no-index", "--find-links", str(tmp_path)]

    return build


def resolve(tmp_path, index, python, requirements, constraints, platform=resolve_requirements.LINUX, file=None):
    file = file or "requirements.txt"
    (tmp_path / file).write_text(requirements)
    (tmp_path / CONSTRAINTS[file]).write_text(constraints)
    deadline = time.monotonic() + PATIENCE_S
    return resolve_requirements.resolve(Case(file, python, platform), tmp_path, index, {}, deadline)


def test_every_requirements_file_is_resolved_for_every_python():
    files = {path.name for path in ROOT.glob("requirements*.txt")}
    assert files == set(CONSTRAINTS)
    assert {(case.file, case.python) for case in list_cases()} == {(file, p) for file in files for p in PYTHONS}
    assert all((ROOT / constraints).is_file() for constraints in CONSTRAINTS.values())


def test_a_pin_without_a_wheel_for_one_python_is_found(tmp_path, index):
    index("vision", "1.0", python="cp310", platform="manylinux_2_28_x86_64")
    arguments = index("vision", "2.0", python="cp312", platform="manylinux_2_28_x86_64")
    assert resolve(tmp_path, arguments, "3.12", "vision>=1", "vision==2.0").pins.strip().endswith("vision==2.0")
    old = resolve(tmp_path, arguments, "3.10", "vision>=1", "vision==2.0")
    assert (old.pins, "vision" in old.trouble) == ("", True)
    by_marker = 'vision==1.0; python_version < "3.11"\nvision==2.0; python_version >= "3.11"'
    assert "vision==1.0" in resolve(tmp_path, arguments, "3.10", "vision>=1", by_marker).pins


def test_what_a_package_needs_is_resolved_too(tmp_path, index):
    arguments = index("nodes", "1.0", needs=["messages>=2"])
    assert "messages" in resolve(tmp_path, arguments, "3.12", "nodes", "").trouble
    index("messages", "2.1")
    assert "messages==2.1" in resolve(tmp_path, arguments, "3.12", "nodes", "").pins


def test_platforms_are_told_apart(tmp_path, index):
    arguments = index("vision", "1.0", python="cp312", platform="manylinux_2_28_aarch64")
    board = resolve(tmp_path, arguments, "3.12", "vision", "", platform="aarch64-manylinux_2_28")
    assert board.trouble == ""
    assert "vision" in resolve(tmp_path, arguments, "3.12", "vision", "").trouble


def test_a_gap_that_has_closed_is_an_error():
    known = Case("requirements-dev.txt", "3.14")
    assert judge(known, SKIMAGE) == ("", resolve_requirements.NO_SKIMAGE.reason)
    assert "resolves by now" in judge(known, Result("scikit-image==0.26.0\n", ""))[0]
    other = Result("", "Because numpy==9 has no usable wheels")
    assert judge(known, other) == (other.trouble, "")
    assert judge(Case("requirements-dev.txt", "3.13"), SKIMAGE) == (SKIMAGE.trouble, "")


def test_what_a_marker_leaves_out_is_checked():
    known = Case("requirements.txt", "3.10")
    wrong, missing = judge(known, Result("numpy==2.2.6\n", ""))
    assert (wrong, missing.startswith("without onnxruntime: ")) == ("", True)
    assert "onnxruntime is in by now" in judge(known, Result("numpy==2.2.6\nonnxruntime==1.23.2\n", ""))[0]
    assert judge(known, Result("", "no such package"))[0] == "no such package"


def test_pips_index_is_passed_on():
    lines = [
        "global.index-url='https://mirror.example/simple'",
        "global.find-links='/nowhere'",
        "global.extra-index-url='file:///a/simple file:///b/simple'",
        ":env:.find-links='/wheels'",
        ":env:.cert='/etc/ca.crt'",
        ":env:.no-index='1'",
        "freeze.user='true'",
    ]
    arguments, variables = resolve_requirements.translate(resolve_requirements.read_pip_config(lines))
    assert arguments == [
        *("--default-index", "https://mirror.example/simple"),
        *("--index", "file:///a/simple", "--index", "file:///b/simple"),
        *("--find-links", "/wheels", "--no-index"),
    ]
    assert variables == {"SSL_CERT_FILE": "/etc/ca.crt"}
    assert resolve_requirements.translate({}) == ([], {})


def test_an_index_that_does_not_answer_does_not_hold_up(monkeypatch, tmp_path):
    monkeypatch.setattr(resolve_requirements, "UV", sys.executable)
    (tmp_path / "pip").write_text("import time; time.sleep(600)")  # what `python pip compile ...` runs
    case = Case("requirements.txt", "3.12")
    result = resolve_requirements.resolve(case, tmp_path, [], {}, time.monotonic() + 0.5)
    assert result == Result("", "no answer within the 170 s for all")


def test_the_outcome_is_said_and_counted(monkeypatch, capsys):
    def answer(case, *_):
        return SKIMAGE if case.python == "3.14" else Result("numpy==2.2.6\n", "")

    monkeypatch.setattr(resolve_requirements, "resolve", answer)
    assert resolve_requirements.main() == 1
    said = capsys.readouterr().out
    assert "requirements-dev.txt, Python 3.14, x86_64-manylinux_2_28: as known, pysodmetrics" in said
    assert f"requirements-bare.txt, Python 3.14, x86_64-manylinux_2_28: {SKIMAGE.trouble}" in said
    assert said.splitlines()[-1].endswith(" s, 8 wrong")
