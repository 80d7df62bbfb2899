"""What was published, read from the generator's own record: one payload a line, in order."""

import functools
import json
import xml.etree.ElementTree
from decimal import Decimal

# Of each source table: where it lands, and how the columns of an event are written there.
TABLES = {
    "ORDERS": "cdc_orders",
    "ORDER_ITEMS": "cdc_order_items",
    "CUSTOMERS": "cdc_customers",
    "PRODUCTS": "cdc_products",
    "AUDIT_LOG": "cdc_audit_log",
}
# What tells one row of a landing table from another.
KEYS = {
    "cdc_orders": "order_id",
    "cdc_order_items": "item_id",
    "cdc_customers": "customer_id",
    "cdc_products": "product_id",
    "cdc_audit_log": "log_id",
}
TIMES = {"ORDER_DATE", "CREATED_AT", "UPDATED_AT", "CHANGED_AT"}
DECIMALS = {"TOTAL_AMOUNT", "UNIT_PRICE", "SUBTOTAL", "PRICE"}
FLAGS = {"IS_ACTIVE"}
# Text there, a number in what the generator publishes.
TEXTS = {"RECORD_ID"}
# Columns that events may have and the tables don't declare.
UNDECLARED = {"LOYALTY_POINTS"}
# Columns whose XML the [[xml]] sections read: it does not land itself.
DOCUMENTS = {"SHIPPING_INFO", "ORDER_DETAILS", "ADDRESSES"}


class Record:
    """The payloads of one run of the generator."""

    def __init__(self, path):
        self.path = path

    def events(self):
        with open(self.path, "rb") as lines:
            for line in lines:
                yield Event(line.rstrip(b"\n"))


class Event:
    """One message: a change, a tombstone, or something that can't be read."""

    # Whether the scenario judges itself what becomes of it.
    is_opaque = False

    def __init__(self, payload):
        self.payload = payload

    @functools.cached_property
    def envelope(self):
        try:
            return json.loads(self.payload)
        except ValueError:
            return None

    @property
    def is_tombstone(self):
        return self.payload == b""

    @property
    def is_malformed(self):
        return not self.is_tombstone and self.envelope is None

    @property
    def table(self):
        return TABLES[self.envelope["source"]["table"]]

    def row(self):
        """The landing row: the image after the change, or before a delete, as Postgres has it."""
        envelope = self.envelope
        image = envelope["before"] if envelope["op"] == "d" else envelope["after"]
        # The audit log has a column of its own that is called so.
        row = {"cdc_operation" if self.table == "cdc_audit_log" else "operation": envelope["op"]}
        for name, value in image.items():
            if name not in UNDECLARED | DOCUMENTS:
                row[name.lower()] = stored(name, value)
        undeclared = {name: value for name, value in image.items() if name in UNDECLARED}
        row["extra_fields"] = undeclared or None
        return row

    def has_broken_xml(self):
        text = (self.envelope.get("after") or {}).get("SHIPPING_INFO")
        if not text:
            return False
        try:
            xml.etree.ElementTree.fromstring(text)
        except xml.etree.ElementTree.ParseError:
            return True
        return False


def stored(name, value):
    if value is None:
        return None
    if name in TIMES:
        return int(value)
    if name in DECIMALS:
        return Decimal(value)
    if name in FLAGS:
        return bool(value)
    if name in TEXTS:
        return str(value)
    return value
