"""Databases that forget what was acknowledged."""

import json
import re

from checks import Ledger, Offset, all_is_exact
from waiting import check, wait_for

from .scenario import Scenario


class Forgetful(Scenario):
    """The product must say which offsets are lost, and lose nothing that the broker still has."""

    # From the first to the last offset that the processor has named as it ended.
    said = ()

    def expect_the_word(self):
        """Until the processor has ended, with what is lost; the number by which an operator accepts it."""
        wait_for(
            lambda: self.stack.processor_pid() is None,
            f"the processor ends, because the database has lost epochs; {self.stack.log_tail('processor')}",
        )
        said = self.stack.logs("processor").rstrip().splitlines()[-1]
        found = re.search(r"the database has lost .*?, (\d+) to (\d+): .*--accept-lost-epochs (\d+)", said)
        check(found, f"its last words name what is lost, and the way on: {said}")
        self.report.did(f"the processor has ended: {said[said.index('the database'):][:130]}...")
        offsets = sorted(map(Offset.of, re.findall(r"rmid1:[0-9a-f-]+", said)))
        check(offsets, f"it names offsets: {said}")
        offsets = sorted([*offsets, *self.said])
        self.said = offsets[0], offsets[-1]
        return found[3]

    def go_on(self):
        """An operator has read it. Without that, it ends again."""
        self.stack.start_processor()
        self.stack.env["TIDEMARK_ACCEPT_LOST_EPOCHS"] = self.expect_the_word()
        self.stack.start_processor()
        self.stack.wait_until_ready()
        self.report.did("the loss is accepted, and the processor goes on")

    def judge(self, before):
        """`before`: what the database had committed before it forgot."""
        acknowledged = sum(generation.acknowledged() for generation in self.stack.generations)
        # What was committed and not yet acknowledged comes again, and so does what nothing has taken yet.
        missing = wait_for(lambda: self.missing(before, acknowledged), "all is there but what was lost", every=0.5)
        check(missing, "something was lost")
        listed = self.listed()
        unlisted = [offset for offset in missing if not any(first <= offset <= last for first, last in listed)]
        # Of the last seconds before the primary died no checkpoint knows; the processor did, and has said it.
        unnamed = [offset for offset in unlisted if not self.said[0] <= offset <= self.said[1]]
        check(not unnamed, f"lost and not named: {unnamed[:5]}")
        self.report.measured(
            "lost",
            f"{len(missing)} messages of {acknowledged}, all of them named; {len(missing) - len(unlisted)} by "
            f"tidemark_lost_epochs, {len(unlisted)} by the processor that had committed them",
        )
        all_is_exact(self.stack, self.report, acknowledged, lost=missing)

    def missing(self, before, acknowledged):
        """What was committed and is not any more, once everything else is there."""
        now = Ledger(self.stack)
        missing = frozenset(before - now.offsets())
        return missing if now.count() + len(missing) >= acknowledged else None

    def listed(self):
        rows = self.stack.query("SELECT offsets FROM tidemark_lost_epochs")
        return [(Offset.of(first), Offset.of(last)) for row in rows for first, last in json.loads(row[0])["cdc"]]


class LaggingStandby(Forgetful):
    name = "F17"
    title = "asynchronous failover of Postgres to a standby that lacks epochs: their offsets are named, nothing else is lost"
    settings = {"copies": True, "partitions": True, "config": {"sink.postgres": "breaker_pause = '3s'", "checkpoint": "interval = '1s'"}}

    def run(self):
        self.begin(self.size(4_000, 15_000))
        self.wait_for_more(200)
        self.stack.start_standby("standby")
        self.report.did("a standby follows the primary")
        self.wait_for_more(200)
        self.stack.cut("standby")
        self.wait_for_more(self.size(300, 3_000))
        self.stack.stop_server("postgres", kill=True)
        self.stack.promote("standby")
        self.report.did(f"the primary is killed, the standby promoted, which ends with {self.newest()}")
        self.expect_the_word()
        self.go_on()
        self.judge(self.stack.offsets_of("postgres"))

    def newest(self):
        return f"epoch {self.stack.number('SELECT max(epoch) FROM tidemark_ledger')}"


class RestoredBackup(Forgetful):
    name = "F18"
    title = "Postgres restored from yesterday while no processor runs: the start names the lost offsets, nothing else is lost"
    settings = {"copies": True, "config": {"checkpoint": "interval = '1s'"}}

    def run(self):
        self.begin(self.size(3_000, 15_000))
        self.wait_for_more(300)
        self.stack.back_up("yesterday")
        self.report.did("a backup is taken")
        self.wait_for_more(self.size(500, 5_000))
        seconds, code = self.stack.end_processor()
        check(code == 0, f"the processor ended with {code}")
        self.stack.stop_server("postgres")
        self.stack.database = "yesterday"
        self.stack.start_server("postgres")
        self.report.did("PostgreSQL is that of yesterday")
        self.stack.start_processor()
        self.expect_the_word()
        self.go_on()
        self.judge(self.stack.offsets_of("postgres"))
