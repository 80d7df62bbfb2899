"""What all stacks have in common, and what each of them must do itself."""

import json
import os
import subprocess
import time
from pathlib import Path

from events import Record
from prometheus import readiness, scrape
from waiting import Failed, check, wait_for

COMMITTED = (
    "SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM (SELECT o FROM tidemark_ledger, unnest(offsets) o "
    "UNION ALL SELECT offsets FROM tidemark_committed) a, unnest(a.o) r"
)


class Generation:
    """A run of the generator. Its record is another run with the same seed and clock, into a file."""

    def __init__(self, handle, record, events):
        self.handle, self.record, self.events = handle, record, events
        self.output = None

    def lines(self, beginning):
        """What the generator has said, once it has ended."""
        self.output = self.output or self.handle.finish()
        return [line.split() for line in self.output.splitlines() if line.startswith(beginning)]

    def acknowledged(self):
        """Waits for the end; how many messages the broker has stored, by the generator's own word."""
        for words in self.lines("acknowledged "):
            return int(words[1])
        raise Failed(f"it did not say how much it published:\n{self.output[-1500:]}")

    def stored(self):
        """The events that the broker has acknowledged: those of the record that it has not rejected."""
        rejected = set()
        for words in self.lines("rejected messages "):
            rejected.update(range(int(words[2]), int(words[4]) + 1))
        return (event for number, event in enumerate(self.record.events()) if number not in rejected)


class Stack:
    """Subclasses start, kill and find things; all that is said by SQL and HTTP is here."""

    def __init__(self, settings):
        self.settings = settings
        self.generations = []
        self.folder = settings.folder
        # The servers' own users have to get in.
        old = os.umask(0o022)
        self.folder.mkdir(parents=True)
        os.umask(old)

    # Each stack's own.

    def start(self):
        """Starts everything but processors and generators."""
        raise NotImplementedError

    def start_processor(self, number=0):
        raise NotImplementedError

    def signal_processor(self, name, number=0):
        """KILL, STOP, CONT, ..."""
        raise NotImplementedError

    def end_processor(self, number=0):
        """SIGTERM, and waits; the seconds it took and the exit code."""
        raise NotImplementedError

    def processor_pid(self, number=0):
        """As this machine's kernel numbers it; `None` if it does not run."""
        raise NotImplementedError

    def http_address(self, number=0):
        raise NotImplementedError

    def stop_server(self, name, kill=False):
        """`broker` or `postgres`."""
        raise NotImplementedError

    def start_server(self, name):
        raise NotImplementedError

    def cut(self, server, direction="both"):
        """Nothing passes between processor and server any more: both ways, `to` it or `from` it."""
        raise NotImplementedError

    def heal(self):
        """Undoes all cuts."""
        raise NotImplementedError

    def psql_command(self):
        raise NotImplementedError

    def run_generator(self, arguments):
        """Starts one that publishes; a handle with `finish()`, which returns its output."""
        raise NotImplementedError

    def run_publisher(self, path):
        """Starts one that publishes the messages of a file; a handle as of a generator."""
        raise NotImplementedError

    def back_up(self, database, more=()):
        """A copy of the running database."""
        raise NotImplementedError

    def start_standby(self, database):
        """A server that follows the database."""
        raise NotImplementedError

    def promote(self, database):
        """The server that has followed takes the place of the one that it has followed."""
        raise NotImplementedError

    def offsets_of(self, database):
        """What the ledger of a copy holds that no server runs on."""
        raise NotImplementedError

    def kills_for_memory(self):
        """How many processors the kernel has ended for want of memory."""
        raise NotImplementedError

    def write_record(self, path, arguments):
        """A generator that writes the file instead."""
        raise NotImplementedError

    def logs(self, name):
        raise NotImplementedError

    def close(self):
        raise NotImplementedError

    # Common.

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def kill_processor(self, number=0):
        self.signal_processor("KILL", number)
        wait_for(lambda: self.processor_pid(number) is None, "the killed processor is gone")

    def restart_processor(self, number=0):
        seconds, code = self.end_processor(number)
        self.start_processor(number)
        return seconds, code

    def generate(self, events, rate="5000/min", seed=1, start=None, more=()):
        """Starts to publish `events` messages, whose clock starts now and moves by the rate."""
        start = start or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        arguments = ["--events", str(events), "--rate", rate, "--seed", str(seed)]
        # A database's SCN only rises, whatever its clock does.
        scn = 1_000_000_000 * (1 + len(self.generations))
        arguments += ["--start-time", start, "--first-scn", str(scn), *more]
        path = self.folder / f"record-{len(self.generations)}.ndjson"
        self.write_record(path, arguments)
        generation = Generation(self.run_generator([*arguments, *self.beside()]), Record(path), events)
        self.generations.append(generation)
        return generation

    def beside(self):
        """What else generators publish."""
        return ["--neighbours", str(self.settings.neighbours)]

    def publish(self, events, rate, seed=1):
        """Starts to publish by the wall clock: each event says when it was made, and nobody can make it again."""
        arguments = ["--events", str(events), "--rate", rate, "--seed", str(seed)]
        return Generation(self.run_generator([*arguments, *self.beside()]), None, events)

    def query(self, sql):
        """Rows of text; `None` stands for NULL."""
        command = [*self.psql_command(), "-XAtq", "-F", "\x1f", "-R", "\x1e", "-P", "null=\x1d"]
        command += ["-v", "ON_ERROR_STOP=1", "-f", "-"]
        ran = subprocess.run(command, input=sql, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise Failed(f"{sql[:300]}: {ran.stderr.strip()}")
        rows = ran.stdout.removesuffix("\n").split("\x1e") if ran.stdout.strip("\n") else []
        value = lambda text: None if text == "\x1d" else text  # noqa: E731
        return [[value(text) for text in row.split("\x1f")] for row in rows]

    def number(self, sql):
        return int(self.query(sql)[0][0])

    def json_rows(self, sql, **how):
        """Of a query whose only column is JSON."""
        return [json.loads(row[0], **how) for row in self.query(sql)]

    def committed(self):
        """Messages in the ledger; 0 while there is none, or nobody to ask."""
        try:
            return self.number(COMMITTED)
        except Failed:
            return 0

    def wait_for_commits(self, count):
        wait_for(
            lambda: self.committed() >= count,
            f"{count} messages committed, now {self.committed()}; {self.log_tail('processor')}",
            every=0.3,
        )

    def readiness(self, number=0):
        return readiness(self.http_address(number))

    def is_ready(self, number=0):
        return (self.readiness(number) or {}).get("ready", False)

    def is_ready_or_gone(self, number):
        return self.processor_pid(number) is None or self.is_ready(number)

    def checkpoint_files(self):
        """Their names, in order."""
        raise NotImplementedError

    def wait_until_ready(self, number=0):
        started = time.monotonic()
        wait_for(lambda: self.is_ready_or_gone(number), f"ready; {self.log_tail('processor')}", every=0.05)
        check(self.processor_pid(number) is not None, f"the processor has ended; {self.log_tail('processor')}")
        return time.monotonic() - started

    def metrics(self, number=0):
        return wait_for(lambda: scrape(self.http_address(number)), "/metrics answers", 30)

    def memory_mib(self, number=0, peak=False, kind="VmRSS"):
        """Resident size of the processor, by the kernel's own count."""
        pid = self.processor_pid(number)
        label = "VmHWM:" if peak else f"{kind}:"
        try:
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(label):
                    return int(line.split()[1]) // 1024
        except OSError:
            pass
        return 0

    def log_tail(self, name, lines=12):
        return "\n  ".join(["its log ends with:", *self.logs(name).splitlines()[-lines:]])


def is_root():
    return os.geteuid() == 0


def run(command, **how):
    """Output of a command that must succeed."""
    ran = subprocess.run(command, capture_output=True, text=True, check=False, **how)
    if ran.returncode != 0:
        words = " ".join(map(str, command))
        raise Failed(f"'{words}' failed: {(ran.stderr or ran.stdout).strip()[-800:]}")
    return ran.stdout
