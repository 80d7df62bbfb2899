"""What a scenario did and measured, as lines for people."""

import time


class Report:
    def __init__(self, name, title):
        self.name, self.started = name, time.monotonic()
        # Of a load: its figures.
        self.results = None
        print(f"== {name}  {title}", flush=True)

    def did(self, what):
        print(f"   {time.monotonic() - self.started:6.1f} s  {what}", flush=True)

    def measured(self, what, value):
        print(f"             {what}: {value}", flush=True)

    def ended(self, verdict, reason=""):
        seconds = time.monotonic() - self.started
        because = f": {reason}" if reason else ""
        print(f"   {verdict}  {self.name} after {seconds:.0f} s{because}\n", flush=True)
