"""Publishes messages with user properties, with the official Python client.

    python publish_messages.py BROKER_URL MESSAGES.ndjson

Each line is an object: `topic`, `payload` (a text, which may be empty) and `properties`.
"""

import json
import sys

# The script runs from the source tree, which stays clean.
sys.dont_write_bytecode = True

from harness import Publisher, check, connect


def main(broker_url, path):
    with open(path, encoding="utf-8") as file:
        messages = [json.loads(line) for line in file]
    service = connect(broker_url)
    publisher = Publisher(service)
    for message in messages:
        publisher.send(message["topic"], message["payload"], message["properties"])
    receipts = publisher.wait_for_receipts()
    check(receipts.acked == len(messages) and not receipts.errors, f"refused: {receipts.errors[:1]}")
    service.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
