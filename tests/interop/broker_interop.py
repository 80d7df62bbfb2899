"""The development broker against the official Python client, one scenario a run (or `all`).

    python broker_interop.py SCENARIO --broker-cmd \
        "target/debug/tidemark broker --listen 127.0.0.1:{port} --data {data} --config {config}"

Every scenario starts a broker of its own on a free port and an empty directory, and prints one
line, `PASS name` or `FAIL name: reason`. The exit status is the number of failures.
"""

import argparse
import logging
import re
import socket
import sys
import tempfile
import threading
import traceback

from solace.messaging.config.message_acknowledgement_configuration import Outcome
from solace.messaging.errors.pubsubplus_client_error import (
    AuthenticationError,
    PubSubPlusClientError,
)
from solace.messaging.resources.queue import Queue
from solace.messaging.resources.topic import Topic
from solace.messaging.resources.topic_subscription import TopicSubscription

# The scenarios run from the source tree, which stays clean.
sys.dont_write_bytecode = True

import kills
from harness import (
    Broker,
    Child,
    Publisher,
    check,
    connect,
    receive,
    receiver,
    rgmid,
    texts,
    wait_for,
)


def login(broker):
    """The right password gets in, a wrong one is an AuthenticationError."""
    connect(broker.host).disconnect()
    try:
        connect(broker.host, password="wrong", retries=0)
    except AuthenticationError:
        return
    raise AssertionError("a wrong password was accepted")


def provision(broker):
    """Create on start works twice; unknown queues and missing permissions are refused."""
    service = connect(broker.host)
    for _ in range(2):
        receiver(service, "made", ["made/>"]).terminate()
    refused(lambda: receiver(service, "unknown", create=False), "Unknown Queue")
    reader = connect(broker.host, "reader", "reading")
    receiver(reader, "made", create=False).terminate()
    refused(lambda: receiver(reader, "other"), "Permission Not Allowed")
    writer = connect(broker.host, "writer", "writing")
    refused(lambda: receiver(writer, "made", create=False), "Permission Not Allowed")
    for each in (service, reader, writer):
        each.disconnect()


def refused(action, reason):
    try:
        action()
    except PubSubPlusClientError as error:
        # Some errors carry the broker's text, others the name of the client's subcode.
        said = str(error).replace("_", " ").lower()
        check(reason.lower() in said, f"expected {reason!r} in {error}")
        return
    raise AssertionError(f"expected a refusal with {reason!r}")


def wildcards(broker):
    """A queue gets what its subscriptions match, each message once."""
    service = connect(broker.host)
    source = receiver(service, "wild", ["a/*/c", "b/>", "b/x", "c/pre*"])
    publisher = Publisher(service)
    wanted = ["a/1/c", "b/x", "b/x/y/z", "c/pre", "c/prefix"]
    unwanted = ["a/1/c/d", "a/c", "b", "c/other", "d"]
    for topic in unwanted + wanted:
        publisher.send(topic, topic)
    publisher.wait_for_receipts()
    got = texts(receive(source, len(wanted)))
    check(got == wanted, f"got {got}")
    check(source.receive_message(timeout=300) is None, "one message more than matched")
    service.disconnect()


def publish_and_receive(broker):
    """Persistent messages are acknowledged, come in order and once, and are gone when acked."""
    count = 5000
    service = connect(broker.host)
    source = receiver(service, "plain", ["plain/>"])
    publisher = Publisher(service)
    for number in range(count):
        publisher.send(f"plain/{number % 7}", f"{number}", {"k": f"v{number}"})
    receipts = publisher.wait_for_receipts()
    check(receipts.acked == count and not receipts.errors, f"receipts: {receipts.errors[:1]}")
    messages = receive(source, count)
    check(texts(messages) == [str(number) for number in range(count)], "order or content is wrong")
    check(messages[5].get_destination_name() == "plain/5", "topic is wrong")
    check(messages[5].get_property("k") == "v5", "user property is wrong")
    check(not any(message.is_redelivered() for message in messages), "redelivered without cause")
    check(len({rgmid(message) for message in messages}) == count, "ids repeat")
    for message in messages:
        source.ack(message)
    source.terminate()
    source = receiver(service, "plain")
    check(source.receive_message(timeout=500) is None, "an acknowledged message came again")
    service.disconnect()


def consumer_kill(broker):
    """What a killed consumer held comes again, flagged, under the same ids; acked ones do not."""
    service = connect(broker.host)
    receiver(service, "killed", ["killed"]).terminate()
    publisher = Publisher(service)
    for number in range(100):
        publisher.send("killed", str(number))
    publisher.wait_for_receipts()
    child = Child("acks-forty-of-hundred", broker.host)
    first = [line.split() for line in child.lines(100)]
    child.lines(1)
    child.kill()
    source = receiver(service, "killed")
    again = receive(source, 60)
    check(all(message.is_redelivered() for message in again), "redelivered flag is missing")
    got = [[message.get_payload_as_string(), rgmid(message)] for message in again]
    check(got == first[40:], f"expected the 60 unacknowledged ones, got {got[:3]}...")
    check(source.receive_message(timeout=300) is None, "an acknowledged message came again")
    service.disconnect()


def role_acks_forty_of_hundred(host):
    service = connect(host)
    source = receiver(service, "killed")
    messages = receive(source, 100)
    for message in messages:
        print(message.get_payload_as_string(), rgmid(message), flush=True)
    for message in messages[:40]:
        source.ack(message)
    # Ends the flow, so that its acknowledgements are on the wire; then holds the rest anew.
    source.terminate()
    held = receiver(service, "killed")
    receive(held, 60)
    print("ready", flush=True)
    threading.Event().wait()


def partitions(broker):
    """Two consumers of a partitioned queue: each key goes to one of them, in order."""
    count, keys = 4000, 20
    services = [connect(broker.host) for _ in range(3)]
    queue = Queue.durable_non_exclusive_queue("parts")
    sources = [receiver(service, queue, create=False) for service in services[:2]]
    publisher = Publisher(services[2])
    for number in range(count):
        key = number % keys
        publisher.send("parts/x", f"{key} {number}", {"JMSXGroupID": f"key-{key}"})
    publisher.wait_for_receipts()
    got = [[], []]
    while sum(map(len, got)) < count:
        for source, messages in zip(sources, got):
            message = source.receive_message(timeout=100)
            while message is not None:
                messages.append(tuple(map(int, message.get_payload_as_string().split())))
                source.ack(message)
                message = source.receive_message(timeout=20)
    check(all(got), "one consumer got nothing")
    shared = {key for key, _ in got[0]} & {key for key, _ in got[1]}
    check(not shared, f"both consumers got keys {shared}")
    for messages in got:
        for key in range(keys):
            numbers = [number for have, number in messages if have == key]
            check(numbers == sorted(numbers), f"key {key} is out of order")
    for service in services:
        service.disconnect()


PARTITIONS_CONFIG = """
[[queues]]
name = "parts"
topics = ["parts/>"]
partitions = 4
"""


def settlement(broker):
    """Failed messages come again and wear out into the dead-message queue; rejected go at once."""
    service = connect(broker.host)
    source = receiver(service, "work", settles=True, create=False)
    dead = receiver(service, "dead", create=False)
    publisher = Publisher(service)
    for text in ("fails", "rejected", "fine"):
        publisher.send("work/x", text)
    publisher.wait_for_receipts()
    fails, rejected, fine = receive(source, 3)
    first_id = rgmid(fails)
    source.settle(rejected, Outcome.REJECTED)
    source.settle(fine, Outcome.ACCEPTED)
    check(texts(receive(dead, 1)) == ["rejected"], "rejected message is not in the dead queue")
    for _ in range(2):
        source.settle(fails, Outcome.FAILED)
        (fails,) = receive(source, 1)
        check(fails.get_payload_as_string() == "fails", "another message came back")
        check(fails.is_redelivered(), "redelivered flag is missing")
        check(rgmid(fails) == first_id, "a redelivery has another id")
    source.settle(fails, Outcome.FAILED)
    check(texts(receive(dead, 1)) == ["fails"], "worn-out message is not in the dead queue")
    check(source.receive_message(timeout=300) is None, "the work queue is not empty")
    service.disconnect()


SETTLEMENT_CONFIG = """
[[queues]]
name = "work"
topics = ["work/>"]
max_redelivery = 2
dead_message_queue = "dead"

[[queues]]
name = "dead"
"""


def quota(broker):
    """Over its quota a queue refuses; what it has is kept, and room makes it accept again."""
    service = connect(broker.host)
    publisher = Publisher(service)
    text = "x" * 100_000
    for _ in range(15):
        publisher.send("small/x", text)
    receipts = publisher.wait_for_receipts()
    check(receipts.acked == 10, f"{receipts.acked} were accepted into 1 MB")
    check(len(receipts.errors) == 5, "the rest was not refused")
    check(all("Spool Over Quota" in error for error in receipts.errors), receipts.errors[0])
    source = receiver(service, "small", create=False)
    for message in receive(source, 10):
        source.ack(message)
    source.terminate()

    def is_accepted():
        before = receipts.acked
        publisher.send("small/x", text)
        publisher.wait_for_receipts()
        return receipts.acked > before

    wait_for(is_accepted, "the emptied queue accepts again")
    service.disconnect()


QUOTA_CONFIG = """
[[queues]]
name = "small"
topics = ["small/>"]
quota_mb = 1
"""


def direct_and_temporary(broker):
    """Direct messages reach direct subscribers and queues; a temporary queue works and goes."""
    service = connect(broker.host)
    builder = service.create_direct_message_receiver_builder()
    direct = builder.with_subscriptions([TopicSubscription.of("d/*")]).build()
    direct.start()
    temporary = receiver(service, Queue.non_durable_exclusive_queue("temp"), ["d/>"])
    publisher = service.create_direct_message_publisher_builder().build()
    publisher.start()
    publisher.publish("hello", Topic.of("d/1"))
    check(texts(receive(direct, 1)) == ["hello"], "direct message is wrong")
    check(texts(receive(temporary, 1)) == ["hello"], "queued direct message is wrong")
    service.disconnect()


def stopped_consumer(broker):
    """A consumer that no longer answers loses its place to the next one."""
    child = Child("holds", broker.host)
    child.lines(1)
    service = connect(broker.host)
    second = receiver(service, "standby")
    publisher = Publisher(service)
    publisher.send("standby", "one")
    publisher.wait_for_receipts()
    child.lines(1)
    child.stop()
    (message,) = receive(second, 1)
    check(message.is_redelivered(), "redelivered flag is missing")
    child.kill()
    service.disconnect()


def role_holds(host):
    service = connect(host)
    source = receiver(service, "standby", ["standby"])
    print("bound", flush=True)
    receive(source, 1)
    print("holds", flush=True)
    threading.Event().wait()


def limits(broker):
    """Long messages, too many clients and too many unacknowledged messages are all held off."""
    service = connect(broker.host)
    source = receiver(service, "limited", ["limited"])
    publisher = Publisher(service)
    publisher.send("limited", "x" * 30_000)
    for number in range(30):
        publisher.send("limited", str(number))
    receipts = publisher.wait_for_receipts()
    check(receipts.acked == 30, f"{receipts.acked} of 30 short messages were accepted")
    check(len(receipts.errors) == 1, f"the long message was not refused: {receipts.errors}")
    first = receive(source, 10)
    check(source.receive_message(timeout=300) is None, "more than 10 unacknowledged messages")
    for message in first:
        source.ack(message)
    check(texts(receive(source, 10)) == [str(number) for number in range(10, 20)], "wrong order")
    others = [connect(broker.host) for _ in range(2)]
    refused(lambda: connect(broker.host, retries=0), "Too Many Clients")
    for each in (service, *others):
        each.disconnect()


LIMITS_CONFIG = """
max_clients = 3
max_message_size = 20_000
max_unacked_per_flow = 10
segment_size = 65536
"""


def hostile_clients(broker):
    """Garbage, huge lengths and a client that never reads cost the broker next to nothing."""
    garbage = [b"GET / HTTP/1.1\r\n\r\n", bytes(200), b"\x03\x8c\x00\x01" + b"\xff" * 100]
    for start in garbage:
        with socket.create_connection(("127.0.0.1", broker.port)) as raw:
            raw.sendall(start)
            raw.settimeout(30)
            check(raw.recv(1000) == b"", "the broker answered garbage")
    service = connect(broker.host)
    deaf = Child("never-reads", broker.host)
    deaf.lines(1)
    deaf.stop()
    publisher = service.create_direct_message_publisher_builder().on_back_pressure_wait(1000).build()
    publisher.start()
    before = broker.resident_mb()
    for _ in range(2000):
        publisher.publish("x" * 50_000, Topic.of("flood/x"))
    # The broker has handled the flood when it has handled what was sent after it.
    source = receiver(service, "after", ["after"])
    publisher.publish("end", Topic.of("after"))
    check(texts(receive(source, 1)) == ["end"], "the broker does not work any more")
    grown = broker.resident_mb() - before
    check(grown < 40, f"a client that does not read made the broker grow by {grown} MB")
    deaf.kill()
    service.disconnect()


def role_never_reads(host):
    service = connect(host)
    builder = service.create_direct_message_receiver_builder()
    direct = builder.with_subscriptions([TopicSubscription.of("flood/>")]).build()
    direct.start()
    print("subscribed", flush=True)
    threading.Event().wait()


SCENARIOS = {
    "login": (login, ""),
    "provision": (provision, ""),
    "wildcards": (wildcards, ""),
    "publish-and-receive": (publish_and_receive, ""),
    "consumer-kill": (consumer_kill, ""),
    "broker-kill": (kills.exclusive, kills.CONFIG),
    "broker-kill-shared": (kills.shared, kills.CONFIG),
    "partitions": (partitions, PARTITIONS_CONFIG),
    "settlement": (settlement, SETTLEMENT_CONFIG),
    "quota": (quota, QUOTA_CONFIG),
    "direct-and-temporary": (direct_and_temporary, ""),
    "stopped-consumer": (stopped_consumer, ""),
    "limits": (limits, LIMITS_CONFIG),
    "hostile-clients": (hostile_clients, ""),
}
ROLES = {
    "acks-forty-of-hundred": role_acks_forty_of_hundred,
    "holds": role_holds,
    "never-reads": role_never_reads,
}


def run(name, command):
    scenario, config = SCENARIOS[name]
    with tempfile.TemporaryDirectory(prefix="broker-interop-") as directory:
        broker = None
        try:
            broker = Broker(command, directory, config)
            scenario(broker)
        except Exception as error:  # whatever went wrong is this scenario's failure
            traceback.print_exc()
            if broker is not None:
                with open(broker.log, encoding="utf-8") as log:
                    sys.stderr.write(log.read()[-4000:])
            reason = re.sub(r"\s+", " ", str(error) or repr(error))[:400]
            print(f"FAIL {name}: {reason}", flush=True)
            return False
        finally:
            if broker is not None:
                broker.stop()
    print(f"PASS {name}", flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenario", nargs="?", default="all", help=", ".join(SCENARIOS))
    parser.add_argument("--broker-cmd", help="command line with {port}, {data} and {config}")
    parser.add_argument("--role", choices=ROLES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    # The client reports every lost connection, and losing them is what some scenarios are about.
    logging.disable(logging.CRITICAL)
    if options.role:
        ROLES[options.role](options.scenario)
        return 0
    if not options.broker_cmd:
        parser.error("--broker-cmd is required")
    names = list(SCENARIOS) if options.scenario == "all" else [options.scenario]
    if names[0] not in SCENARIOS:
        parser.error(f"unknown scenario; known are {', '.join(SCENARIOS)}")
    results = [run(name, options.broker_cmd) for name in names]
    return results.count(False)


if __name__ == "__main__":
    sys.exit(main())
