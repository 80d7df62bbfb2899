"""The container itself: its size, how fast it is ready, and what it may not do."""

import time
from pathlib import Path

from stack.base import run
from waiting import Skipped, check

from .scenario import Scenario


class Image(Scenario):
    name = "image"
    title = "the container: size, start to ready, read-only root, no capabilities, no root, SIGTERM"

    def run(self):
        if not hasattr(self.stack, "inspect"):
            raise Skipped("it is about containers")
        size = int(run(["docker", "image", "inspect", "-f", "{{.Size}}", self.stack.settings.image]))
        self.report.measured("image", f"{size / 1e6:.0f} MB, with the program as it was compiled here")
        self.begin(400)
        self.wait_for_more()
        seconds, code = self.stack.end_processor()
        self.report.measured("SIGTERM to the end", f"{seconds:.1f} s, exit code {code}")
        check(code == 0, "it ends by itself")
        started = time.monotonic()
        self.stack.start_processor()
        self.stack.wait_until_ready()
        self.report.measured("docker start to /ready", f"{time.monotonic() - started:.1f} s")
        self.may_do_little()
        self.everything_is_there()

    def may_do_little(self):
        status = Path(f"/proc/{self.stack.processor_pid()}/status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in status)
        check(int(fields["CapEff"], 16) == 0 and int(fields["CapBnd"], 16) == 0, f"capabilities: {fields['CapEff']}")
        check(fields["NoNewPrivs"] == "1", "it can't get more privileges")
        check(set(fields["Uid"].split()) == {"10001"}, f"it runs as {fields['Uid']}")
        tried = ["docker", "exec", self.stack.container("processor"), "sh", "-c"]
        answer = run([*tried, "touch /usr/local/bin/x 2>&1 || true"])
        check("Read-only file system" in answer, f"writing to the root file system: {answer}")
        self.report.did("no capability, user 10001, a root file system that can't be written")
