"""What brokers do to the ids of a queue's messages: gaps, and other spools."""

import time

from checks import Ledger
from waiting import check, wait_for

from .scenario import Scenario

# Ids per message of ours: the others are those of other queues.
STEP = 100
# What docs/FAILURES.md promises of the ledger: so many ranges of offsets per spool, beside those of the newest epoch.
KEPT_RANGES = 10_000


class SharedBroker(Scenario):
    name = "F16"
    title = "a broker shared with other queues, 5 million ids: ranges in the ledger and memory stay flat"
    settings = {
        "broker": f"ids_between = {STEP - 1}",
        # None beside those that the broker leaves out by itself.
        "neighbours": 0,
        "config": {"checkpoint": "interval = '1s'"},
    }

    def run(self):
        self.stack.start_processor()
        self.report.did(f"processor ready after {self.stack.wait_until_ready():.1f} s; a message of ours in {STEP} of the broker")
        samples, self.published = [], 0
        rounds = self.size(10, 100)
        for number in range(rounds):
            self.publish(number)
            samples.append(self.sample())
        for ids, ranges, memory in samples:
            self.report.measured(f"{ids / 1e6:.1f} million ids", f"{ranges} ranges in the ledger, {memory} MiB")
        check(samples[-1][0] > self.size(5_000_000, 50_000_000), f"{samples[-1][0]} ids were given out")
        self.judge(samples)
        self.restart()
        self.everything_is_there()

    def publish(self, number):
        """Nothing but updates of the same customers, so that the state does not grow."""
        events = 5_200
        more = ["--tables", "0,0,1,0,0", "--operations", "0,1,0"]
        self.stack.generate(events, "max", seed=number + 1, more=more).acknowledged()
        self.published += events
        self.wait_for_rows()

    def wait_for_rows(self):
        """Rows, because the ledger forgets how many there were; no event is a tombstone here."""
        sql = "SELECT (SELECT count(*) FROM cdc_customers) + (SELECT count(*) FROM cdc_products)"
        wait_for(
            lambda: self.stack.number(sql) >= self.published,
            f"{self.published} rows; {self.stack.log_tail('processor')}",
            every=0.2,
        )

    def sample(self):
        wait_for(lambda: self.stack.number("SELECT count(*) FROM tidemark_ledger") == 1, "the ledger is compacted")
        (ranges,) = Ledger(self.stack).ranges.values()
        kept = self.stack.number("SELECT count(*) FROM tidemark_committed, unnest(offsets)")
        return ranges[-1][1], kept, self.stack.memory_mib()

    def judge(self, samples):
        most = max(ranges for _, ranges, _ in samples)
        check(most <= KEPT_RANGES, f"{most} ranges in the ledger")
        # The first part is warming up.
        settled = samples[len(samples) // 3 :]
        growth = settled[-1][2] - settled[0][2]
        passed = (settled[-1][0] - settled[0][0]) / 1e6
        self.report.measured("memory", f"grew by {growth} MiB over {passed:.1f} million ids")
        check(growth <= 16, f"memory grew by {growth} MiB over {passed:.1f} million ids")

    def restart(self):
        """With all that the ledger remembers."""
        self.stack.end_processor()
        started = time.monotonic()
        self.stack.start_processor()
        self.stack.wait_until_ready()
        seconds = time.monotonic() - started
        self.report.measured("restart", f"ready after {seconds:.1f} s, {self.stack.memory_mib(peak=True)} MiB at most")

    def wait_for_all(self, count):
        self.wait_for_rows()


class SecondSite(Scenario):
    name = "F19"
    title = "broker failover to a second site and back: changes after the failback are newer than all before"

    def run(self):
        events = self.size(1_500, 10_000)
        self.begin(events)
        pid = self.stack.processor_pid()
        self.settle("the first site")
        for site, seed in [("broker-2", 2), ("broker", 3)]:
            # Killed: what was committed and not acknowledged in time comes again after the failback.
            self.stack.stop_server("broker", kill=True)
            self.stack.site = site
            self.stack.start_server("broker")
            self.stack.generate(events, "5000/min", seed=seed)
            self.settle({"broker-2": "failover to the second site", "broker": "failback to the first site"}[site])
        check(self.stack.processor_pid() == pid, "the processor is the same process")
        generations = Ledger(self.stack).generations
        spools = [spool for _, spool, _ in generations]
        check(len(spools) == 3 and spools[0] == spools[2] != spools[1], f"a generation for each change of site: {generations}")
        self.report.measured("generations", ", ".join(f"{number}: spool {spool:016x} from id {first}" for number, spool, first in generations))
        duplicates = self.stack.metrics().sum("cdc_duplicate_messages_total")
        self.report.measured("messages that came again and were known", f"{duplicates:.0f}")
        self.everything_is_there()

    def settle(self, what):
        total = sum(generation.acknowledged() for generation in self.stack.generations)
        self.stack.wait_for_commits(total)
        self.report.did(f"{what}: {total} messages committed so far")
