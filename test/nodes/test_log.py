import pytest

from objloc_ros.engine.frame_stats import Oddity
from objloc_ros.errors import InputError
from objloc_ros.nodes.log import Voice


class Ear:
    """A logger that keeps what it hears."""

    def __init__(self):
        self.warnings, self.errors = [], []

    def warning(self, text):
        self.warnings.append(text)

    def error(self, text):
        self.errors.append(text)


@pytest.fixture
def ear():
    return Ear()


@pytest.fixture
def voice(ear):
    return Voice(ear)


def test_a_cause_is_told_once(voice, ear):
    for _ in range(5):
        voice.dropped("encoding", InputError("unknown encoding 'x'"))
        voice.dropped("size", InputError("no rows"))
    assert ear.warnings == ["dropped a frame (encoding): unknown encoding 'x'", "dropped a frame (size): no rows"]
    assert voice.last_error == "size: no rows"


@pytest.mark.parametrize("cause", ["superseded", "shutdown", "not_wanted"])
def test_normal_work_is_not_worth_a_word(voice, ear, cause):
    voice.dropped(cause, None)
    assert (ear.warnings, voice.last_error) == ([], "")


def test_what_nobody_foresaw_comes_with_its_trace(voice, ear):
    try:
        {}["gone"]
    except KeyError as error:
        voice.dropped("processing_error", error)
        voice.failed("configure", error, trace=True)
    assert "Traceback" in ear.warnings[0]
    assert "KeyError: 'gone'" in ear.warnings[0]
    assert ear.errors[0].startswith("cannot configure: Traceback")
    assert voice.last_error == "configure: KeyError('gone')"


def test_a_domain_error_is_one_line(voice, ear):
    voice.failed("configure", InputError("no such file"), trace=False)
    assert ear.errors == ["cannot configure: no such file"]


def test_oddities_and_late_frames_are_told(voice, ear):
    for oddity in (*Oddity, *Oddity):
        voice.odd(oddity)
    voice.dropped("too_old", InputError("late"))
    assert len(ear.warnings) == len(Oddity) + 1
    assert "max_age_ms" in ear.warnings[-1]
    assert voice.last_error == ""
