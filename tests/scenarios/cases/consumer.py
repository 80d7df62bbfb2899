"""Faults of the processor itself."""

import time

from waiting import check, last, wait_for

from .scenario import Scenario


class ConsumerCrash(Scenario):
    name = "F1"
    title = "consumer crash under 5,000 events/min: resumes, nothing lost, nothing twice"

    def run(self):
        kills = self.size(3, 12)
        self.begin(self.size(1_500, 10_000))
        took = []
        for _ in range(kills):
            self.wait_for_more(self.size(100, 600))
            self.stack.kill_processor()
            started = time.monotonic()
            self.stack.start_processor()
            self.wait_for_more(1)
            took.append(time.monotonic() - started)
            self.report.did(f"SIGKILL and a new start; the next commit {took[-1]:.1f} s after the kill")
        self.report.measured("kill to next commit", f"{max(took):.1f} s at most")
        duplicates = self.stack.metrics().sum("cdc_duplicate_messages_total")
        self.report.measured("redelivered messages that the ledger knew, last start", f"{duplicates:.0f}")
        self.everything_is_there()


class ConsumerRestart(Scenario):
    name = "F2"
    title = "consumer restart: drains, checkpoints, resumes; committed work does not come into results again"
    settings = {"config": {"checkpoint": "interval = '2s'"}}

    def run(self):
        self.begin(self.size(1_200, 10_000))
        took = []
        for _ in range(self.size(2, 8)):
            self.wait_for_more(self.size(150, 600))
            seconds, code = self.stack.end_processor()
            took.append(seconds)
            check(code == 0, f"the processor ended with {code}; {self.stack.log_tail('processor')}")
            said = self.stack.logs("processor").rstrip().splitlines()[-1]
            check("everything that was acknowledged is committed" in said, f"its last words: {said}")
            committed = self.stack.committed()
            self.stack.start_processor()
            self.wait_for_more(1)
            self.report.did(f"SIGTERM at {committed} committed messages: ended in {seconds:.1f} s with code 0, resumed")
        self.report.measured("SIGTERM to the end", f"{max(took):.1f} s at most")
        self.everything_is_there()
        self.checkpoints_are_complete()

    def checkpoints_are_complete(self):
        """Names of checkpoint files say which epochs they hold."""
        last_epoch = self.stack.number("SELECT max(epoch) FROM tidemark_ledger")
        files = wait_for(
            lambda: [f for f in self.stack.checkpoint_files() if int(f.rsplit("-", 1)[1].split(".")[0]) >= last_epoch],
            f"a checkpoint of epoch {last_epoch}; there are {self.stack.checkpoint_files()[-3:]}",
            30,
        )
        self.report.measured("newest checkpoint", f"{files[-1]}, and the ledger ends at epoch {last_epoch}")


class FrozenConsumer(Scenario):
    name = "F13"
    title = "processor stopped (SIGSTOP) and continued while a second one stands by: fenced, nothing twice"
    settings = {"processors": 2, "config": {"source": "keep_alive = '1s'"}}

    def run(self):
        seconds = self.size(20, 60)
        self.begin(self.size(3_000, 8_000))
        self.stack.start_processor(1)
        active = active_processor(self.stack)
        standby = 1 - active
        self.wait_for_more()
        self.stack.signal_processor("STOP", active)
        stopped = time.monotonic()
        self.report.did(f"SIGSTOP to processor {active}")
        self.stack.wait_until_ready(standby)
        self.wait_for_more(1)
        takeover = time.monotonic() - stopped
        self.report.did(f"processor {standby} has committed, {takeover:.1f} s later")
        last(max(0, seconds - takeover))
        self.stack.signal_processor("CONT", active)
        self.report.did(f"SIGCONT after {time.monotonic() - stopped:.0f} s")
        self.wait_for_more(100)
        self.report.measured("take-over", f"{takeover:.1f} s")
        # The usual end of a processor that is out of memory.
        self.stack.kill_processor(active_processor(self.stack))
        self.report.did("SIGKILL to the active one, as an OOM kill")
        self.wait_for_more(1)
        self.everything_is_there()


class TwoProcessors(Scenario):
    name = "F14"
    title = "two processors on one exclusive queue: one active, the other takes over within seconds, nothing twice"
    settings = {"processors": 2}

    def run(self):
        self.begin(self.size(2_000, 8_000))
        self.stack.start_processor(1)
        took = []
        for _ in range(self.size(2, 6)):
            active = active_processor(self.stack)
            standby = 1 - active
            says = wait_for(
                lambda: "standing by" in (self.stack.readiness(standby) or {}).get("conditions", {}).get("source", ""),
                "the second processor says that it stands by",
            )
            check(says and not self.stack.is_ready(standby), "only one is ready")
            self.wait_for_more(100)
            self.stack.kill_processor(active)
            killed = time.monotonic()
            self.stack.wait_until_ready(standby)
            self.wait_for_more(1)
            took.append(time.monotonic() - killed)
            self.report.did(f"killed the active one; the other committed {took[-1]:.1f} s later")
            self.stack.start_processor(active)
        check(max(took) < 10, f"the take-over took {max(took):.1f} s")
        self.report.measured("take-over", f"{max(took):.1f} s at most")
        self.everything_is_there()


def active_processor(stack):
    """The one that is ready; waits until it is clear which."""

    def only_one():
        ready = [number for number in (0, 1) if stack.is_ready(number)]
        return ready if len(ready) == 1 else None

    return wait_for(only_one, "one of two processors is ready")[0]
