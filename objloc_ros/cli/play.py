"""`objloc play`: the images of a bag over DDS at their recorded pace, with `/clock`, for nodes that use_sim_time."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from array import array
from collections import Counter
from collections.abc import Collection, Generator
from dataclasses import asdict
from pathlib import Path

from objloc_ros.bags.player import CLOCK_HZ, LEAD_S, PlaybackClock, Player
from objloc_ros.bags.prefetch import prefetch
from objloc_ros.bags.processes import handle_sigterm_as_interrupt
from objloc_ros.bags.reader import BagReader, RawMessage, load_message_class
from objloc_ros.bags.survey import choose_cameras
from objloc_ros.engine.frame_stats import percentiles
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.files import write_json

PREFETCHED_FRAMES = 16
"""Frames read ahead, so that pauses of the disk do not delay the player."""

MAX_LINGER_S = 1e9
"""Greatest time at the end, in seconds: decades. The system's sleep takes only a few times as much."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to play, how fast, and for whom."""
    parser.add_argument("bag", type=Path, help="folder of a bag, or its .mcap or .db3 file; only read")
    parser.add_argument(
        "--topics",
        nargs="+",
        default=[],
        metavar="TOPIC[=NAME]",
        help="images to play, and the names to publish them under (default: all cameras)",
    )
    parser.add_argument("--rate", type=float, default=1.0, help="speed, times real time (default: %(default)s)")
    parser.add_argument(
        "--clock", type=float, default=CLOCK_HZ, metavar="HZ", help="ticks of /clock per second (default: %(default)s)"
    )
    parser.add_argument(
        "--wait-for-subscribers",
        type=int,
        default=0,
        metavar="N",
        help="hold the first frame back until every topic has N subscribers (default: %(default)s)",
    )
    parser.add_argument(
        "--linger",
        type=float,
        default=1.0,
        metavar="S",
        help="seconds for which the clock runs on at the end (default: %(default)s)",
    )
    parser.add_argument(
        "--account", type=Path, metavar="FILE", help="write what was sent and how late, for measurements"
    )


def run(args: argparse.Namespace) -> int:
    """Play a bag.

    Raises:
        InputError: The bag cannot be played, or an option is out of range.
        ParameterError: The rate, the clock's rate or the time at the end is out of range.
    """
    if args.wait_for_subscribers < 0 or not args.linger >= 0:
        raise InputError(
            f"subscribers and seconds at the end must be 0 or more, got {args.wait_for_subscribers} and {args.linger}"
        )
    if args.linger > MAX_LINGER_S:
        raise ParameterError(f"--linger must be {MAX_LINGER_S:g} s at most, got {args.linger}")
    PlaybackClock(0, 0, args.rate)  # checks the rate
    names = dict(topic.partition("=")[::2] for topic in args.topics)
    renamed = {topic: name for topic, name in names.items() if name}
    with BagReader(args.bag) as bag:
        kinds = {topic: load_message_class(bag.kinds[topic]) for topic in choose_cameras(bag, list(names) or None)}
    with prefetch(_read_images(args.bag, kinds), PREFETCHED_FRAMES) as messages:
        first = next(messages, None)
        if first is None:
            raise InputError(f"bag {args.bag} has no image: {', '.join(kinds)} are empty")
        player = Player(kinds, first.recorded_ns, names=renamed, clock_hz=args.clock)
        with handle_sigterm_as_interrupt(), player:
            if args.wait_for_subscribers:
                player.wait(args.wait_for_subscribers)
            playback = PlaybackClock(first.recorded_ns, time.monotonic_ns() + round(LEAD_S * 1e9), args.rate)
            account = {"schedule": asdict(playback)}
            if args.account is not None:
                write_json(args.account, account)
            sent, delays = Counter[str](), array("d")
            for topic, behind_ns in player.play(itertools.chain([first], messages), playback):
                sent[topic] += 1
                delays.append(behind_ns / 1e6)
            behind = percentiles(delays, (50, 99)) | {"max": max(delays)}
            behind = {name: round(value, 3) for name, value in behind.items()}
            if args.account is not None:
                write_json(args.account, account | {"sent": sent, "behind_ms": behind})
            time.sleep(args.linger)
    text = ", ".join(f"{name} {value:.1f} ms" for name, value in behind.items())
    print(f"played {sent.total()} frames; behind their time by {text}", file=sys.stderr)
    return 0


def _read_images(path: Path, topics: Collection[str]) -> Generator[RawMessage, None, None]:
    with BagReader(path) as bag:
        yield from bag.messages(topics)
