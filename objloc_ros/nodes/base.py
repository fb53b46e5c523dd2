"""What every perception node shares: life cycle, parameters, one camera in, lazy results out, honest accounts."""

from __future__ import annotations

import abc
import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Float32, Header
from std_srvs.srv import SetBool

from objloc_ros.engine.frame_stats import AgeClock, Arrival, FrameStats, Oddity
from objloc_ros.engine.latest_slot import SHUTDOWN, FrameDroppedError, LatestSlot
from objloc_ros.errors import ObjlocError
from objloc_ros.nodes.camera import Frame, ImageInput, Input, InputFactory
from objloc_ros.nodes.diagnostics import NOT_WANTED, Report, Reporter
from objloc_ros.nodes.encodings import RgbImage
from objloc_ros.nodes.log import Voice
from objloc_ros.nodes.outputs import Outputs
from objloc_ros.nodes.params import LiveParameters, Table, Values
from objloc_ros.nodes.priority import thread_gives_way


@dataclass(frozen=True)
class Job:
    """One frame and when it came."""

    frame: Frame
    arrival: Arrival


class PerceptionNode(LifecycleNode, abc.ABC):
    """Life-cycle node around an engine that answers images.

    Subscribes to its camera only while active, enabled and listened to; keeps the newest frame; answers it in a worker
    thread; counts and explains every frame that it does not answer. Subclasses add their outputs in their constructor.

    Args:
        name: Node name.
        table: All parameters of the node, `params.CAMERA` among them.
        open_camera: Makes the node's way to its camera.
        options: Passed on to `rclpy.lifecycle.LifecycleNode`.

    Raises:
        ParameterError: A start-up value breaks a constraint.
    """

    leads = False
    """Whether the node keeps its camera's rate, so that slower ones may follow it, see `SharedCamera`."""

    def __init__(self, name: str, table: Table, *, open_camera: InputFactory = ImageInput, **options: Any) -> None:
        super().__init__(name, **options)
        self.pass_key: Hashable = self.get_fully_qualified_name()
        self._voice = Voice(self.get_logger())
        self._stats = FrameStats()
        self._ages = AgeClock(lambda: int(self.get_clock().now().nanoseconds))
        self._slot: LatestSlot[Job] | None = None
        self._enabled = True
        self.parameters = LiveParameters(self, table, check=self.check_parameters, apply=self._apply)
        self.outputs = Outputs(self, self._follow_demand)
        self.outputs.add("debug/age_ms", Float32)
        self.outputs.add("debug/processing_ms", Float32)
        transport = self.parameters.values()["image_transport"]
        self._input: Input = open_camera(self, transport, self._on_frame, self._voice.warn)
        self._step = ""
        self._reporter = Reporter(self, self._report)
        self.create_service(SetBool, "~/enable", self._on_enable)

    @abc.abstractmethod
    def load_engine(self, parameters: Values) -> None:
        """Load and warm up what `answer` needs."""

    @abc.abstractmethod
    def release_engine(self) -> None:
        """Let go of what `load_engine` took; also called when nothing is loaded."""

    def rest(self) -> None:
        """Let go of what frames have left behind; also called when there were none."""

    @abc.abstractmethod
    def answer(self, rgb: RgbImage, header: Header) -> None:
        """Process one image and publish the results with this very header; runs in the worker thread."""

    @abc.abstractmethod
    def check_parameters(self, parameters: Values) -> None:
        """Raise ParameterError unless this complete set of values can be applied; changes nothing."""

    @abc.abstractmethod
    def apply_parameters(self, parameters: Values) -> None:
        """Take a complete, checked set of values over."""

    @abc.abstractmethod
    def describe_engine(self) -> dict[str, str]:
        """Facts for the diagnostics: `device` and whatever else there is to say."""

    def autostart(self) -> bool:
        """Configure and activate if the parameter says so; returns False when that failed."""
        if not self.parameters.values()["autostart"]:
            return True
        done = TransitionCallbackReturn.SUCCESS
        return bool(self.trigger_configure() == done and self.trigger_activate() == done)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the engine."""
        return self._transition("configure", lambda: self.load_engine(self.parameters.values()), state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker, and listen to the camera as soon as somebody listens to the node."""
        result = self._transition("activate", self._start, state)
        self._follow_demand()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the camera and finish the frame in work."""
        return self._transition("deactivate", self._stop, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the engine."""
        return self._transition("cleanup", self.close, state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, from any state."""
        return self._transition("shutdown", self.close, state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Fall back to unconfigured after a transition that failed half-way."""
        return self._transition("error", self.close, state)

    def begin(self, step: str) -> None:
        """Tell the diagnostics of a step of a transition that takes long, such as "warming up"."""
        self._step = step
        self._reporter.speak()

    def close(self) -> None:
        """Stop the worker and release the engine; safe to call more than once."""
        self._stop()
        self.release_engine()

    def _transition(self, name: str, work: Callable[[], None], state: LifecycleState) -> TransitionCallbackReturn:
        # rclpy turns an exception in a transition into an error state without a word: say it here.
        try:
            work()
        except ObjlocError as error:
            self._voice.failed(name, error, trace=False)
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # noqa: BLE001 - told in full below, and the state machine takes it from there
            self._voice.failed(name, error, trace=True)
            return TransitionCallbackReturn.FAILURE
        finally:
            self._step = ""
        return getattr(super(), f"on_{name}")(state)

    def _start(self) -> None:
        self._slot = LatestSlot(
            self._handle,
            self._stats,
            age_ms=lambda job: self._ages.age_ms(job.arrival),
            max_age_ms=_limit(self.parameters.values()),
            on_done=self._done,
            prepare=self._give_way,
            name=f"{self.get_name()}-worker",
        )

    def _give_way(self) -> None:
        if self.parameters.values().get("idle_priority"):
            thread_gives_way()

    def _stop(self) -> None:
        self._input.close()
        if self._slot is not None and not self._slot.stop():
            self.get_logger().error("the engine is still busy with a frame; its results will be dropped")
        self._slot = None
        self.rest()

    def _follow_demand(self) -> None:
        if self._slot is not None and self._enabled and self.outputs.any_wanted():
            self._input.open()
        else:
            self._input.close()

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        self._follow_demand()
        response.success = True
        response.message = "enabled" if self._enabled else "disabled: the camera subscription is released"
        return response

    def _apply(self, parameters: Values) -> None:
        if self._slot is not None:
            self._slot.max_age_ms = _limit(parameters)
        self.apply_parameters(parameters)

    def skip(self) -> None:
        """Count a frame that the node's camera gave up for it."""
        if self._slot is not None:
            self._slot.skip()

    def _on_frame(self, frame: Frame) -> None:
        stamp = frame.header.stamp
        arrival = self._ages.arrive(stamp.sec * 1_000_000_000 + stamp.nanosec)
        if arrival.oddity is not None:
            self._voice.odd(arrival.oddity)
        if arrival.oddity is Oddity.JUMPED_BACK:
            self._stats.forget_ages()
        slot = self._slot
        if slot is None:
            frame.done(SHUTDOWN)
        else:
            slot.offer(Job(frame, arrival))

    def _handle(self, job: Job) -> None:
        if not (self._enabled and self.outputs.any_wanted()):
            raise FrameDroppedError(NOT_WANTED)
        start = time.perf_counter()
        self.answer(job.frame.rgb(), job.frame.header)
        elapsed_ms = 1e3 * (time.perf_counter() - start)
        self.outputs.publish("debug/processing_ms", lambda: Float32(data=elapsed_ms))
        self.outputs.publish("debug/age_ms", lambda: Float32(data=self._ages.age_ms(job.arrival)))

    def _done(self, job: Job, cause: str, error: Exception | None) -> None:
        if cause:
            self._voice.dropped(cause, error)
        job.frame.done(cause)

    def _report(self) -> Report:
        self._follow_demand()
        frames, engine = self._stats.snapshot(), self.describe_engine()
        return Report(self._state(), frames, engine, self._input.check(), self._voice.last_error)

    def _state(self) -> str:
        if self._step:
            return self._step
        if self._slot is None:
            return "not active"
        if not self._enabled:
            return "disabled"
        return "running" if self._input.is_open else "idle: nobody subscribes"


def _limit(parameters: Values) -> float:
    return float(parameters["max_age_ms"]) or math.inf
