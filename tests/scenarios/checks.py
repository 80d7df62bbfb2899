"""The exact comparison at the end of every scenario.

Four questions, each with its own witness: does the ledger hold every message once, is every event in its landing
table or the dead letters with all of its values (the record of what the broker has acknowledged to the
generator), are the current rows those of the last events (the record's order), and is every result what its SELECT gives
(Postgres runs the text itself)?

A broker numbers the messages of all its queues together, so the ids of ours have gaps. What was published is known by
its order: the lowest id is the first event of the record, and so on.
"""

import bisect
import re
from decimal import Decimal
from typing import NamedTuple

from events import KEYS, TABLES
from waiting import Failed, check

CURRENT = ["orders", "order_items", "customers", "products"]
# Microseconds since 1970 and numbers as they are, so that nothing is lost on the way.
TIME_COLUMNS = {"order_date", "created_at", "updated_at", "changed_at"}


class Offset(NamedTuple):
    """A message of the queue: the broker's spool, and the number in it."""

    spool: int
    number: int

    @staticmethod
    def of(event_id):
        """Of `rmid1:12345-00000abcdef-00000000-00000001`; an event of an array has its number after a `#`."""
        message = event_id.removeprefix("rmid1:").partition("#")[0]
        first, second, high, low = (int(part, 16) for part in message.split("-"))
        return Offset((first << 44) | second, (high << 32) | low)

    def __str__(self):
        return f"{self.number} of spool {self.spool:016x}"


def all_is_exact(stack, report, acknowledged, lost=frozenset()):
    """Every message that the broker stored, once, but those that the database is known to have lost; every result, exact."""
    ledger = Ledger(stack)
    ledger.holds(acknowledged - len(lost))
    landed, letters, tombstones = events_are_where_they_belong(stack, ledger, lost)
    results = results_are_their_selects(stack)
    report.measured(
        "exact comparison",
        f"{acknowledged - len(lost)} messages in the ledger once; {landed} rows landed, {letters} dead letters, {tombstones} "
        f"tombstones, each with the published values; {results} results equal their SELECT",
    )


class Ledger:
    """The offsets that the ledger knows, and the order of its spools."""

    def __init__(self, stack):
        self.ranges, self.forgotten = {}, {}
        sql = (
            "SELECT s.spool, lower(r), upper(r) FROM tidemark_ledger l, unnest(l.spools, l.offsets) AS s(spool, ranges), "
            "unnest(s.ranges) AS r UNION ALL SELECT spool, lower(r), upper(r) FROM tidemark_committed, unnest(offsets) AS r"
        )
        for spool, low, high in stack.query(sql):
            self.ranges.setdefault(int(spool, 16), []).append((int(low), int(high)))
        for ranges in self.ranges.values():
            ranges.sort()
            for (_, end), (low, _) in zip(ranges, ranges[1:]):
                check(low >= end, f"message {low} is in the ledger twice")
        # Below these only the landing tables know what was committed.
        sql = "SELECT spool, forgotten_to FROM tidemark_committed WHERE forgotten_to IS NOT NULL"
        for spool, last in stack.query(sql):
            self.forgotten[int(spool, 16)] = int(last)
        sql = "SELECT generation, spool, first_id FROM tidemark_spools ORDER BY generation"
        self.generations = [(int(number), int(spool, 16), int(first)) for number, spool, first in stack.query(sql)]

    def offsets(self):
        return {
            Offset(spool, number)
            for spool, ranges in self.ranges.items()
            for low, high in ranges
            for number in range(low, high)
        }

    def count(self):
        return sum(high - low for ranges in self.ranges.values() for low, high in ranges)

    def holds(self, count):
        """So many, if it has not forgotten any."""
        check(self.forgotten or self.count() == count, f"{self.count()} messages in the ledger, {count} published")

    def has(self, offset):
        ranges = self.ranges.get(offset.spool, [])
        at = bisect.bisect_right(ranges, (offset.number, float("inf"))) - 1
        return at >= 0 and offset.number < ranges[at][1]

    def has_forgotten(self, offset):
        return offset.number <= self.forgotten.get(offset.spool, -1)

    def position(self, offset):
        """Where it is in the one order of changes, over all spools that the queue has had."""
        of_spool = [(number, first) for number, spool, first in self.generations if spool == offset.spool]
        begun = [number for number, first in of_spool if first <= offset.number]
        check(of_spool, f"the spool of message {offset} is not in tidemark_spools")
        return (begun[-1] if begun else of_spool[0][0], offset.number)


def each_is_there_once(stack, acknowledged):
    """For loads, of which there is no record: every message is in the ledger once, and in one place."""
    ledger = Ledger(stack)
    ledger.holds(acknowledged)
    rows, letters = stored_rows(stack), stored_letters(stack)
    for offset in [*rows, *letters]:
        check(ledger.has(offset) or ledger.has_forgotten(offset), f"message {offset} is not in the ledger")
    deletes = sum(row.get("cdc_operation", row["operation"]) == "d" for _, row in rows.values())
    # The generator may end between a delete and its tombstone.
    missing = acknowledged - len(rows.keys() | letters.keys()) - deletes
    check(-1 <= missing <= 0, f"{acknowledged} published, {len(rows)} rows, {len(letters)} dead letters, {deletes} deletes")


def stored_rows(stack):
    """Of each offset, the table and the row it landed as."""
    rows = {}
    for table in TABLES.values():
        times = ", ".join(
            f"'{name}', (extract(epoch FROM {name}) * 1000000)::bigint"
            for name in columns(stack, table)
            if name in TIME_COLUMNS
        )
        sql = f"SELECT to_jsonb(t) || jsonb_build_object({times}) FROM {table} t"
        for row in stack.json_rows(sql, parse_float=Decimal):
            offset = Offset.of(row["event_id"])
            is_new = offset not in rows or "#" in row["event_id"]
            check(is_new, f"message {offset} landed twice: {table} and {rows.get(offset, ('',))[0]}")
            rows[offset] = (table, row)
    return rows


def stored_letters(stack):
    """Of each offset, type and payload of its dead letter."""
    # Those of rows that an API or a target refused are of no single message.
    sql = (
        "SELECT event_id, error_type, encode(original_payload, 'hex') FROM cdc_dlq "
        "WHERE event_id LIKE 'rmid1:%' AND error_type <> 'REST_REFUSED'"
    )
    return {Offset.of(event): (kind, bytes.fromhex(text)) for event, kind, text in stack.query(sql)}


class Newest:
    """The last event of each key, as the record has them."""

    def __init__(self):
        self.events = {}
        # Offsets that the scenario judges itself.
        self.others = set()

    def take(self, event, offset):
        key = (event.table, event.row()[KEYS[event.table]])
        self.events.pop(key, None)
        if event.envelope["op"] != "d":
            self.events[key] = offset

    def check(self, stack):
        for table in CURRENT:
            shown = {Offset.of(row[0]) for row in stack.query(f"SELECT event_id FROM cdc_{table}_current")} - self.others
            expected = {offset for (of_table, _), offset in self.events.items() if of_table == f"cdc_{table}"}
            different = sorted(shown ^ expected)
            check(not different, f"cdc_{table}_current does not show the newest rows: message {different and different[0]}")


def events_are_where_they_belong(stack, ledger, lost):
    rows, letters = stored_rows(stack), stored_letters(stack)
    counts = len(rows), len(letters)
    known = sorted(ledger.offsets() | rows.keys() | letters.keys() | lost, key=ledger.position)
    rest, tombstones, newest = iter(known), 0, Newest()
    offset = next(rest, None)
    for generation in stack.generations:
        for event in generation.stored():
            if event.is_tombstone:
                tombstones += 1
                if offset is None or offset in rows or offset in letters:
                    # A tombstone has no row: only the ledger knows it, until it forgets.
                    gone = ledger.forgotten and (offset is None or ledger.has_forgotten(offset))
                    check(gone, f"a tombstone before message {offset} is not in the ledger, or it has a row")
                    continue
            elif offset in lost:
                newest.others.add(offset)
            elif event.is_opaque:
                newest.others.add(offset)
                rows.pop(offset, None), letters.pop(offset, None)
            else:
                judge(event, offset, rows.get(offset), letters.get(offset))
                if offset in rows:
                    newest.take(event, offset)
            kept = offset in lost or ledger.has(offset) or ledger.has_forgotten(offset)
            check(kept, f"message {offset} is not in the ledger")
            rows.pop(offset, None), letters.pop(offset, None)
            offset = next(rest, None)
    check(offset is None, f"message {offset} and those after it are of no record")
    newest.check(stack)
    return *counts, tombstones


def judge(event, offset, found, letter):
    check(offset is not None, f"an event is lost: {event.payload[:200]}")
    if found is None:
        check(letter is not None, f"message {offset} is lost: {event.payload[:200]}")
    else:
        check(not event.is_malformed, f"message {offset} can't be read and has a row: {found}")
        compare(offset, event, found)
    if letter is not None:
        check(letter[1] == event.payload, f"message {offset} is a dead letter with other bytes")
        # If its row is applied, only the document in it is a dead letter.
        check(found is None or event.has_broken_xml(), f"message {offset} landed and is a dead letter: {letter[0]}")


def compare(offset, event, found):
    table, row = found
    check(table == event.table, f"message {offset} landed in {table}, not in {event.table}")
    for name, value in event.row().items():
        is_same = name in row and row[name] == value
        check(is_same, f"message {offset}: {table}.{name} is {row.get(name)!r}, published was {value!r}")


def results_are_their_selects(stack):
    """Postgres runs each transform over the current rows, and finds no difference to the result's table."""
    watermark = stack.query("SELECT watermark FROM tidemark_ledger ORDER BY epoch DESC LIMIT 1")[0][0]
    setup = ["DROP SCHEMA IF EXISTS referee CASCADE", "CREATE SCHEMA referee"]
    setup += [f"CREATE VIEW referee.{t} AS SELECT * FROM public.cdc_{t}_current" for t in CURRENT]
    now = f"timestamp '{watermark}'" if watermark else "NULL::timestamp"
    setup.append(
        f"CREATE FUNCTION referee.watermark() RETURNS timestamp STABLE LANGUAGE sql AS $$ SELECT {now} $$"
    )
    stack.query("SET client_min_messages = warning; " + "; ".join(setup))
    files = sorted((stack.sql_folder / "transforms").glob("*.sql"))
    targets = {file: re.search(r"^-- writes: postgres (\w+)$", file.read_text(), re.M) for file in files}
    targets = {file: found[1] for file, found in targets.items() if found}
    for file, target in targets.items():
        names = ", ".join(name for name in columns(stack, target) if name != "processed_at")
        different = stack.number(
            f"SET search_path = referee, public; CREATE TEMP TABLE scratch AS {file.read_text()}\n; "
            f"SELECT count(*) FROM ((SELECT {names} FROM {target} EXCEPT ALL SELECT {names} FROM scratch) "
            f"UNION ALL (SELECT {names} FROM scratch EXCEPT ALL SELECT {names} FROM {target})) different"
        )
        check(different == 0, f"{different} rows of {target} differ from what Postgres makes of {file.name}")
    stack.query("SET client_min_messages = warning; DROP SCHEMA referee CASCADE")
    return len(targets)


def columns(stack, table):
    sql = (
        f"SELECT attname FROM pg_attribute WHERE attrelid = 'public.{table}'::regclass AND attnum > 0 "
        "AND NOT attisdropped ORDER BY attnum"
    )
    return [row[0] for row in stack.query(sql)]
