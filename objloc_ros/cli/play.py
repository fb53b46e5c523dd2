"""`objloc play`: the images of a bag over DDS at their recorded pace, with `/clock`, for nodes that use_sim_time."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from objloc_ros.cli.children import terminated_like_interrupted
from objloc_ros.errors import InputError
from objloc_ros.evaluation.bag_realtime_account import AccountWriter
from objloc_ros.evaluation.bag_realtime_source import Playable, playable
from objloc_ros.nodes.player import CLOCK_HZ, LEAD_S, Player, Schedule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to play, how fast, and for whom."""
    parser.add_argument("bag", type=Path, help="folder of a bag, or one of its .mcap or .db3 files; only read")
    parser.add_argument(
        "--topics",
        nargs="+",
        metavar="TOPIC[=NAME]",
        help="images to play, under other names if wanted (default: all images)",
    )
    parser.add_argument("--rate", type=float, default=1.0, help="times real time (default: %(default)s)")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds of the bag to leave out")
    parser.add_argument("--duration", type=float, metavar="S", help="seconds of the bag to play (default: to the end)")
    parser.add_argument("--loop", action="store_true", help="begin again at the end; the clock jumps back then")
    parser.add_argument(
        "--clock", type=float, default=CLOCK_HZ, metavar="HZ", help="ticks of /clock per second (default: %(default)s)"
    )
    parser.add_argument(
        "--wait-for-subscribers",
        type=int,
        default=0,
        metavar="N",
        help="hold the first frame back until every topic has so many",
    )
    parser.add_argument("--linger", type=float, default=1.0, metavar="S", help="let the clock run on at the end")
    parser.add_argument("--account", type=Path, metavar="DIR", help="write there what was sent when, for measurements")


def run(args: argparse.Namespace) -> int:
    """Play.

    Raises:
        InputError: The bag cannot be played, or an option is out of range.
    """
    if args.loop and args.account is not None:
        raise InputError("--account has one line for each stamp: it goes without --loop")
    if args.wait_for_subscribers < 0 or not 0 <= args.linger <= 3600:
        raise InputError(
            f"need 0 or more subscribers and 0 to 3600 s at the end, got {args.wait_for_subscribers} and {args.linger}"
        )
    names = dict(topic.partition("=")[::2] for topic in args.topics or ())
    what = playable(args.bag, list(names) if args.topics else None, start_s=args.start, duration_s=args.duration)
    Schedule(what.start_ns, 0, args.rate)  # says what is wrong with the rate
    renamed = {topic: name for topic, name in names.items() if name}
    with terminated_like_interrupted(), Player(what.topics, names=renamed, clock_hz=args.clock) as player:
        if args.wait_for_subscribers:
            player.wait(args.wait_for_subscribers, what.start_ns)
        while True:
            _once(args, what, player)
            if not args.loop:
                return 0


def _once(args: argparse.Namespace, what: Playable, player: Player) -> None:
    schedule = Schedule(what.start_ns, time.monotonic_ns() + round(LEAD_S * 1e9), args.rate)
    late_ms = []
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(unit="frame", desc=args.bag.name, disable=None, leave=False))
        if args.account is not None:
            account = stack.enter_context(AccountWriter(args.account, list(what.topics), schedule))
        for sent in player.play(what.messages(), schedule):
            if args.account is not None:
                account.note(sent)
            late_ms.append((sent.sent_ns - sent.due_ns) / 1e6)
            bar.update()
    player.linger(schedule, args.linger)
    p50, p99, worst = np.percentile(late_ms, (50, 99, 100))
    print(
        f"played {len(late_ms)} frames in {what.seconds / args.rate:.1f} s; "
        f"late by p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {worst:.1f} ms",
        file=sys.stderr,
    )
