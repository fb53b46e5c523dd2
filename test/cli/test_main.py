from __future__ import annotations

import importlib
import subprocess
import sys
import types

import pytest
from waiting import PATIENCE_S

from objloc_ros import __version__
from objloc_ros.cli import main as cli
from objloc_ros.errors import InputError, ParameterError, WeightsError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    """Register a sub-command `try` whose run is the given function."""

    def put(run) -> None:
        module = types.SimpleNamespace(add_arguments=lambda parser: parser.add_argument("--n", type=int), run=run)
        monkeypatch.setitem(cli.SUBCOMMANDS, "try", cli.Command("module_of_try", "try something"))
        real = importlib.import_module
        monkeypatch.setattr(importlib, "import_module", lambda name: module if name == "module_of_try" else real(name))

    return put


def raiser(error: BaseException):
    def run(_args) -> int:
        raise error

    return run


@pytest.mark.parametrize("status", [0, 1])
def test_arguments_and_status_pass_through(command, status: int) -> None:
    seen = []
    command(lambda args: seen.append(args.n) or status)
    assert cli.main(["try", "--n", "3"]) == status
    assert seen == [3]


@pytest.mark.parametrize("error", [InputError("bad image"), ParameterError("bad value"), WeightsError("bad file")])
def test_domain_errors_are_one_line(command, error, capsys: pytest.CaptureFixture[str]) -> None:
    command(raiser(error))
    assert cli.main(["try"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"objloc: error: {error}\n")


def test_interrupt(command, capsys: pytest.CaptureFixture[str]) -> None:
    command(raiser(KeyboardInterrupt()))
    assert cli.main(["try"]) == 130
    assert capsys.readouterr().err == "objloc: interrupted\n"


def test_missing_dependency_is_named(command, capsys: pytest.CaptureFixture[str]) -> None:
    command(raiser(ModuleNotFoundError("No module named 'rclpy'", name="rclpy.node")))
    assert cli.main(["try"]) == 2
    assert "needs the Python module 'rclpy.node'" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ZeroDivisionError(), ModuleNotFoundError("gone", name="objloc_ros.gone")])
def test_bugs_are_not_hidden(command, error: Exception) -> None:
    command(raiser(error))
    with pytest.raises(type(error)):
        cli.main(["try"])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"objloc {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["--unknown"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(arguments)
    assert done.value.code == 2
    assert "usage: objloc" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.SUBCOMMANDS)
def test_every_subcommand_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main([name, "--help"])
    assert done.value.code == 0
    assert f"usage: objloc {name}" in capsys.readouterr().out


def test_an_error_about_foreign_text_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["play", "no\x1b[2J\nsuch\udc80 bag"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.strip().isprintable()
    assert "no\\x1b[2J\\nsuch\\udc80 bag" in err


def test_help_is_quick_and_light() -> None:
    check = "assert 'torch' not in sys.modules"
    code = f"import sys; from objloc_ros.cli.main import main\ntry: main(['--help'])\nfinally: {check}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    for name in cli.SUBCOMMANDS:
        assert name in done.stdout
