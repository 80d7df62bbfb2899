"""What the scenarios need: a broker process of their own, clients and ways to wait for a state."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from solace.messaging.config.missing_resources_creation_configuration import (
    MissingResourcesCreationStrategy,
)
from solace.messaging.config.message_acknowledgement_configuration import Outcome
from solace.messaging.config.retry_strategy import RetryStrategy
from solace.messaging.messaging_service import MessagingService
from solace.messaging.publisher.persistent_message_publisher import MessagePublishReceiptListener
from solace.messaging.resources.queue import Queue
from solace.messaging.resources.topic import Topic
from solace.messaging.resources.topic_subscription import TopicSubscription

sys.path.append(str(Path(__file__).resolve().parent.parent / "support"))

from ports import free_ports

DEADLINE_SECONDS = 60
CONFIG = """
[users]
admin = "secret"
reader = { password = "reading", provision = false }
writer = { password = "writing", consume = false }
"""


def wait_for(condition, what, seconds=DEADLINE_SECONDS):
    """Returns the first true value of `condition`; fails with `what` after the deadline."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        # sleep: between two looks at the state that is waited for
        time.sleep(0.01)


def check(condition, what):
    if not condition:
        raise AssertionError(what)


class Broker:
    """The broker under test, in a process that can be killed and started again on its data."""

    def __init__(self, command, directory, config=""):
        self.command = command
        self.data = os.path.join(directory, "data")
        self.config = os.path.join(directory, "broker.toml")
        self.log = os.path.join(directory, "broker.log")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(config + CONFIG)
        [self.port] = free_ports(1)
        self.process = None
        self.start()

    @property
    def host(self):
        return f"tcp://127.0.0.1:{self.port}"

    def start(self):
        words = {"port": self.port, "data": self.data, "config": self.config}
        command = [word.format(**words) for word in shlex.split(self.command)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._is_listening, f"broker listens; its log is {self.log}")

    def _is_listening(self):
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8") as log:
                raise AssertionError("broker ended: " + log.read()[-1000:])
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def resident_mb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            lines = dict(line.split(":", 1) for line in status)
        return int(lines["VmRSS"].split()[0]) // 1024

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=DEADLINE_SECONDS)


def connect(broker_host, user="admin", password="secret", name=None, retries=300):
    properties = {
        "solace.messaging.transport.host": broker_host,
        "solace.messaging.service.vpn-name": "default",
        "solace.messaging.authentication.scheme.basic.username": user,
        "solace.messaging.authentication.scheme.basic.password": password,
    }
    if name:
        properties["solace.messaging.client.name"] = name
    retry = RetryStrategy.parametrized_retry(retries, 200)
    builder = MessagingService.builder().from_properties(properties)
    service = builder.with_reconnection_retry_strategy(retry).build()
    service.connect()
    return service


def receiver(service, queue, topics=(), settles=False, create=True):
    """A started receiver with client acknowledgement; `queue` is a Queue or the name of one."""
    if isinstance(queue, str):
        queue = Queue.durable_exclusive_queue(queue)
    builder = service.create_persistent_message_receiver_builder()
    builder = builder.with_message_client_acknowledgement()
    if create:
        strategy = MissingResourcesCreationStrategy.CREATE_ON_START
        builder = builder.with_missing_resources_creation_strategy(strategy)
    if topics:
        builder = builder.with_subscriptions([TopicSubscription.of(topic) for topic in topics])
    if settles:
        builder = builder.with_required_message_outcome_support(Outcome.FAILED, Outcome.REJECTED)
    built = builder.build(queue)
    built.start()
    return built


class Receipts(MessagePublishReceiptListener):
    """Counts what became of the published messages."""

    def __init__(self):
        self.lock = threading.Lock()
        self.acked = 0
        self.errors = []

    def on_publish_receipt(self, publish_receipt):
        with self.lock:
            if publish_receipt.exception is None:
                self.acked += 1
            else:
                self.errors.append(str(publish_receipt.exception))

    @property
    def total(self):
        with self.lock:
            return self.acked + len(self.errors)


class Publisher:
    """Persistent messages with receipts; waits while its buffer is full."""

    def __init__(self, service):
        self.service = service
        self.receipts = Receipts()
        builder = service.create_persistent_message_publisher_builder()
        self.publisher = builder.on_back_pressure_wait(1000).build()
        self.publisher.start()
        self.publisher.set_message_publish_receipt_listener(self.receipts)
        self.sent = 0

    def send(self, topic, text, properties=None):
        builder = self.service.message_builder()
        for key, value in (properties or {}).items():
            builder = builder.with_property(key, value)
        self.publisher.publish(builder.build(text), Topic.of(topic))
        self.sent += 1

    def wait_for_receipts(self):
        wait_for(lambda: self.receipts.total >= self.sent, "a receipt of every message")
        return self.receipts


def receive(source, count, seconds=DEADLINE_SECONDS):
    """The next `count` messages."""
    messages = []
    end = time.monotonic() + seconds
    while len(messages) < count:
        message = source.receive_message(timeout=500)
        if message is not None:
            messages.append(message)
        elif time.monotonic() > end:
            raise AssertionError(f"only {len(messages)} of {count} messages came")
    return messages


def texts(messages):
    return [message.get_payload_as_string() for message in messages]


def rgmid(message):
    return str(message.get_replication_group_message_id())


class Child:
    """This script in another process, running one of its roles until it is killed."""

    def __init__(self, role, *arguments):
        script = os.path.abspath(sys.argv[0])
        command = [sys.executable, script, "--role", role, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def lines(self, count):
        lines = []
        while len(lines) < count:
            line = self.process.stdout.readline()
            check(line, "the child process ended early")
            lines.append(line.strip())
        return lines

    def stop(self):
        """Freezes the process: its connections stay open and silent."""
        self.process.send_signal(signal.SIGSTOP)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
