"""A limit on the memory of a process, by a control group of the kernel. Needs root."""

import os
import time
from pathlib import Path

from waiting import Skipped

GROUPS = Path("/sys/fs/cgroup")
NAME = "tidemark-scenarios"
UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class MemoryGroup:
    """A group below that of this process, so that its own limits hold too; of either version."""

    def __init__(self, limit):
        """`limit`: such as `256m`."""
        of_version_1 = GROUPS / "memory"
        self.is_old = of_version_1.is_dir()
        self.path = (of_version_1 if self.is_old else GROUPS) / own_group("memory" if self.is_old else "") / NAME
        size = int(limit[:-1]) * UNITS[limit[-1]]
        try:
            self.path.mkdir(exist_ok=True)
            (self.path / ("memory.limit_in_bytes" if self.is_old else "memory.max")).write_text(str(size))
        except OSError as error:
            raise Skipped(f"a limit on memory needs root and a control group that takes it: {error}") from error

    def enter(self):
        """To be called by the process itself."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def kills(self):
        """How many processes the kernel has ended for want of memory."""
        text = (self.path / ("memory.oom_control" if self.is_old else "memory.events")).read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])

    def remove(self):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                return self.path.rmdir()
            except OSError:
                # sleep: the kernel frees the group soon after its last process
                time.sleep(0.1)
        return None


def own_group(controller):
    """Where this process is in the hierarchy of a controller; that of version 2 has none."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path.lstrip("/")
    return ""
