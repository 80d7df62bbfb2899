"""Events that are broken, late or of another time."""

from waiting import check

from .scenario import Scenario

PER_WINDOW = """\
-- writes: postgres cdc_orders_per_window
-- key: window_start
SELECT date_bin(INTERVAL '5 minutes', order_date, TIMESTAMP '1970-01-01 00:00:00') AS window_start,
  COUNT(*) AS orders, SUM(total_amount) AS revenue,
  COALESCE(date_bin(INTERVAL '5 minutes', order_date, TIMESTAMP '1970-01-01 00:00:00') + INTERVAL '5 minutes'
    <= watermark(), FALSE) AS is_final
FROM orders
GROUP BY 1
"""
YEAR_2099 = 4_070_908_800_000_000


class MalformedEvents(Scenario):
    name = "F6"
    title = "malformed JSON and broken XML among good events: dead letters with their bytes, the rest goes on"

    def run(self):
        generation = self.begin(self.size(1_500, 20_000), self.size("10000/min", "10000/min"), more=["--faults", "0.06"])
        self.everything_is_there()
        malformed = sum(event.is_malformed for event in generation.record.events())
        letters = dict(self.stack.query("SELECT error_type, count(*) FROM cdc_dlq GROUP BY 1"))
        self.report.measured("dead letters", ", ".join(f"{count} {kind}" for kind, count in sorted(letters.items())))
        check(malformed > 0, "the generator made malformed events")
        unreadable = self.stack.number("SELECT count(*) FROM cdc_dlq WHERE error_type = 'MALFORMED_JSON'")
        check(unreadable == malformed, f"{malformed} malformed events, {unreadable} dead letters of that type")
        counted = self.stack.metrics().sum("cdc_dead_letters_total")
        check(counted == sum(map(int, letters.values())), f"cdc_dead_letters_total says {counted:.0f}")


class LateData(Scenario):
    name = "F10"
    title = "late and out-of-order orders: windows right, LATE_EVENT by policy, counted"

    @staticmethod
    def dead_letter_policy(folder):
        """`late = 'dlq'`, and no windows longer than 5 minutes, because an order is late when all of its are closed."""
        table = folder / "tables/orders.sql"
        text = table.read_text()
        assert "ttl = '1h'" in text
        table.write_text(text.replace("ttl = '1h'", "ttl = '1h', late = 'dlq'"))
        (folder / "transforms/order_stats.sql").unlink()
        (folder / "transforms/order_stats.test.yaml").unlink()
        (folder / "transforms/orders_per_window.sql").write_text(PER_WINDOW)

    settings = {"edit_sql": dead_letter_policy}

    def run(self):
        # A simulated clock: twenty minutes of the shop, as fast as the broker takes them.
        events = self.size(12_000, 60_000)
        self.stack.start_processor()
        self.stack.wait_until_ready()
        rate = f"{events // 20}/min"
        self.report.did(f"{events} events at a simulated {rate}, a third of the orders 10 s to 4 min late")
        self.stack.generate(events, "max", more=["--clock-rate", rate, "--late", "0.33"])
        self.everything_is_there()
        late = self.stack.number("SELECT count(*) FROM cdc_dlq WHERE error_type = 'LATE_EVENT'")
        metrics = self.stack.metrics()
        counted = metrics.sum("cdc_late_rows_total", 'outcome="dead_letter"')
        final = self.stack.number("SELECT count(*) FROM cdc_orders_per_window WHERE is_final")
        self.report.measured("late", f"{late} LATE_EVENT dead letters, {counted:.0f} counted; {final} windows closed")
        check(late > 0, "orders whose windows are all closed are dead letters")
        check(counted == late, "each is counted once")
        check(final > 0, "windows were closed")


class FarFuture(Scenario):
    name = "F12"
    title = "clock jumps and orders dated 2099: other windows unharmed"

    def run(self):
        generation = self.begin(self.size(3_000, 20_000), "10000/min", more=["--misdated", "0.02"])
        self.everything_is_there()
        self.judge(generation)
        # The source's clock jumps: an hour back, then two days forward.
        for start in ["-1 hour", "2 days"]:
            at = self.stack.query(
                f"SELECT to_char(now() AT TIME ZONE 'UTC' + interval '{start}', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
            )[0][0]
            self.stack.generate(self.size(600, 3_000), "10000/min", start=at, seed=2)
            self.stack.generations[-1].acknowledged()
            self.report.did(f"the source's clock jumped by {start}")
        self.everything_is_there()

    def judge(self, generation):
        dated = 0
        for event in generation.record.events():
            if not event.is_tombstone and event.table == "cdc_orders":
                dated += event.row()["order_date"] == YEAR_2099 and event.envelope["op"] == "c"
        watermark = self.stack.query("SELECT max(watermark) FROM tidemark_ledger")[0][0]
        doubted = self.stack.metrics().sum("cdc_doubted_times_total")
        final = self.stack.number("SELECT count(*) FROM cdc_order_stats WHERE is_final AND window_start > '2090-01-01'")
        future = self.stack.number("SELECT count(*) FROM cdc_order_stats WHERE window_start > '2090-01-01'")
        self.report.measured(
            "dated 2099", f"{dated} orders, in {future} windows of their own; {doubted:.0f} times doubted; watermark {watermark}"
        )
        check(dated > 0, "the generator made such orders")
        check(watermark < "2090", f"the watermark is {watermark}")
        check(doubted >= dated, "each is counted")
        check(final == 0 and future > 0, "their windows are there and open")
