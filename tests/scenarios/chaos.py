"""F15: all of the faults at random, for a while, with a seed; exact at the end."""

import random
import time

from cases.pressure import SLOW_COMMITS
from cases.scenario import Scenario
from waiting import last, wait_for


class Chaos(Scenario):
    name = "F15"
    title = "all faults at random"
    settings = {"partitions": True, "config": {"sink.postgres": "breaker_pause = '3s'"}}

    def __init__(self, stack, report, full, seed=1, seconds=None):
        super().__init__(stack, report, full)
        self.random = random.Random(seed)
        self.seconds = seconds or self.size(60, 900)

    def run(self):
        # Longer than the faults, because the last of them takes its time.
        self.begin((self.seconds + 90) * 5_000 // 60, more=["--faults", "0.01"])
        faults = [
            self.kill_processor,
            self.restart_processor,
            self.freeze_processor,
            self.restart_broker,
            self.kill_broker,
            self.restart_postgres,
            self.kill_postgres,
            self.slow_commits,
        ]
        if getattr(self.stack, "can_cut", lambda: True)():
            faults.append(self.cut)
        # A generator whose first connection fails gives up, as it should.
        self.wait_for_more(1)
        end, count = time.monotonic() + self.seconds, 0
        while time.monotonic() < end:
            fault = self.random.choice(faults)
            self.report.did(fault.__name__.replace("_", " "))
            fault()
            count += 1
            self.wait_for_more(self.random.randint(1, 200))
        self.report.measured("faults", f"{count} in {self.seconds} s")
        self.everything_is_there()

    def a_while(self):
        last(self.random.uniform(0.5, 6))

    def kill_processor(self):
        self.stack.kill_processor()
        self.stack.start_processor()

    def restart_processor(self):
        self.stack.restart_processor()

    def freeze_processor(self):
        self.stack.signal_processor("STOP")
        self.a_while()
        self.stack.signal_processor("CONT")

    def restart_broker(self):
        self.restart("broker", kill=False)

    def kill_broker(self):
        self.restart("broker", kill=True)

    def restart_postgres(self):
        self.restart("postgres", kill=False)

    def kill_postgres(self):
        self.restart("postgres", kill=True)

    def restart(self, server, kill):
        self.stack.stop_server(server, kill=kill)
        self.a_while()
        self.stack.start_server(server)

    def slow_commits(self):
        self.stack.query(SLOW_COMMITS.format(seconds=1))
        self.a_while()
        wait_for(self.is_fast_again, "the trigger is dropped")

    def is_fast_again(self):
        self.stack.query("DROP TRIGGER IF EXISTS slow ON tidemark_ledger")
        return True

    def cut(self):
        self.stack.cut(self.random.choice(["broker", "postgres"]), self.random.choice(["both", "to", "from"]))
        self.a_while()
        self.stack.heal()
