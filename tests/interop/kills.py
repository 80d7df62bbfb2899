"""Scenarios that kill the broker under load and start it again on its data."""

import threading

from solace.messaging.resources.queue import Queue

from harness import Publisher, check, connect, receive, receiver, rgmid, texts


def under_kills(broker, source, count, kills):
    """Publishes `count` numbers while receiving; kills the broker when so many have come.

    Returns (number, id, redelivered) of what came, in order, until every number was there."""
    sender = connect(broker.host)
    publisher = Publisher(sender)

    def publish_all():
        for number in range(count):
            publisher.send("load/x", str(number))
            if number % 1000 == 0:
                publisher.send("keep/x", str(number))

    thread = threading.Thread(target=publish_all)
    thread.start()
    got, upcoming = [], list(kills)
    missing = set(range(count))
    while missing:
        message = source.receive_message(timeout=30000)
        check(message is not None, f"nothing came for 30 s after {len(got)} messages")
        number = int(message.get_payload_as_string())
        got.append((number, rgmid(message), message.is_redelivered()))
        missing.discard(number)
        source.ack(message)
        if upcoming and len(got) >= upcoming[0]:
            upcoming.pop(0)
            broker.kill()
            broker.start()
    thread.join()
    receipts = publisher.wait_for_receipts()
    check(not receipts.errors, f"refused: {receipts.errors[:1]}")
    sender.disconnect()
    return got


def exclusive(broker):
    """Three kills of the broker under load: nothing lost, nothing doubled, all in order."""
    count = 20000
    service = connect(broker.host)
    source = receiver(service, "load", create=False)
    got = under_kills(broker, source, count, (3000, 9000, 15000))
    check([number for number, _, _ in got] == list(range(count)), "doubled or out of order")
    check(len({identity for _, identity, _ in got}) == count, "an id came twice")
    check(source.receive_message(timeout=300) is None, "a message more than were sent")
    source.terminate()
    service.disconnect()
    service = connect(broker.host)
    left = receiver(service, "load", create=False)
    check(left.receive_message(timeout=300) is None, "an acknowledged message is still there")
    kept = receiver(service, "keep", create=False)
    expected = [str(number) for number in range(0, count, 1000)]
    check(texts(receive(kept, len(expected))) == expected, "long-kept messages are wrong")
    service.disconnect()


def shared(broker):
    """Kills under load with a shared queue: nothing lost, and what came twice says so."""
    count = 10000
    service = connect(broker.host)
    queue = Queue.durable_non_exclusive_queue("shared")
    source = receiver(service, queue, ["load/>"])
    got = under_kills(broker, source, count, (2000, 6000))
    seen = {}
    for number, identity, is_redelivered in got:
        if number in seen:
            check(is_redelivered, f"message {number} came twice without the flag")
            check(seen[number] == identity, f"message {number} has two ids")
        seen[number] = identity
    service.disconnect()


# Small files, so that they are begun, emptied and deleted between the kills.
CONFIG = """
segment_size = 200_000

[[queues]]
name = "load"
topics = ["load/>"]

[[queues]]
name = "keep"
topics = ["keep/>"]
"""
