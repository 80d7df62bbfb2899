"""The exact comparison at the end of every scenario.

Three questions, each with its own witness: does the ledger hold every message once (the broker numbers the
messages of a new spool from 1), is every event in its landing table or the dead letters with all of its values
(the generator's record), and is every result what its SELECT gives (Postgres runs the text itself)?
"""

import re
from decimal import Decimal

from events import TABLES
from waiting import Failed, check

CURRENT = ["orders", "order_items", "customers", "products"]
# Microseconds since 1970 and numbers as they are, so that nothing is lost on the way.
TIME_COLUMNS = {"order_date", "created_at", "updated_at", "changed_at"}


def all_is_exact(stack, report, acknowledged):
    """Every message that the broker stored, once; every result, exact."""
    ledger_holds_each_once(stack, acknowledged)
    landed, letters, tombstones = events_are_where_they_belong(stack, acknowledged)
    results = results_are_their_selects(stack)
    report.measured(
        "exact comparison",
        f"{acknowledged} messages in the ledger once; {landed} rows landed, {letters} dead letters, {tombstones} "
        f"tombstones, each with the published values; {results} results equal their SELECT",
    )


def ledger_offsets(stack):
    """Of each spool, the ranges of all epochs."""
    rows = stack.query(
        "SELECT s.spool, s.ranges FROM tidemark_ledger l, unnest(l.spools, l.offsets) AS s(spool, ranges) "
        "UNION ALL SELECT spool, offsets FROM tidemark_committed"
    )
    spools = {}
    for spool, ranges in rows:
        found = [(int(low), int(high)) for low, high in re.findall(r"\[(\d+),(\d+)\)", ranges)]
        spools.setdefault(spool, []).extend(found)
    return spools


def ledger_holds_each_once(stack, acknowledged):
    spools = ledger_offsets(stack)
    check(len(spools) == 1, f"a new broker has one spool, the ledger knows {list(spools)}")
    expected = 1
    for low, high in sorted(next(iter(spools.values()))):
        check(low >= expected, f"message {low} is in the ledger twice")
        check(low == expected, f"messages {expected} to {low - 1} are not in the ledger")
        expected = high
    check(expected - 1 == acknowledged, f"{expected - 1} messages in the ledger, {acknowledged} published")


def stored_rows(stack):
    """Of each message id, the table and the row it landed as."""
    rows = {}
    for table in TABLES.values():
        times = ", ".join(
            f"'{name}', (extract(epoch FROM {name}) * 1000000)::bigint"
            for name in columns(stack, table)
            if name in TIME_COLUMNS
        )
        sql = f"SELECT to_jsonb(t) || jsonb_build_object({times}) FROM {table} t"
        for row in stack.json_rows(sql, parse_float=Decimal):
            key = message_id(row["event_id"])
            check(key not in rows, f"message {key} landed twice: {table} and {rows.get(key, ('',))[0]}")
            rows[key] = (table, row)
    return rows


def message_id(event_id):
    """The broker's number in `rmid1:12345-00000abcdef-00000000-00000001`."""
    high, low = event_id.split("-")[2:]
    return (int(high, 16) << 32) | int(low, 16)


def stored_letters(stack):
    """Of each message id, type and payload of its dead letter."""
    # Those of rows that an API or a target refused are of no single message.
    sql = (
        "SELECT event_id, error_type, encode(original_payload, 'hex') FROM cdc_dlq "
        "WHERE event_id LIKE 'rmid1:%' AND error_type <> 'REST_REFUSED'"
    )
    return {message_id(event): (kind, bytes.fromhex(text)) for event, kind, text in stack.query(sql)}


def published(stack):
    """All events in the order of the broker, which numbers them from 1; one generator after the other."""
    number = 0
    for generation in stack.generations:
        for event in generation.record.events():
            number += 1
            yield number, event


def events_are_where_they_belong(stack, acknowledged):
    rows, letters = stored_rows(stack), stored_letters(stack)
    known, tombstones, count = len(rows), 0, 0
    extra_letters = dict(letters)
    for number, event in published(stack):
        count = number
        if number > acknowledged:
            raise Failed(f"the record has more than the {acknowledged} messages that the broker stored")
        found, letter = rows.pop(number, None), letters.get(number)
        if event.is_tombstone:
            tombstones += 1
            check(found is None and letter is None, f"message {number} is a tombstone and has a row")
        elif found is None:
            check(letter is not None, f"message {number} is lost: {event.payload[:200]}")
            check(letter[1] == event.payload, f"message {number} is a dead letter with other bytes")
            extra_letters.pop(number)
        else:
            check(not event.is_malformed, f"message {number} can't be read and has a row: {found}")
            compare(number, event, found)
            if letter is not None:
                # Its row is applied; only the document in it is a dead letter.
                check(event.has_broken_xml(), f"message {number} landed and is a dead letter: {letter[0]}")
                extra_letters.pop(number)
    check(not rows, f"rows of messages that nobody published: {sorted(rows)[:5]}")
    check(not extra_letters, f"dead letters of messages that nobody published: {sorted(extra_letters)[:5]}")
    check(count == acknowledged, f"the record has {count} messages, the broker stored {acknowledged}")
    return known, len(letters), tombstones


def keep_what_is_stored(stack, record, first):
    """Reduces the record of a generator of which the broker refused some messages to those that it stored.

    They must be a subsequence of it: each row, in the broker's order, further down in the record than the one
    before. A number without a row is a tombstone.
    """
    rows, letters = stored_rows(stack), stored_letters(stack)
    last = max(high for ranges in ledger_offsets(stack).values() for _, high in ranges)
    rest, kept = record.events(), []
    for number in range(first, last):
        if number in letters:
            is_it = lambda event: event.payload == letters[number][1]  # noqa: B023
        elif number in rows:
            is_it = lambda event: is_stored_as(event, rows[number])  # noqa: B023
        else:
            is_it = lambda event: event.is_tombstone
        found = next((event for event in rest if is_it(event)), None)
        check(found is not None, f"message {number} is not in the record, or out of order: {rows.get(number)}")
        kept.append(found.payload)
    record.path.write_bytes(b"".join(payload + b"\n" for payload in kept))


def is_stored_as(event, found):
    if event.is_tombstone or event.is_malformed:
        return False
    table, row = found
    return table == event.table and all(row.get(name) == value for name, value in event.row().items())


def compare(number, event, found):
    table, row = found
    check(table == event.table, f"message {number} landed in {table}, not in {event.table}")
    for name, value in event.row().items():
        is_same = name in row and row[name] == value
        check(is_same, f"message {number}: {table}.{name} is {row.get(name)!r}, published was {value!r}")


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
