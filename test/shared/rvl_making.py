"""RVL data for tests, made one nibble at a time."""

import struct


def rvl(samples):
    """RVL as its paper describes it, one nibble after the other."""
    nibbles = []

    def write(number):
        while True:
            number, low = number >> 3, number & 7
            nibbles.append(low | (8 if number else 0))
            if not number:
                return

    values, before = [*samples.ravel().tolist(), None], 0
    at = 0
    while values[at] is not None:
        first = at
        while values[at] == 0:
            at += 1
        write(at - first)
        first = at
        while values[at]:
            at += 1
        write(at - first)
        for value in values[first:at]:
            difference = value - before
            write(2 * difference if difference >= 0 else -2 * difference - 1)
            before = value
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int("".join(f"{n:x}" for n in nibbles[i : i + 8]), 16) for i in range(0, len(nibbles), 8)]
    return struct.pack(f"<II{len(words)}I", samples.shape[1], samples.shape[0], *words)
