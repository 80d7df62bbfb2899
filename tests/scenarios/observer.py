"""Watches a pipeline from outside, as a reader of Postgres sees it: when does each epoch become visible?"""

import bisect
import re
import subprocess
import threading
import time

PAUSE_SECONDS = 0.01


class Observer:
    """Asks for new epochs every 10 ms over one connection, in a thread of its own."""

    def __init__(self, stack):
        command = [*stack.psql_command(), "-XAtq", "-F", "|"]
        self.psql = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.seen = []
        self.messages = 0
        self.stops = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        last = 0
        while not self.stops.is_set():
            rows = self.ask(f"SELECT epoch, offsets FROM tidemark_ledger WHERE epoch > {last} ORDER BY epoch;")
            at = time.time()
            for row in rows:
                epoch, offsets = row.split("|")
                for low, high in re.findall(r"\[(\d+),(\d+)\)", offsets):
                    self.seen.append((int(low), int(high), at))
                    self.messages += int(high) - int(low)
                last = int(epoch)
            self.stops.wait(PAUSE_SECONDS)

    def ask(self, sql):
        self.psql.stdin.write(sql + "\n\\echo :end\n")
        rows = []
        for line in self.psql.stdout:
            if line == ":end\n":
                return rows
            rows.append(line.rstrip("\n"))
        self.stops.set()
        return rows

    def stop(self):
        self.stops.set()
        self.thread.join()
        self.psql.stdin.close()
        self.psql.wait()

    def latencies(self, changes):
        """Seconds from the change to being visible, sorted; `changes`: pairs of message number and time."""
        ranges = sorted(self.seen)
        lows = [low for low, _, _ in ranges]
        found = []
        for number, changed in changes:
            at = bisect.bisect_right(lows, number) - 1
            if at >= 0 and number < ranges[at][1]:
                found.append(ranges[at][2] - changed)
        return sorted(found)


def quantile(values, share):
    """The value below which `share` of the sorted values are."""
    return values[round((len(values) - 1) * share)]


def slope(points):
    """Of the straight line through `(x, y)` that is closest to them (least squares)."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
