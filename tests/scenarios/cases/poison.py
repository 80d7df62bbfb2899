"""Events that no memory, type or target has room for, in 256 MiB: each costs itself."""

import json
import random
import time
from dataclasses import dataclass, field

from checks import Ledger, Offset, stored_letters
from events import TABLES, Event
from stack.base import Generation
from waiting import check, wait_for

from .scenario import Scenario

# What becomes of an event that is no dead letter.
ROW, PASSED = "row", "passed"
# 2100-06-01, in microseconds since 1970.
YEAR_2100 = 4_115_577_600_000_000

NOTES = """\
CREATE TABLE notes (code VARCHAR PRIMARY KEY, body VARCHAR) WITH (source = 'SALES.NOTES')
"""
NOTES_LANDING = """\
CREATE TABLE cdc_notes (
  code TEXT NOT NULL, body TEXT, operation TEXT NOT NULL, source_ts TIMESTAMP, extra_fields JSONB, event_id TEXT NOT NULL UNIQUE,
  change_seq BIGINT NOT NULL, processed_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX cdc_notes_newest ON cdc_notes (code, change_seq DESC);
"""
NOTE_ITEMS = """
[[xml]]
source_table = "SALES.NOTES"
xml_column = "BODY"
target_table = "note_items"
xpath = ".//item"
columns = [{ name = "product_id", path = "@product_id", type = "BIGINT" }]
"""


@dataclass
class Poison:
    """An event, and what is to become of it: the type of its dead letter, ROW or PASSED."""

    name: str
    payload: object
    outcome: str
    topic: str = "cdc/oracle/SALES/POISON/insert"
    properties: dict = field(default_factory=dict)

    def text(self):
        return self.payload if isinstance(self.payload, str) else json.dumps(self.payload)

    def line(self):
        return json.dumps({"topic": self.topic, "payload": self.text(), "properties": self.properties})


class PoisonRecord:
    """As that of a generator; what becomes of the events is judged here."""

    def __init__(self, poisons):
        self.poisons = poisons

    def events(self):
        for poison in self.poisons:
            event = Event(poison.text().encode())
            event.is_opaque = True
            yield event


def envelope(table, row, op="c"):
    now = int(time.time() * 1000)
    source = {"schema": "SALES", "table": table, "ts_ms": now}
    before, after = (row, None) if op == "d" else (None, row)
    return {"before": before, "after": after, "source": source, "op": op, "ts_ms": now}


def order(number, **more):
    made = int(time.time() * 1_000_000)
    row = {"ORDER_ID": 9_000_000_000 + number, "CUSTOMER_ID": 1, "ORDER_DATE": made, "STATUS": "PENDING"}
    row |= {"TOTAL_AMOUNT": "10.00", "SHIPPING_INFO": None, "CREATED_AT": made, "UPDATED_AT": made}
    return envelope("ORDERS", row | more)


def with_text(event, **values):
    """The event as text with raw JSON in the place of values, which no JSON library writes."""
    text = json.dumps(event)
    for name, raw in values.items():
        text = text.replace(f'"{name}": null', f'"{name}": {raw}')
    return text


def wide_key():
    key = {f"K{number}": number for number in range(1, 34)}
    names = {"cdc_schema": "SALES", "cdc_table_name": "WIDE_KEYS", "cdc_operation": "insert", "cdc_key": json.dumps(key)}
    return {"payload": key | {"VALUE": "x"}, "properties": names}


def system_columns():
    names = {"cdc_schema": "SALES", "cdc_table_name": "SYSTEM_COLUMNS", "cdc_operation": "insert"}
    names["cdc_key"] = json.dumps({"ID": 1})
    return {"payload": {"ID": 1, "XMIN": 5, "CTID": "x", "TABLEOID": 7, "VALUE": "x"}, "properties": names}


def golden_gate():
    row = {"PRODUCT_ID": 9_000_000_001, "NAME": "from GoldenGate", "CATEGORY": "GAMES", "PRICE": "5.00"}
    row |= {"STOCK_QTY": 1, "IS_ACTIVE": 1}
    return {"table": "SALES.PRODUCTS", "op_type": "I", "op_ts": "2026-01-23 08:53:20.000000", "pos": "1234", "after": row}


def poisons():
    # Text that no compression makes fit into an index.
    letters = random.Random(1)
    long_key = "".join(letters.choice("0123456789abcdef") for _ in range(20_000))
    items = "<note>" + '<item product_id="1"/>' * 3 + "</note>"
    deep = "[" * 50_000 + "]" * 50_000
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x" * 100}">' for n in range(9))
    bomb = f"<!DOCTYPE s [{entities}]><shipping><items>&e8;</items></shipping>"
    notification = {"id": "7f1a", "aggregate_type": "Initial Snapshot", "type": "STARTED", "additional_data": {}, "timestamp": 1}
    return [
        Poison("30 MB of XML", order(1, SHIPPING_INFO="<a>" + "x" * 30_000_000 + "</a>"), "EVENT_TOO_LARGE"),
        Poison("1 MB that is no JSON", "{" + "x" * 1_000_000, "MALFORMED_JSON"),
        Poison("1e999 in a declared column", with_text(order(2, TOTAL_AMOUNT=None), TOTAL_AMOUNT="1e999"), "SCHEMA_MISMATCH"),
        Poison("1e999 in an undeclared column", with_text(order(3, COUPON=None), COUPON="1e999"), ROW),
        Poison("1e100000000 in an undeclared column", with_text(order(4, COUPON=None), COUPON="1e100000000"), "SCHEMA_MISMATCH"),
        Poison("a number of 100,000 digits", with_text(order(5, COUPON=None), COUPON="9" * 100_000), "SCHEMA_MISMATCH"),
        Poison("XML over a key of 20,000 characters", envelope("NOTES", {"CODE": long_key, "BODY": items}), "ROW_REFUSED"),
        Poison("50,000 arrays in each other", with_text(order(6, COUPON=None), COUPON=deep), "TOO_DEEP"),
        Poison("a payload that is 50,000 arrays in each other", deep, "UNKNOWN_ENVELOPE"),
        Poison("entities that unfold to 10 GB", order(7, SHIPPING_INFO=bomb), "MALFORMED_XML"),
        Poison("XML 100,000 elements deep", order(8, SHIPPING_INFO="<a>" * 100_000 + "</a>" * 100_000), "MALFORMED_XML"),
        *(Poison(f"an order of 2100, {n} of 3", order(10 + n, ORDER_DATE=YEAR_2100 + n), ROW) for n in (1, 2, 3)),
        Poison("a key that is NULL", order(20, ORDER_ID=None), "INVALID_KEY"),
        Poison("a key beyond 64 bits", with_text(order(21, ORDER_ID=None), ORDER_ID="1" + "0" * 30), "INVALID_KEY"),
        Poison("NUL in a text", order(22, STATUS="a\0b"), "SCHEMA_MISMATCH"),
        Poison("columns XMIN, CTID, TABLEOID", outcome=ROW, **system_columns()),
        Poison("a key of 33 columns", outcome=ROW, **wide_key()),
        Poison("an array of two events", [order(30), order(31)], ROW),
        Poison("an array of nothing", [], "UNKNOWN_ENVELOPE"),
        Poison("GoldenGate", golden_gate(), ROW),
        Poison("a notification", notification, PASSED),
        Poison("2 MiB in an undeclared column", order(23, COUPON="x" * (2 << 20)), "UNDECLARED_TOO_LARGE"),
        Poison("1,100 undeclared columns", order(24, **{f"COLUMN_{n}": n for n in range(1_100)}), "TOO_MANY_COLUMNS"),
        Poison("JSON that is text", '"hello"', "UNKNOWN_ENVELOPE"),
        Poison("JSON that is null", "null", PASSED),
        Poison("an envelope without rows", envelope("ORDERS", None), "UNKNOWN_ENVELOPE"),
        Poison("a property __deleted that is text", order(25), "UNKNOWN_ENVELOPE", properties={"__deleted": "maybe"}),
    ]


class OddEvents(Scenario):
    """Events that each have a fate of their own, between ordinary ones, and one process that outlives them."""

    def odd_events(self):
        raise NotImplementedError

    def run(self):
        events = self.size(1_500, 10_000)
        self.begin(events, "max").acknowledged()
        pid = self.stack.processor_pid()
        found = self.odd_events()
        path = self.stack.folder / "poison.ndjson"
        path.write_text("".join(poison.line() + "\n" for poison in found))
        generation = Generation(self.stack.run_publisher(path), PoisonRecord(found), len(found))
        self.stack.generations.append(generation)
        check(generation.acknowledged() == len(found), "the broker has taken all of them")
        self.report.did(f"{len(found)} such events published")
        self.stack.generate(events, "max", seed=2).acknowledged()
        self.wait_for_all(2 * events + len(found))
        self.judge(events, found)
        check(self.stack.processor_pid() == pid, "the processor is the same process")
        peak = self.stack.memory_mib(peak=True)
        # What was landed must not kill the next process, either.
        self.stack.restart_processor()
        self.stack.wait_until_ready()
        self.stack.generate(self.size(500, 2_000), "max", seed=3).acknowledged()
        self.everything_is_there()
        peaks = peak, self.stack.memory_mib(peak=True)
        self.report.measured("peak memory", f"{peaks[0]} MiB with what the kernel can read again, {peaks[1]} after a restart")

    def wait_for_all(self, count):
        def all_committed():
            killed = self.stack.kills_for_memory()
            check(killed == 0, f"the kernel has ended the processor for want of memory {killed} times; {self.stack.log_tail('processor')}")
            check(self.stack.processor_pid() is not None, f"the processor has ended; {self.stack.log_tail('processor')}")
            return self.stack.committed() >= count

        wait_for(all_committed, f"{count} messages committed; {self.stack.log_tail('processor')}", every=0.3)

    def judge(self, before, found):
        """Their offsets are those after the first events."""
        ledger = Ledger(self.stack)
        offsets = sorted(ledger.offsets(), key=ledger.position)[before : before + len(found)]
        letters = stored_letters(self.stack)
        rows = self.rows()
        wrong = []
        for poison, offset in zip(found, offsets):
            kind, payload = letters.get(offset, (None, None))
            outcome = kind or (ROW if offset in rows else PASSED)
            self.report.measured(poison.name, outcome if kind is None else f"dead letter {kind}")
            if outcome != poison.outcome:
                wrong.append(f"{poison.name} is {outcome}, not {poison.outcome}")
            if payload is not None and payload != poison.text().encode():
                wrong.append(f"{poison.name} is a dead letter with other bytes")
        check(not wrong, "; ".join(wrong))

    def rows(self):
        """The offsets of all rows in landing tables, also of those that were registered."""
        sql = (
            "SELECT c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
            "WHERE a.attname = 'event_id' AND c.relkind = 'r' AND c.relname LIKE 'cdc\\_%' AND c.relname <> 'cdc_dlq'"
        )
        tables = {row[0] for row in self.stack.query(sql)} | set(TABLES.values())
        return {
            Offset.of(row[0])
            for table in tables
            for row in self.stack.query(f'SELECT event_id FROM "{table}" WHERE event_id LIKE \'rmid1:%\'')
        }


class PoisonEvents(OddEvents):
    name = "F20"
    title = "poison events of each kind in 256 MiB: each is a dead letter or a right row, everything else lands, one process"

    @staticmethod
    def with_notes(folder):
        (folder / "tables/notes.sql").write_text(NOTES)
        (folder / "ods/99_notes.sql").write_text(NOTES_LANDING)

    settings = {
        "memory": "256m",
        "broker": "max_message_size = 40000000",
        "config": {"decode": 'unknown_tables = "register"'},
        "more_config": NOTE_ITEMS,
        "edit_sql": with_notes,
    }

    def odd_events(self):
        return poisons()

    def run(self):
        super().run()
        watermark = self.stack.query("SELECT max(watermark) FROM tidemark_ledger")[0][0]
        check(watermark < "2090", f"the watermark is {watermark}")


class LargeEvents(OddEvents):
    name = "F21"
    title = "events of 30 MB one after the other in 256 MiB, rows and dead letters: each costs itself, one process"
    settings = {
        "memory": "256m",
        "broker": "max_message_size = 40000000",
        "config": {"limits": "max_event_bytes = 40000000\nmax_xml_bytes = 40000000"},
    }

    def odd_events(self):
        count = self.size(6, 30)
        text = "x" * 30_000_000
        rows = [Poison(f"row {n} of 30 MB", order(n, SHIPPING_INFO=f"<a>{text}</a>"), ROW) for n in range(count)]
        letters = [Poison(f"letter {n} of 30 MB", f"{{{n}{text}", "MALFORMED_JSON") for n in range(count)]
        # Also in turns.
        turns = [event for pair in zip(letters[:2], rows[:2]) for event in pair]
        return rows + letters + turns
