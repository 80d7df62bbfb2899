"""What a scenario changes in the shipped configuration."""

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SHIPPED_CONFIG = ROOT / "docker/tidemark.toml"
SHIPPED_BROKER = ROOT / "docker/broker.toml"
SHIPPED_SQL = ROOT / "sql"
# What the generator's neighbours fill, and nothing reads.
NEIGHBOURS = '[[queues]]\nname = "neighbours"\ntopics = ["neighbours/>"]\n'


@dataclass
class Settings:
    """The shipped stack, with these differences."""

    folder: Path
    program: Path
    image: str = "tidemark-scenarios"
    # Lines for sections of the processor's configuration: {"sink.postgres": "breaker_pause = '2s'"}.
    config: dict = field(default_factory=dict)
    # Sections at its end.
    more_config: str = ""
    # Lines at the top of the broker's configuration, and in that of its queue.
    broker: str = ""
    queue: str = ""
    # Called with a copy of the shipped SQL, to change it.
    edit_sql: object = None
    # How many processors are started at most.
    processors: int = 1
    # The container's memory, such as `256m`, and whether that is what the scenario is about.
    memory: str = ""
    # Messages per event that the generator publishes to a second queue at the same time: ids of ours have gaps then.
    neighbours: float = 0.1
    # Connections of the processor can be cut.
    partitions: bool = False
    # The database is copied, and the processor ends by itself when that has lost something.
    copies: bool = False
    # With the REST API.
    api: bool = False
    # MiB of the disks that Postgres and the checkpoints are on; 0: the machine's.
    small_disks: int = 0

    def sql(self):
        copy = self.folder / "sql"
        shutil.copytree(SHIPPED_SQL, copy)
        if self.edit_sql:
            self.edit_sql(copy)
        return copy

    def processor_config(self, places):
        """`places`: texts of the shipped file that are others here."""
        text = SHIPPED_CONFIG.read_text()
        for shipped, here in places.items():
            assert shipped in text, f"{SHIPPED_CONFIG} has no {shipped}"
            text = text.replace(shipped, here)
        for section, lines in self.config.items():
            text = with_lines(text, section, lines)
        # The broker says how many messages wait.
        text += self.more_config
        return with_lines(text, "source.semp", 'interval = "1s"')

    def broker_config(self):
        text = SHIPPED_BROKER.read_text()
        assert text.rstrip().splitlines()[-1].startswith("topics"), "the queue comes last"
        return f"{self.broker}\n{text}\n{self.queue}\n{NEIGHBOURS}"


def with_lines(text, section, lines):
    """Lines under `[section]`, which is made if it is not there."""
    header = f"[{section}]"
    if re.search(rf"^{re.escape(header)}$", text, re.M):
        return text.replace(f"{header}\n", f"{header}\n{lines}\n", 1)
    return f"{text}\n{header}\n{lines}\n"
