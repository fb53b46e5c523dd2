import pytest

from objloc_ros.engine.frame_stats import StampAnomaly
from objloc_ros.errors import InputError
from objloc_ros.nodes.log import ThrottledLogger


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
def log(ear):
    return ThrottledLogger(ear)


def test_a_cause_is_told_once(log, ear):
    for _ in range(5):
        log.warn_of_drop("encoding", InputError("unknown encoding 'x'"))
        log.warn_of_drop("size", InputError("no rows"))
    assert ear.warnings == ["dropped a frame (encoding): unknown encoding 'x'", "dropped a frame (size): no rows"]
    assert log.last_error == "size: no rows"


@pytest.mark.parametrize("cause", ["superseded", "shutdown", "not_wanted"])
def test_normal_work_is_not_worth_a_word(log, ear, cause):
    log.warn_of_drop(cause, None)
    assert (ear.warnings, log.last_error) == ([], "")


def test_what_nobody_foresaw_comes_with_its_trace(log, ear):
    try:
        {}["gone"]
    except KeyError as error:
        log.warn_of_drop("processing_error", error)
        log.error("configure", error, trace=True)
    assert "Traceback" in ear.warnings[0]
    assert "KeyError: 'gone'" in ear.warnings[0]
    assert ear.errors[0].startswith("cannot configure: Traceback")
    assert log.last_error == "configure: KeyError('gone')"


def test_a_domain_error_is_one_line(log, ear):
    log.error("configure", InputError("no such file"), trace=False)
    assert ear.errors == ["cannot configure: no such file"]


def test_anomalies_and_late_frames_are_told(log, ear):
    for anomaly in (*StampAnomaly, *StampAnomaly):
        log.warn_of_anomaly(anomaly)
    log.warn_of_drop("too_old", InputError("late"))
    assert len(ear.warnings) == len(StampAnomaly) + 1
    assert "max_age_ms" in ear.warnings[-1]
    assert log.last_error == ""


def test_every_refusal_is_the_last_error_but_only_the_first_is_logged(log, ear):
    log.refuse("prompts", "too many")
    log.refuse("prompts", "none")
    assert ear.warnings == ["refused prompts: too many"]
    assert log.last_error == "prompts: none"
