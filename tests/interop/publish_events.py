"""Publishes Debezium events with the official Python client, as the bridge of a source does.

    python publish_events.py BROKER_URL EVENTS.ndjson

The topic of an event is `cdc/oracle/SCHEMA/TABLE/insert|update|delete|read`, of its `source` and `op`.
A second queue with the same subscription shows what the client sees: for every event, its replication group
message id and topic are printed, in the order of the queue.
"""

import json
import sys

# The script runs from the source tree, which stays clean.
sys.dont_write_bytecode = True

from harness import Publisher, check, connect, receive, receiver, rgmid, texts

VERBS = {"c": "insert", "u": "update", "d": "delete", "r": "read"}
SUBSCRIPTION = "cdc/oracle/>"


def topic(event):
    source = event["source"]
    return f"cdc/oracle/{source['schema']}/{source['table']}/{VERBS[event['op']]}"


def main(broker_url, path):
    with open(path, encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in file]
    service = connect(broker_url)
    witness = receiver(service, "witness", [SUBSCRIPTION])
    publisher = Publisher(service)
    for line in lines:
        publisher.send(topic(json.loads(line)), line)
    receipts = publisher.wait_for_receipts()
    check(receipts.acked == len(lines) and not receipts.errors, f"refused: {receipts.errors[:1]}")
    messages = receive(witness, len(lines))
    check(texts(messages) == lines, "the events came in another order or with other texts")
    for message in messages:
        print(rgmid(message), message.get_destination_name())
        witness.ack(message)
    witness.terminate()
    service.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
