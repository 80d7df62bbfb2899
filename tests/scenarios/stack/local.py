"""The stack as processes of this machine, on free loopback ports, each with its log in the folder."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from checks import Ledger
from ports import free_ports
from waiting import Failed, wait_for

from .base import Stack, is_root, run
from .disk import SmallDisk
from .link import Link
from .memory import MemoryGroup

# What the image of the database runs as well.
ROLE = Path(__file__).resolve().parents[3] / "docker/postgres/role.sql"


class Process:
    """A child with its output in a file."""

    def __init__(self, command, log, env=None, before=None):
        """`before`: called in the child before it becomes the program."""
        self.log, self.start = log, log.stat().st_size if log.exists() else 0
        with open(log, "ab") as out:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                cwd="/",
                start_new_session=True,
                preexec_fn=before,
            )

    def is_running(self):
        return self.child.poll() is None

    def finish(self):
        """Waits for the end; what it wrote."""
        self.child.wait()
        with open(self.log, encoding="utf-8", errors="replace") as log:
            log.seek(self.start)
            return log.read()

    def end(self, name=signal.SIGTERM, seconds=30):
        if self.is_running():
            self.child.send_signal(name)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        return self.child.returncode


class LocalStack(Stack):
    kind = "local processes"

    def __init__(self, settings):
        super().__init__(settings)
        self.memory = MemoryGroup(settings.memory) if settings.memory else None
        ports = free_ports(4 + settings.processors)
        self.broker_port, self.postgres_port, self.api_port, self.semp_port = ports[:4]
        self.http_ports = ports[4:]
        self.links, self.disks = {}, []
        self.broker = self.postgres = self.api = None
        # Folders of the server that is to be started next.
        self.site, self.database = "broker", "postgres"
        self.standby = None
        self.processors = {}
        self.runs = []
        self.env = dict(os.environ, SOLACE_USERNAME="tidemark", SOLACE_PASSWORD="scenario", SOLACE_VPN="default")
        self.env |= {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_DB": "postgres", "POSTGRES_USER": "tidemark"}
        self.env |= {"POSTGRES_PASSWORD": "scenario", "SOLACE_HOST": f"tcp://127.0.0.1:{self.broker_port}"}
        self.env |= {"SEMP_URL": f"http://127.0.0.1:{self.semp_port}", "SEMP_USERNAME": "admin"}
        self.env |= {"SEMP_PASSWORD": "scenario", "API_URL": f"http://127.0.0.1:{self.api_port}", "TIDEMARK_ALSO": ""}
        self.env |= {"TIDEMARK_ROLE": "tidemark", "TIDEMARK_ROLE_PASSWORD": "scenario"}

    def start(self):
        folder = self.folder
        for name in ["data", "checkpoints"]:
            (folder / name).mkdir()
            if self.settings.small_disks:
                self.disks.append(SmallDisk(folder / name, self.settings.small_disks))
        self.sql_folder = self.settings.sql()
        (folder / "broker.toml").write_text(self.settings.broker_config())
        ports = {"broker": self.broker_port, "postgres": self.postgres_port}
        if self.settings.partitions:
            self.links = {name: Link(port) for name, port in ports.items()}
            ports = {name: link.port for name, link in self.links.items()}
        for number in range(self.settings.processors):
            places = {
                '"${SOLACE_HOST}"': f'"tcp://127.0.0.1:{ports["broker"]}"',
                '"${POSTGRES_HOST}"': f'"127.0.0.1"\nport = {ports["postgres"]}',
                "/etc/tidemark/sql": str(self.sql_folder),
                "file:///var/lib/tidemark/checkpoints": f"file://{folder}/checkpoints/processor",
                "/var/lib/tidemark/state": f"{folder}/state-{number}",
                "0.0.0.0:8080": f"127.0.0.1:{self.http_ports[number]}",
            }
            config = self.settings.processor_config(places)
            (folder / f"processor-{number}.toml").write_text(config)
        self.initdb()
        self.start_server("postgres")
        role = [*self.psql_command(), "-Xq", "-v", "ON_ERROR_STOP=1", "-f", str(ROLE)]
        subprocess.run(role, env=self.env, check=True)
        self.start_server("broker")
        if self.settings.api:
            self.api = self.tidemark("api", ["api", "--listen", f"127.0.0.1:{self.api_port}"])

    def tidemark(self, log, arguments, before=None):
        return Process([self.settings.program, *arguments], self.folder / f"{log}.log", self.env, before)

    def initdb(self):
        self.postgres_bin = postgres_programs()
        data = self.folder / "data/postgres"
        data.mkdir()
        if is_root():
            shutil.chown(data, "postgres")
        initdb = [self.postgres_bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        run(as_postgres(initdb), cwd="/")

    def psql_command(self):
        psql = self.postgres_bin / "psql"
        return [psql, f"postgres://postgres@127.0.0.1:{self.postgres_port}/postgres?connect_timeout=5"]

    def start_server(self, name):
        if name == "broker":
            listen = ["--listen", f"127.0.0.1:{self.broker_port}", "--semp-listen", f"127.0.0.1:{self.semp_port}"]
            files = ["--data", self.folder / self.site, "--config", self.folder / "broker.toml"]
            self.broker = self.tidemark("broker", ["broker", *listen, *files])
            wait_for(lambda: listens(self.broker_port), f"the broker listens; {self.log_tail('broker')}", 30)
            return
        wait_for(self.try_postgres, f"PostgreSQL takes connections; {self.log_tail('postgres')}", 60)

    def try_postgres(self):
        """A crashed server's children hold its memory for a moment; until then a new one ends at once."""
        if self.postgres is None or not self.postgres.is_running():
            self.postgres = self.postgres_server(self.database, self.postgres_port)
        return self.takes_connections(self.postgres_port)

    def postgres_server(self, database, port):
        """A server of `data/DATABASE`."""
        where = ["-p", str(port), "-k", "", "-c", "listen_addresses=127.0.0.1"]
        server = as_postgres([self.postgres_bin / "postgres", "-D", self.folder / "data" / database, *where])
        return Process(server, self.folder / "postgres.log")

    def takes_connections(self, port):
        ready = [self.postgres_bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        return subprocess.run(ready, check=False).returncode == 0

    def offsets_of(self, database):
        """What the ledger of `data/DATABASE` holds, whose server has ended."""
        (port,) = free_ports(1)
        server, current = self.postgres_server(database, port), self.postgres_port
        try:
            wait_for(lambda: self.takes_connections(port), f"the other server is there; {self.log_tail('postgres')}", 60)
            self.postgres_port = port
            return Ledger(self).offsets()
        finally:
            self.postgres_port = current
            server.end(signal.SIGINT)

    def back_up(self, database, more=()):
        """A copy of the running server, as `data/DATABASE`."""
        where = ["-h", "127.0.0.1", "-p", str(self.postgres_port), "-U", "postgres"]
        copy = [self.postgres_bin / "pg_basebackup", "-D", self.folder / "data" / database, "-c", "fast", *where, *more]
        (self.folder / "data" / database).mkdir(mode=0o700)
        if is_root():
            shutil.chown(self.folder / "data" / database, "postgres")
        run(as_postgres(copy), cwd="/")

    def start_standby(self, database):
        """Another server that follows this one, asynchronously and over a link of its own."""
        link = self.links["standby"] = Link(self.postgres_port)
        follows = f"host=127.0.0.1 port={link.port} user=tidemark application_name=standby"
        self.back_up(database)
        folder = self.folder / "data" / database
        with open(folder / "postgresql.auto.conf", "a", encoding="utf-8") as settings:
            settings.write(f"primary_conninfo = '{follows}'\n")
        (folder / "standby.signal").touch()
        if is_root():
            shutil.chown(folder / "standby.signal", "postgres")
        (self.standby_port,) = free_ports(1)
        self.standby = self.postgres_server(database, self.standby_port)
        wait_for(lambda: self.takes_connections(self.standby_port), f"the standby is there; {self.log_tail('postgres')}", 60)
        following = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'standby' AND state = 'streaming'"
        wait_for(lambda: self.number(following) == 1, f"the standby follows; {self.log_tail('postgres')}", 60)

    def promote(self, database):
        """The standby is the server from now on, for everybody who comes over the link."""
        run(as_postgres([self.postgres_bin / "pg_ctl", "promote", "-w", "-D", self.folder / "data" / database]), cwd="/")
        self.postgres, self.standby = self.standby, None
        self.postgres_port = self.links["postgres"].target = self.standby_port
        self.database = database

    def stop_server(self, name, kill=False):
        if name == "broker":
            self.broker.end(signal.SIGKILL if kill else signal.SIGTERM)
        else:
            self.postgres.end(signal.SIGKILL if kill else signal.SIGINT)

    def start_processor(self, number=0):
        config = self.folder / f"processor-{number}.toml"
        before = self.memory.enter if self.memory else None
        self.processors[number] = self.tidemark("processor", ["run", "--config", config], before)

    def signal_processor(self, name, number=0):
        self.processors[number].child.send_signal(getattr(signal, f"SIG{name}"))

    def end_processor(self, number=0):
        started = time.monotonic()
        code = self.processors[number].end()
        return time.monotonic() - started, code

    def processor_pid(self, number=0):
        process = self.processors.get(number)
        return process.child.pid if process and process.is_running() else None

    def http_address(self, number=0):
        return f"127.0.0.1:{self.http_ports[number]}"

    def api_address(self):
        return f"127.0.0.1:{self.api_port}"

    def cut(self, server, direction="both"):
        self.links[server].cut(direction)

    def heal(self):
        for link in self.links.values():
            link.heal()

    def run_generator(self, arguments):
        config = self.folder / "processor-0.toml"
        generator = self.tidemark("generator", ["generate", "--config", config, *arguments])
        self.runs.append(generator)
        return generator

    def run_publisher(self, path):
        config = self.folder / "processor-0.toml"
        publisher = self.tidemark("publisher", ["publish", "--config", config, path])
        self.runs.append(publisher)
        return publisher

    def kills_for_memory(self):
        return self.memory.kills()

    def write_record(self, path, arguments):
        run([self.settings.program, "generate", "--output", path, *arguments])

    def checkpoint_files(self):
        return sorted(path.name for path in (self.folder / "checkpoints").rglob("sales-epochs-*.parquet"))

    def logs(self, name):
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self):
        for process in [*self.processors.values(), *self.runs, self.api, self.broker]:
            if process is not None:
                if process.is_running():
                    process.child.send_signal(signal.SIGCONT)
                process.end(seconds=15)
        for link in self.links.values():
            link.close()
        for server in [self.standby, self.postgres]:
            if server is not None:
                server.end(signal.SIGINT)
        if self.memory:
            self.memory.remove()
        for disk in self.disks:
            disk.unmount()


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def as_postgres(command):
    """PostgreSQL refuses to run as root, so root hands over to the user that Debian's package makes."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--", *command] if is_root() else command


def postgres_programs():
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True) + folders
    for folder in folders:
        if all((folder / program).exists() for program in ["initdb", "postgres", "pg_isready", "psql"]):
            return folder
    raise Failed("PostgreSQL's initdb is not there: `make setup` installs it")
