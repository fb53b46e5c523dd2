"""The one perception node: life cycle, parameters, one source of frames in, lazy results out, honest accounts."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lifecycle_msgs.srv import ChangeState
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Float32
from std_srvs.srv import SetBool, Trigger

from objloc_ros.engine.frame_stats import AgeClock, Arrival, FrameStats, StampAnomaly
from objloc_ros.engine.latest_slot import SHUTDOWN, FrameDroppedError, LatestSlot
from objloc_ros.errors import ObjlocError
from objloc_ros.nodes.adapter import Adapter, Host
from objloc_ros.nodes.camera import Camera, OnDone, Source, Stamped
from objloc_ros.nodes.diagnostics import NOT_WANTED, DiagnosticsPublisher, Report
from objloc_ros.nodes.log import ThrottledLogger
from objloc_ros.nodes.messages import stamp_ns
from objloc_ros.nodes.outputs import Output, Outputs
from objloc_ros.nodes.params import LiveParameters, Values
from objloc_ros.nodes.priority import lower_thread_priority

DEBUG_OUTPUTS = (Output("debug/age_ms", Float32), Output("debug/processing_ms", Float32))


@dataclass(frozen=True)
class Job:
    """One frame on its way through a node.

    Args:
        frame: The source's.
        arrival: When it came.
        recording: Number of times that the stamps had jumped back when it came.
        requests: Number of times that a frame had been asked for when it came.
        on_done: Told when the node is done with it, if anybody wants to know.
    """

    frame: Stamped
    arrival: Arrival
    recording: int
    requests: int
    on_done: OnDone | None


class FrameRequests:
    """Requests for one frame, each met by the first one to be answered of those that came after it; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made = self._met = 0

    @property
    def made(self) -> int:
        """The number of requests so far, which a frame that comes now may meet."""
        return self._made

    def make(self) -> None:
        """Ask for a frame."""
        with self._lock:
            self._made += 1

    def are_open(self, made: int | None = None) -> bool:
        """Whether some are not met yet; of the first `made` only, if given."""
        with self._lock:
            return self._met < (self._made if made is None else made)

    def meet(self, made: int) -> None:
        """Note that a frame was answered that came after the first `made` requests."""
        with self._lock:
            self._met = max(self._met, made)

    def drop(self) -> None:
        """Forget those that are not met yet."""
        with self._lock:
            self._met = self._made


class PerceptionNode(LifecycleNode):
    """Life-cycle node around an adapter.

    Subscribes to its source of frames, mostly a camera, only while active, listened to, and enabled or asked for one
    frame; keeps the newest frame; has the adapter process it in a worker thread; counts and explains every frame that
    is not processed.

    Args:
        adapter: What the node runs; its alone.
        find_camera: Returns the shared camera of an `image_transport`; None gives the node a source of its own.
        options: Passed on to `rclpy.lifecycle.LifecycleNode`.

    Raises:
        ParameterError: A start-up value breaks a constraint.
    """

    def __init__(
        self, adapter: Adapter[Any], *, find_camera: Callable[[str], Camera] | None = None, **options: Any
    ) -> None:
        super().__init__(adapter.name, **options)
        self.adapter = adapter
        self.leads = adapter.leads
        self._log = ThrottledLogger(self.get_logger())
        self._stats = FrameStats()
        self._ages = AgeClock(self._now_ns)
        self._arrived_recording = self._processed_recording = 0
        self._slot: LatestSlot[Job] | None = None
        self._enabled = True
        self._requests = FrameRequests()
        self._step = ""
        self.parameters = LiveParameters(self, adapter.parameters, check=adapter.check, apply=self._apply)
        values = self.parameters.values()
        self.pass_key = adapter.pass_key(values)
        self._outputs = Outputs(self, (*DEBUG_OUTPUTS, *adapter.outputs), self._follow_demand)
        self._source: Source
        if find_camera is None:
            self._source = adapter.open_source(self, values, self._log)
        else:
            self._source = find_camera(values["image_transport"])
        self._source.add(self)
        self._diagnostics = DiagnosticsPublisher(self, self._report)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/trigger", self._on_trigger)
        self._rest_soon = self.create_guard_condition(self._follow_demand)
        self._guard_transitions()
        adapter.listen(self, self._log)

    def autostart(self) -> bool:
        """Configure and activate if the parameter says so; returns False when that failed."""
        if not self.parameters.values()["autostart"]:
            return True
        done = TransitionCallbackReturn.SUCCESS
        return bool(self.trigger_configure() == done and self.trigger_activate() == done)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the engine."""
        return self._transition("configure", self._load, state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker, and subscribe to the source as soon as somebody subscribes to the node."""
        result = self._transition("activate", self._start, state)
        self._follow_demand()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the source and finish the frame in work."""
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

    def close(self) -> None:
        """Stop the worker and release the engine; safe to call more than once."""
        self._stop()
        self.adapter.release()

    def wants_frames(self) -> bool:
        """Whether the node is active, listened to, and enabled or asked for a frame."""
        is_asked = self._enabled or self._requests.are_open()
        return self._slot is not None and is_asked and bool(self._outputs.wanted())

    def receive(self, frame: Stamped, on_done: OnDone | None = None) -> None:
        """Keep a frame for the worker, in place of one that still waits.

        Args:
            frame: The source's newest.
            on_done: Called, in whatever thread, when the node is done with the frame: with "" when it was answered,
                else with the cause of its drop.
        """
        arrival = self._ages.arrive(stamp_ns(frame.header))
        if arrival.anomaly is not None:
            self._log.warn_of_anomaly(arrival.anomaly)
        if arrival.anomaly is StampAnomaly.JUMPED_BACK:
            self._arrived_recording += 1
            self._stats.forget_ages()
        slot = self._slot
        if slot is not None:
            slot.offer(Job(frame, arrival, self._arrived_recording, self._requests.made, on_done))
        elif on_done is not None:
            on_done(SHUTDOWN)

    def skip(self) -> None:
        """Count a frame that was given up before it got here."""
        if self._slot is not None:
            self._slot.skip()

    def miss(self, error: FrameDroppedError) -> None:
        """Count a frame, and tell why, that something belonging to it has not come for."""
        if self._slot is not None:
            self._slot.skip(error.cause)
            self._log.warn_of_drop(error.cause, error)

    def _transition(self, name: str, work: Callable[[], None], state: LifecycleState) -> TransitionCallbackReturn:
        # rclpy turns an exception in a transition into an error state without a word: log it here.
        try:
            work()
        except ObjlocError as error:
            self._log.error(name, error, trace=False)
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # noqa: BLE001 - logged in full below, and the state machine takes it from there
            self._log.error(name, error, trace=True)
            return TransitionCallbackReturn.FAILURE
        finally:
            self._step = ""
        return getattr(super(), f"on_{name}")(state)

    def _guard_transitions(self) -> None:
        # rclpy lets the state machine's refusal escape from the callback, which would end the process.
        for service in self.services:
            if service.srv_type is ChangeState:
                service.callback = functools.partial(self._change_state, service.callback)

    def _change_state(
        self,
        change: Callable[[ChangeState.Request, ChangeState.Response], ChangeState.Response],
        request: ChangeState.Request,
        response: ChangeState.Response,
    ) -> ChangeState.Response:
        try:
            return change(request, response)
        except rclpy_implementation.RCLError:
            asked, (_, state) = request.transition, self._state_machine.current_state
            self._log.warn("transition", f"refused transition {asked.label or asked.id}: the node is {state}")
            response.success = False
            return response

    def _load(self) -> None:
        host = Host(self.get_name(), self._outputs, self._log, self._report_step)
        self.adapter.load(self.parameters.values(), host)

    def _report_step(self, step: str) -> None:
        self._step = step
        self._diagnostics.publish()

    def _start(self) -> None:
        self._slot = LatestSlot(
            self._process,
            self._stats,
            age_ms=self._age_ms,
            max_age_ms=_max_age_ms(self.parameters.values()),
            on_done=self._on_done,
            prepare=self._lower_priority,
            name=f"{self.get_name()}-worker",
        )

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _age_ms(self, job: Job) -> float:
        return self._ages.age_ms(job.arrival)

    def _lower_priority(self) -> None:
        if self.parameters.values().get("idle_priority"):
            lower_thread_priority()

    def _stop(self) -> None:
        slot, self._slot = self._slot, None
        self._requests.drop()
        self._follow_demand()
        if slot is not None and not slot.stop():
            self.get_logger().error("the engine is still busy with a frame; its results will be dropped")
        self.adapter.free_memory()

    def _follow_demand(self) -> None:
        self._source.follow_demand()

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        if not self._enabled:
            self._requests.drop()
        self._follow_demand()
        response.success = True
        response.message = "enabled" if self._enabled else "disabled: the camera subscription is released"
        return response

    def _on_trigger(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._slot is not None
        if not response.success:
            response.message = "not active: configure and activate the node first"
            return response
        if self._enabled:
            response.message = "the node is enabled: it answers every frame that it can"
            return response
        self._requests.make()
        self._follow_demand()
        if self._outputs.wanted():
            response.message = f"the next frame of '{self._source.topic}' will be answered"
        else:
            response.message = "nobody subscribes to an output: the first frame after somebody does will be answered"
        return response

    def _apply(self, values: Values) -> None:
        if self._slot is not None:
            self._slot.max_age_ms = _max_age_ms(values)
        self.adapter.apply(values)

    def _process(self, job: Job) -> None:
        is_asked = self._enabled or self._requests.are_open(job.requests)
        wanted = self._outputs.wanted() if is_asked else frozenset()
        if not wanted:
            raise FrameDroppedError(NOT_WANTED)
        start = time.perf_counter()
        if job.recording != self._processed_recording or not self._enabled:  # a frame asked for stands alone
            self._processed_recording = job.recording
            self.adapter.reset()
        self.adapter.process(job.frame, self._outputs, wanted)
        elapsed_ms = 1e3 * (time.perf_counter() - start)
        if "debug/processing_ms" in wanted:
            self._outputs.publish("debug/processing_ms", Float32(data=elapsed_ms))
        if "debug/age_ms" in wanted:
            self._outputs.publish("debug/age_ms", Float32(data=self._age_ms(job)))

    def _on_done(self, job: Job, cause: str, error: Exception | None) -> None:
        fate = f"dropped ({cause})" if cause else "published"
        self.get_logger().debug(f"frame of stamp {job.arrival.stamp_ns} ns: {fate}, {self._age_ms(job):.0f} ms old")
        if cause:
            self._log.warn_of_drop(cause, error)
        elif self._requests.are_open(job.requests):
            self._requests.meet(job.requests)
            self._rest_soon.trigger()  # the camera's subscription is the executor's
        if job.on_done is not None:
            job.on_done(cause)

    def _report(self) -> Report:
        self._follow_demand()
        frames, engine = self._stats.snapshot(), self.adapter.describe(self.parameters.values())
        problem = self._source.find_problem() if self._source.serves(self) else ""
        return Report(self._state(), frames, engine, problem, self._log.last_error)

    def _state(self) -> str:
        if self._step:
            return self._step
        if self._slot is None:
            return "not active"
        if not self._enabled:
            return "triggered" if self._requests.are_open() else "disabled"
        return "running" if self._source.serves(self) else "idle: nobody subscribes"


def _max_age_ms(values: Values) -> float:
    return float(values["max_age_ms"]) or math.inf
