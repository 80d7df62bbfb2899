"""Faults of what the processor talks to."""

import json
import time
import urllib.request

from stack.settings import ROOT
from waiting import Skipped, check, last, wait_for

from .scenario import Scenario


class BrokerRestart(Scenario):
    name = "F3"
    title = "broker restart: the processor reconnects by itself and resumes"

    def run(self):
        self.begin(self.size(1_500, 10_000))
        pid, took = self.stack.processor_pid(), []
        for number in range(self.size(2, 6)):
            self.wait_for_more(self.size(100, 600))
            is_kill = number % 2 == 1
            self.stack.stop_server("broker", kill=is_kill)
            last(self.size(2, 10))
            self.stack.start_server("broker")
            back = time.monotonic()
            self.wait_for_more(1)
            took.append(time.monotonic() - back)
            how = "killed" if is_kill else "stopped"
            self.report.did(f"broker {how} and started; the next commit {took[-1]:.1f} s after it was back")
        check(self.stack.processor_pid() == pid, "the processor is the same process")
        self.report.measured("broker back to next commit", f"{max(took):.1f} s at most")
        self.everything_is_there()


class PostgresDown(Scenario):
    name = "F4"
    title = "Postgres down for 60 s: breaker opens, memory flat, nothing acknowledged, resumes"

    def run(self):
        seconds = self.size(60, 120)
        self.begin(self.size(7_500, 15_000))
        self.wait_for_more(self.size(300, 1_000))
        pid = self.stack.processor_pid()
        self.stack.stop_server("postgres")
        stopped = time.monotonic()
        self.report.did("Postgres stopped")
        wait_for(lambda: not self.stack.is_ready(), "/ready says that the target is away")
        last(5)
        memory, states, depths = [], set(), []
        while time.monotonic() - stopped < seconds:
            memory.append(self.stack.memory_mib())
            metrics = self.stack.metrics()
            states.add(metrics.sum("cdc_breaker_state", 'target="postgres"'))
            depths.append(metrics.sum("cdc_queue_messages"))
            last(1)
        reason = self.stack.readiness()["conditions"].get("target")
        self.report.did(f"/ready: {reason}")
        self.stack.start_server("postgres")
        back = time.monotonic()
        self.wait_for_more(1)
        took = time.monotonic() - back
        self.report.measured("Postgres back to next commit", f"{took:.1f} s (breaker_pause is 30 s)")
        growth = max(memory) - memory[0]
        self.report.measured("memory while it was down", f"{memory[0]} MiB at first, {max(memory)} MiB at most")
        check(2.0 in states, f"the breaker opens; cdc_breaker_state was {sorted(states)}")
        check(growth <= 32, f"memory grew by {growth} MiB")
        check(self.stack.processor_pid() == pid, "the processor is the same process")
        self.report.measured("messages in the queue while it was down", f"{depths[0]:.0f} to {depths[-1]:.0f}")
        check(depths == sorted(depths) and depths[-1] > depths[0], f"nothing is acknowledged: {depths}")
        self.everything_is_there()


class RestUnavailable(Scenario):
    name = "F5"
    title = "REST API answers 503, then refuses: retried with backoff, then delivered or a dead letter"
    settings = {
        "api": True,
        "edit_sql": lambda folder: [
            (folder / "transforms" / name).write_text((ROOT / "sql/alerts" / name).read_text())
            for name in ["order_events.sql", "item_events.sql"]
        ],
    }

    def run(self):
        self.begin(self.size(1_500, 8_000))
        self.wait_for_more()
        self.faults(unavailable_percent=100)
        self.report.did("the API answers 503 to everything")
        last(self.size(10, 60))
        failed = self.requests("failed")
        check(failed > 0, "the processor has tried")
        waiting = self.outbox()
        check(waiting > 0, "rows wait in the outbox")
        self.report.measured("while it answered 503", f"{failed:.0f} attempts, {waiting} rows waited in the outbox")
        self.faults(refuse_percent=20)
        self.report.did("the API takes rows again, and refuses one in five with 400")
        wait_for(lambda: self.requests("refused") > 5 and self.outbox() < waiting, "rows are delivered and refused")
        self.faults()
        self.report.did("the API takes all rows")
        self.everything_is_there()
        self.each_row_has_an_end()

    def faults(self, **percents):
        url = f"http://{self.stack.api_address()}/faults"
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(url, json.dumps(percents).encode(), headers, method="PUT")
        urllib.request.urlopen(request, timeout=10).close()

    def requests(self, outcome):
        return self.stack.metrics().sum("cdc_rest_requests_total", f'outcome="{outcome}"')

    def outbox(self):
        return self.stack.number("SELECT count(*) FROM tidemark_outbox WHERE delivered_at IS NULL")

    def each_row_has_an_end(self):
        """Each change of an order and an item was taken by the API once, or is a dead letter."""
        wait_for(lambda: self.outbox() == 0, "the outbox is empty")
        stats = json.load(urllib.request.urlopen(f"http://{self.stack.api_address()}/stats", timeout=10))
        letters = self.stack.number("SELECT count(*) FROM cdc_dlq WHERE error_type = 'REST_REFUSED'")
        changes = self.stack.number("SELECT (SELECT count(*) FROM cdc_orders) + (SELECT count(*) FROM cdc_order_items)")
        self.report.measured(
            "REST", f"{changes} changes: {stats['rows']} taken by the API, {letters} dead letters; "
            f"{stats['duplicates']} deliveries were repeated under the same key"
        )
        check(letters > 0, "refused rows are dead letters")
        check(stats["rows"] + letters == changes, "every change was delivered or is a dead letter")


class Partition(Scenario):
    name = "F7"
    title = "network partition to the broker and to Postgres, both directions and one only: recovers by itself"
    settings = {"partitions": True}

    def run(self):
        if not getattr(self.stack, "can_cut", lambda: True)():
            raise Skipped("dropping packets of a container needs root, nsenter and iptables")
        seconds = self.size(15, 60)
        cases = [(server, way) for server in ("broker", "postgres") for way in ("both", "to", "from")]
        # The load lasts while connections are made again, too.
        self.begin(self.size(17_000, 50_000))
        pid, took = self.stack.processor_pid(), {}
        for server, way in cases:
            self.wait_for_more()
            self.stack.cut(server, way)
            last(seconds)
            self.stack.heal()
            healed = time.monotonic()
            self.wait_for_more(100)
            took[server, way] = time.monotonic() - healed
            self.report.did(f"{server} cut off for {seconds} s, {way}: 100 commits {took[server, way]:.1f} s after the repair")
        check(self.stack.processor_pid() == pid, "the processor is the same process")
        worst = max(took, key=took.get)
        self.report.measured("repair to 100 further messages", f"{took[worst]:.1f} s at most ({' '.join(worst)})")
        self.everything_is_there()
