"""What a scenario is."""

import time

from checks import all_is_exact


class Scenario:
    name = ""
    title = ""
    # Fields of stack.Settings that differ.
    settings = {}

    def __init__(self, stack, report, full):
        self.stack, self.report, self.full = stack, report, full

    def size(self, short, full):
        """A number of the short form, and of the full one."""
        return full if self.full else short

    def run(self):
        raise NotImplementedError

    # What most of them do.

    def begin(self, events, rate="5000/min", **how):
        """The processor is ready, and events flow."""
        self.stack.start_processor()
        seconds = self.stack.wait_until_ready()
        self.report.did(f"processor ready after {seconds:.1f} s; {events} events at {rate}")
        self.load = {"events": events, "rate": rate, **how}
        return self.stack.generate(**self.load)

    def wait_for_more(self, count=50):
        """Until so many further messages are committed; the seconds that it took."""
        started = time.monotonic()
        wanted = self.stack.committed() + count
        if wanted > sum(generation.events for generation in self.stack.generations):
            self.go_on_publishing()
        self.stack.wait_for_commits(wanted)
        return time.monotonic() - started

    def go_on_publishing(self):
        """The same load again, because this machine needs longer for the scenario than the first one lasted."""
        self.stack.generations[-1].acknowledged()
        self.stack.generate(**self.load | {"seed": 1 + len(self.stack.generations)})

    def wait_for_all(self, count):
        """Until so many messages are committed."""
        self.stack.wait_for_commits(count)

    def everything_is_there(self):
        """Waits for the generators and the processor, and compares."""
        acknowledged = sum(generation.acknowledged() for generation in self.stack.generations)
        self.report.did(f"{acknowledged} messages published and stored by the broker")
        self.wait_for_all(acknowledged)
        all_is_exact(self.stack, self.report, acknowledged)
