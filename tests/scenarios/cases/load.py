"""Paced loads, measured: throughput, publish to visible, errors, lag, memory over time."""

import time

from checks import Offset, each_is_there_once, results_are_their_selects
from events import TABLES
from observer import Observer, quantile, slope
from waiting import check, last, wait_for

from .scenario import Scenario


# What a load must keep, by name: the unit and the default. `--limit NAME=NUMBER` sets another.
LIMITS = {
    "throughput": ("percent of the published rate, at least", 90),
    "p50": ("ms from the change to being visible, at most", 1_000),
    "p99": ("ms from the change to being visible, at most", 10_000),
    "queue": ("seconds of the published rate that wait in the queue, at most", 10),
    "slope": ("MiB an hour that memory grows by, for each 1,000 events/min, at most; full form", 25),
    "catch_up": ("seconds from the start until a backlog is gone (recovery), at most", 60),
}


def limits(texts):
    """The defaults, and `NAME=NUMBER` over them."""
    found = {name: default for name, (_, default) in LIMITS.items()}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in LIMITS:
            raise ValueError(f"there is no limit '{name}'; there are {', '.join(LIMITS)}")
        found[name] = float(number)
    return found


class Load(Scenario):
    """Its short form has as many seconds as the full one has minutes, at the same rate."""

    # The ledger knows all of the full form's ids exactly, so that they can be counted.
    settings = {"neighbours": 0.02}
    per_minute = 0
    minutes = 0

    def __init__(self, stack, report, full, limits):
        super().__init__(stack, report, full)
        self.limits = limits

    def run(self):
        self.seconds = self.size(self.minutes, self.minutes * 60)
        self.stack.start_processor()
        self.report.did(f"ready after {self.stack.wait_until_ready():.1f} s; {self.per_minute}/min for {self.seconds} s")
        wait_for(lambda: self.stack.query("SELECT to_regclass('tidemark_ledger')")[0][0], "the ledger's table is there")
        observer = self.observer = Observer(self.stack)
        events = self.per_minute * self.seconds // 60
        # By the wall clock, so that an event says when it was published; there is no record of such a run.
        generator = self.stack.publish(events, f"{self.per_minute}/min")
        started, samples = time.monotonic(), []
        self.begun = started
        while observer.messages < events:
            self.step(time.monotonic() - started)
            samples.append(self.sample(time.monotonic() - started))
            check(time.monotonic() - started < self.seconds + 120, f"{observer.messages} of {events} events after all that time")
            last(1)
        acknowledged = generator.acknowledged()
        observer.stop()
        self.stack.wait_for_commits(acknowledged)
        each_is_there_once(self.stack, acknowledged)
        self.judge(acknowledged, observer, samples)
        results_are_their_selects(self.stack)

    def step(self, seconds):
        """What else happens during the load."""

    def sample(self, seconds):
        metrics = self.stack.metrics() if self.stack.is_ready() else None
        return {
            "seconds": round(seconds, 1),
            "rss_mib": self.stack.memory_mib(),
            "queue": metrics and metrics.sum("cdc_queue_messages"),
        }

    def changes(self):
        for table in TABLES.values():
            sql = f"SELECT event_id, extract(epoch FROM source_ts AT TIME ZONE 'UTC') FROM {table}"
            for event_id, changed in self.stack.query(sql):
                yield Offset.of(event_id).number, float(changed)

    def judge(self, events, observer, samples):
        changes = list(self.changes())
        latencies = observer.latencies(changes)
        # From the first change to the last one's being visible.
        took = observer.seen[-1][2] - min(changed for _, changed in changes)
        letters = self.stack.number("SELECT count(*) FROM cdc_dlq")
        # The first part is warming up: an empty state grows.
        settled = [(s["seconds"] / 3600, s["rss_mib"]) for s in samples[len(samples) // 3 :] if s["rss_mib"]]
        results = {
            "rate_per_min": self.per_minute,
            "seconds": self.seconds,
            "events": events,
            "throughput_per_min": round(events / took * 60),
            "p50_ms": round(quantile(latencies, 0.5) * 1000),
            "p99_ms": round(quantile(latencies, 0.99) * 1000),
            "max_ms": round(latencies[-1] * 1000),
            "error_rate": letters / events,
            "most_in_queue": int(max(s["queue"] or 0 for s in samples)),
            "rss_first_mib": samples[0]["rss_mib"],
            "rss_last_mib": samples[-1]["rss_mib"],
            "rss_peak_mib": self.stack.memory_mib(peak=True),
            "rss_slope_mib_per_hour": round(slope(settled), 1) if self.seconds >= 300 else None,
            **self.more_results(),
        }
        self.report.results = results | {"samples": samples}
        for name, value in results.items():
            self.report.measured(name, value)
        check(latencies[-1] >= 0 and len(latencies) > 0, "latencies are measured")
        check(letters == 0, f"{letters} dead letters")
        self.judge_limits(results)

    def more_results(self):
        return {}

    def judge_limits(self, results):
        self.at_most("p50", results["p50_ms"])
        self.at_most("p99", results["p99_ms"])
        self.at_most("queue", results["most_in_queue"] / (self.per_minute / 60))
        self.judge_pace(results)

    def judge_pace(self, results):
        pace = results["throughput_per_min"] * 100 / self.per_minute
        least = self.limits["throughput"]
        check(pace >= least, f"throughput is {pace:.0f} percent of the published rate, {least:g} is the least")
        if results["rss_slope_mib_per_hour"] is not None:
            self.at_most("slope", results["rss_slope_mib_per_hour"] * 1_000 / self.per_minute)

    def at_most(self, name, value):
        unit, _ = LIMITS[name]
        check(value <= self.limits[name], f"{name} is {value:.1f}, the limit is {self.limits[name]:g} ({unit})")


class Baseline(Load):
    name, title, per_minute, minutes = "baseline", "1,000 events/min for 10 minutes", 1_000, 10


class Target(Load):
    name, title, per_minute, minutes = "target", "5,000 events/min for 30 minutes", 5_000, 30


class Peak(Load):
    name, title, per_minute, minutes = "peak", "10,000 events/min for 15 minutes", 10_000, 15


class Sustained(Load):
    name, title, per_minute, minutes = "sustained", "5,000 events/min for 60 minutes", 5_000, 60


class Recovery(Load):
    name, title, per_minute, minutes = "recovery", "the processor killed and started under 5,000 events/min", 5_000, 30
    killed = caught_up = None

    def step(self, seconds):
        if self.killed is None and seconds > self.seconds / 3:
            self.stack.kill_processor()
            # Messages come in for a while with nobody there.
            last(self.size(5, 60))
            self.killed, before = time.monotonic(), self.observer.messages
            self.stack.start_processor()
            wait_for(lambda: self.observer.messages > before, "the first commit after the start", every=0.02)
            self.first_commit = time.monotonic() - self.killed
            wait_for(self.is_caught_up, "the backlog is gone", every=0.02)
            self.caught_up = time.monotonic() - self.killed
            self.report.did(f"killed and started: first commit after {self.first_commit:.1f} s, caught up after {self.caught_up:.1f} s")

    def is_caught_up(self):
        """What was published until a second ago is visible."""
        due = (time.monotonic() - self.begun - 1) * self.per_minute / 60
        return self.observer.messages >= due

    def more_results(self):
        return {
            "start_to_first_commit_s": round(self.first_commit, 1),
            "start_to_caught_up_s": round(self.caught_up, 1),
        }

    def judge_limits(self, results):
        """Changes wait for as long as nothing takes them. What counts is how soon it is over then."""
        self.at_most("catch_up", results["start_to_caught_up_s"])
        self.judge_pace(results)


LOADS = {load.name: load for load in [Baseline, Target, Peak, Sustained, Recovery]}
COLUMNS = {
    "events": "events",
    "throughput_per_min": "per minute",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "error_rate": "errors",
    "most_in_queue": "most in queue",
    "rss_peak_mib": "peak MiB",
    "rss_slope_mib_per_hour": "MiB/h",
}


def table(results):
    """Markdown, of pairs of name and results."""
    lines = ["| load | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, figures in results:
        lines.append(f"| {name} | " + " | ".join(str(figures[column]) for column in COLUMNS) + " |")
    return "\n".join(lines)
