"""Too much at once: memory, a slow target, full disks."""

import time

from waiting import Failed, check, last, wait_for

from .scenario import Scenario


# Every commit takes so much longer.
SLOW_COMMITS = (
    "CREATE OR REPLACE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$; "
    "CREATE TRIGGER slow BEFORE INSERT ON tidemark_ledger FOR EACH ROW EXECUTE FUNCTION be_slow()"
)


class MemoryPressure(Scenario):
    name = "F8"
    title = "256 MiB of memory, a large backlog, large XML: back-pressure, no OOM kill"
    settings = {"memory": "256m"}

    def run(self):
        # Documents of some 30 KB: what waits is far more than the memory.
        large = self.size(4_000, 20_000)
        small = self.size(60_000, 1_000_000)
        self.stack.generate(large, "max", more=["--xml-items", "500"])
        self.stack.generations[0].acknowledged()
        self.stack.generate(small, "max", seed=2)
        self.stack.generations[1].acknowledged()
        self.report.did(f"a backlog of {large} events with large XML and {small} others")
        self.stack.start_processor()
        started = time.monotonic()
        total, peak, held = large + small, 0, 0

        def all_committed():
            nonlocal peak, held
            peak = max(peak, self.stack.memory_mib(peak=True))
            held = max(held, self.stack.memory_mib(kind="RssAnon"))
            check(self.stack.processor_pid() is not None, f"the processor runs; {self.stack.log_tail('processor')}")
            return self.stack.committed() >= total

        wait_for(all_committed, f"{total} messages committed; {self.stack.log_tail('processor')}", self.size(300, 1_800), 0.5)
        seconds = time.monotonic() - started
        killed = self.stack.kills_for_memory()
        check(killed == 0, f"the kernel has ended the processor for want of memory {killed} times")
        self.report.measured("peak memory", f"{peak} MiB of 256; {held} at most without what the kernel can read again, as the program itself")
        self.report.measured("caught up", f"{total} messages in {seconds:.0f} s, {total / seconds:.0f}/s")
        self.everything_is_there()


class SlowConsumer(Scenario):
    name = "F9"
    title = "slow sink, then a fast one: the queue builds, publishers feel it only at the quota, it catches up"
    # Stored messages are some 1.5 KB each.
    settings = {"queue": "quota_mb = 4"}

    def run(self):
        self.begin(500, "10000/min").acknowledged()
        self.wait_for_all(500)
        self.stack.query(SLOW_COMMITS.format(seconds=8))
        self.report.did("every commit takes 8 s more")
        started = time.monotonic()
        paced = self.size(1_000, 1_500)
        stored = self.stack.generate(paced, "6000/min", seed=2).acknowledged()
        check(stored == paced, f"below the quota none is refused: {stored} of {paced} stored")
        seconds = time.monotonic() - started
        behind = 500 + paced - self.stack.committed()
        check(behind > 0, "the queue builds")
        self.report.measured(
            "published below the quota", f"{paced} events in {seconds:.0f} s, none refused; {behind} not committed yet"
        )
        depth = wait_for(lambda: self.depth_of_all(500 + paced), "the broker is asked again and tells that all of them wait")
        self.report.measured("in the queue, by the broker's word", f"{depth:.0f}")
        # More than the quota holds: the broker refuses, and the publisher hears of it.
        flood = self.stack.generate(8_000, "max", seed=3)
        accepted = flood.acknowledged()
        check(0 < accepted < 8_000, f"at the quota the publisher feels it: {accepted} of 8000 stored")
        self.report.measured("published beyond the quota", f"{accepted} of 8000 stored, the others refused")
        self.stack.query("DROP TRIGGER slow ON tidemark_ledger")
        self.report.did("commits are fast again")
        removed = time.monotonic()
        self.wait_for_all(500 + paced + accepted)
        self.report.measured("caught up", f"{time.monotonic() - removed:.1f} s later")
        self.everything_is_there()

    def depth_of_all(self, published):
        """How many wait, once that is known of a time after the last was published; it is asked for now and then."""
        depth = self.stack.metrics().sum("cdc_queue_messages")
        # Looked at after the depth, so that it can only have become less.
        return depth if depth >= published - self.stack.committed() else None


class FullDisks(Scenario):
    name = "F11"
    title = "disk full for checkpoints, then for Postgres: said on /ready, goes on by itself, nothing lost"
    settings = {"small_disks": 256, "config": {"checkpoint": "interval = '1s'", "sink.postgres": "breaker_pause = '3s'"}}

    def run(self):
        self.begin(self.size(4_500, 15_000))
        self.wait_for_more()
        filler = self.fill("checkpoints")
        reason = wait_for(lambda: self.condition("checkpoint"), "/ready tells of the checkpoints")
        self.report.did(f"checkpoint disk full; /ready: {reason}")
        check(self.stack.is_ready(), "rows go on to Postgres without checkpoints")
        self.wait_for_more(200)
        filler.unlink()
        wait_for(lambda: not self.condition("checkpoint"), "checkpoints are written again")
        self.report.did("checkpoint disk has room again: checkpoints are written")

        filler = self.fill("data")
        reason = wait_for(lambda: self.condition("target"), "/ready tells of the target")
        self.report.did(f"Postgres's disk full; /ready: {reason}")
        last(self.size(5, 60))
        check(self.stack.processor_pid() is not None, "the processor waits")
        filler.unlink()
        freed = time.monotonic()
        # Postgres ends where it can't write its log; whoever runs it starts it again.
        self.stack.start_server("postgres")
        self.wait_for_more(200)
        self.report.measured("room to 200 further messages", f"{time.monotonic() - freed:.1f} s")
        self.everything_is_there()

    def condition(self, part):
        return (self.stack.readiness() or {}).get("conditions", {}).get(part)

    def fill(self, disk):
        """Takes all of it, to the last byte, again and again while others still free some."""
        path = self.stack.folder / disk / "filler"
        with open(path, "ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError:
                pass
        if not path.stat().st_size:
            raise Failed(f"{path} could not be filled")
        return path
