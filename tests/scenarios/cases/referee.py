"""The referee itself: it must see each kind of damage, or no PASS means anything."""

from checks import all_is_exact
from waiting import Failed, check

from .scenario import Scenario


class Referee(Scenario):
    name = "referee"
    title = "the exact comparison sees one lost, doubled, changed or misplaced row"

    # What somebody does to the database, and a word of the complaint that must follow.
    damages = {
        "DELETE FROM cdc_orders WHERE ctid = (SELECT min(ctid) FROM cdc_orders)": "is lost",
        "UPDATE cdc_orders SET total_amount = total_amount + 0.01 WHERE ctid = (SELECT min(ctid) FROM cdc_orders)": (
            "total_amount is"
        ),
        "INSERT INTO cdc_customers (customer_id, operation, event_id, change_seq) "
        "SELECT 1, 'c', event_id, 1 FROM cdc_orders LIMIT 1": "landed twice",
        "UPDATE cdc_orders_enriched SET item_count = item_count + 1 "
        "WHERE order_id = (SELECT min(order_id) FROM cdc_orders_enriched)": "cdc_orders_enriched differ",
        "DELETE FROM cdc_order_stats WHERE ctid = (SELECT min(ctid) FROM cdc_order_stats)": "cdc_order_stats differ",
        "DELETE FROM tidemark_ledger WHERE epoch = (SELECT min(epoch) FROM tidemark_ledger)": "the ledger",
        "INSERT INTO tidemark_ledger SELECT pipeline, epoch + 1000000, queue, run_id, spools, offsets, landed, results, "
        "dead_letters, watermark, opened_at, closed_at FROM tidemark_ledger WHERE epoch = (SELECT min(epoch) FROM tidemark_ledger)": "in the ledger twice",
        "DELETE FROM cdc_dlq WHERE id = (SELECT min(id) FROM cdc_dlq WHERE error_type = 'MALFORMED_JSON')": "is lost",
        "UPDATE cdc_dlq SET original_payload = 'x'": "with other bytes",
        "UPDATE cdc_products SET change_seq = change_seq + (1::bigint << 44) WHERE event_id = (SELECT min(event_id) FROM "
        "cdc_products WHERE operation = 'r')": "does not show the newest rows",
    }

    def run(self):
        self.begin(800, "6000/min", more=["--faults", "0.05"])
        self.everything_is_there()
        self.stack.end_processor()
        acknowledged = self.stack.committed()
        for damage, complaint in self.damages.items():
            # A copy of each table that is touched, put back afterwards.
            table = damage.replace("INSERT INTO ", "").replace("DELETE FROM ", "").replace("UPDATE ", "").split()[0]
            self.stack.query(f"CREATE TABLE before_damage AS SELECT * FROM {table}; {damage}")
            try:
                all_is_exact(self.stack, self.report, acknowledged)
                raise AssertionError(f"nobody sees: {damage}")
            except Failed as seen:
                check(complaint in str(seen), f"'{complaint}' was to be said, not '{seen}', after {damage}")
                self.report.did(f"seen: {str(seen)[:90]}")
            self.put_back(table)
        all_is_exact(self.stack, self.report, acknowledged)

    def put_back(self, table):
        generated = self.stack.query(
            f"SELECT 1 FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attidentity = 'a' AND attnum > 0"
        )
        overriding = "OVERRIDING SYSTEM VALUE" if generated else ""
        self.stack.query(
            f"BEGIN; DELETE FROM {table}; INSERT INTO {table} {overriding} SELECT * FROM before_damage; "
            "DROP TABLE before_damage; COMMIT"
        )
