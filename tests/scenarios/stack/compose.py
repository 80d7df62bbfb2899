"""The stack as containers: docker/compose.yaml unchanged, with files and ports of the scenario."""

import json
import os
import secrets
import shutil
import subprocess
import time

from ports import free_ports
from waiting import Failed, wait_for

from checks import Ledger

from .base import Stack, is_root, run
from .disk import SmallDisk
from .settings import ROOT

PROJECT = "tidemark-scenarios"
NETWORK = f"{PROJECT}_default"
# Where the databases are of scenarios that copy them.
DATABASES = "/databases"
SERVICES = {"broker": "dev-broker", "postgres": "postgres", "processor": "processor", "generator": "generator"}


def compose_program():
    """`docker compose`, or docker-compose 1.29; `None` without either."""
    for command in [["docker", "compose"], ["docker-compose"]]:
        if shutil.which(command[0]):
            tried = subprocess.run([*command, "version"], capture_output=True, check=False)
            if tried.returncode == 0:
                return command
    return None


def is_available():
    return compose_program() is not None and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


class Container:
    """One run of a service that ends by itself."""

    def __init__(self, name):
        self.name = name

    def finish(self):
        run(["docker", "wait", self.name])
        return run(["docker", "logs", self.name]) if self.exists() else ""

    def exists(self):
        return subprocess.run(["docker", "inspect", self.name], capture_output=True, check=False).returncode == 0


class ComposeStack(Stack):
    kind = "containers"

    def __init__(self, settings):
        super().__init__(settings)
        self.password = secrets.token_hex(8)
        self.cuts, self.disks, self.runs = [], [], []
        # What the processor's container has in its environment beside what compose.yaml says.
        self.env = {}
        # Folders of the server that is to be started next.
        self.site, self.database = "broker", "postgres"
        # The standby's container when it has been promoted.
        self.promoted = None
        postgres, broker, api, processor, *others = free_ports(4 if settings.processors == 1 else 13)
        self.api_port = api
        # With two processors Docker chooses from a range.
        processor = f"{processor}-{others[-1]}" if others else processor
        values = {
            "COMPOSE_PROJECT_NAME": PROJECT,
            "TIDEMARK_IMAGE": settings.image,
            "TIDEMARK_DEV_IMAGE": f"{settings.image}-dev",
            "SOLACE_PASSWORD": self.password,
            "SOLACE_ADMIN_PASSWORD": self.password,
            "POSTGRES_PASSWORD": self.password,
            "POSTGRES_ADMIN_PASSWORD": self.password,
            "TIDEMARK_PORT": processor,
            "POSTGRES_PORT": postgres,
            "BROKER_PORT": broker,
            "API_PORT": api,
        }
        self.env_file = self.folder / "env"
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        self.env_file.chmod(0o600)

    def start(self):
        self.clear()
        folder = self.folder
        self.sql_folder = self.settings.sql()
        (folder / "processor.toml").write_text(self.settings.processor_config({}))
        self.write_broker_config()
        for name in ["records", *(["databases"] if self.settings.copies else [])]:
            (folder / name).mkdir()
            (folder / name).chmod(0o777)
        if self.settings.small_disks:
            for name in ["checkpoints", "data"]:
                (folder / name).mkdir()
                self.disks.append(SmallDisk(folder / name, self.settings.small_disks))
                (folder / name).chmod(0o777)
        self.write_override()
        self.compose("up", "-d", "--no-build", "postgres", "dev-broker", *(["rest-api"] if self.settings.api else []))
        self.start_server("postgres")
        self.start_server("broker")

    def write_broker_config(self):
        config = self.settings.broker_config()
        (self.folder / "broker.toml").write_text(config.replace("/tidemark/broker", f"/tidemark/{self.site}"))

    def write_override(self):
        (self.folder / "override.json").write_text(json.dumps(self.override()))

    def override(self):
        """Mounts replace those of compose.yaml that have the same place in the container."""
        config = f"{self.folder}/processor.toml:/etc/tidemark/tidemark.toml:ro"
        processor = {"volumes": [config, f"{self.sql_folder}:/etc/tidemark/sql:ro"], "environment": self.env}
        postgres = {}
        if self.settings.memory:
            processor["mem_limit"] = self.settings.memory
        if self.settings.copies:
            # What ends because a database has lost something stays ended.
            processor["restart"] = "no"
            postgres = {"volumes": [self.databases_mount()], "environment": {"PGDATA": f"{DATABASES}/{self.database}"}}
        if self.settings.small_disks:
            processor["volumes"].append(f"{self.folder}/checkpoints:/var/lib/tidemark")
            postgres["volumes"] = [f"{self.folder}/data:/var/lib/postgresql/data"]
        broker = {"volumes": [f"{self.folder}/broker.toml:/etc/tidemark/broker.toml:ro"]}
        services = {"processor": processor, "dev-broker": broker, "generator": {"volumes": [config]}}
        if postgres:
            services["postgres"] = postgres
        return {"services": services}

    def compose(self, *arguments):
        files = ["-f", ROOT / "docker/compose.yaml", "-f", self.folder / "override.json"]
        command = [*compose_program(), "--env-file", self.env_file, "-p", PROJECT, *files]
        profiles = {"COMPOSE_PROFILES": "dev-broker,generator,rest-api"}
        return run([*command, *arguments], env=os.environ | profiles, cwd=ROOT / "docker")

    def container(self, service, number=0):
        """Its id, in the order of their numbers."""
        labels = [f"label=com.docker.compose.project={PROJECT}", f"label=com.docker.compose.service={SERVICES[service]}"]
        filters = [word for label in [*labels, "label=com.docker.compose.oneoff=False"] for word in ["--filter", label]]
        template = '{{.Label "com.docker.compose.container-number"}} {{.ID}}'
        lines = sorted(run(["docker", "ps", "-a", *filters, "--format", template]).split("\n")[:-1])
        if number >= len(lines):
            raise Failed(f"there is no container {number} of {service}")
        return lines[number].split()[1]

    def inspect(self, service, template, number=0):
        return run(["docker", "inspect", "-f", template, self.container(service, number)]).strip()

    def start_processor(self, number=0):
        if json.loads((self.folder / "override.json").read_text()) != self.override():
            self.write_override()
            self.compose("up", "-d", "--no-build", "--no-deps", "processor")
        elif not self.has_processor(number):
            # One after the other: Docker gives each the next free port of the range.
            scale = ["--scale", f"processor={number + 1}"]
            self.compose("up", "-d", "--no-build", "--no-deps", "--no-recreate", *scale, "processor")
        elif self.processor_pid(number) is None:
            run(["docker", "start", self.container("processor", number)])

    def has_processor(self, number):
        try:
            return bool(self.container("processor", number))
        except Failed:
            return False

    def signal_processor(self, name, number=0):
        run(["docker", "kill", "-s", name, self.container("processor", number)])

    def end_processor(self, number=0):
        started = time.monotonic()
        run(["docker", "stop", "-t", "30", self.container("processor", number)])
        return time.monotonic() - started, int(self.inspect("processor", "{{.State.ExitCode}}", number))

    def processor_pid(self, number=0):
        try:
            return int(self.inspect("processor", "{{.State.Pid}}", number)) or None
        except Failed:
            return None

    def http_address(self, number=0):
        try:
            lines = run(["docker", "port", self.container("processor", number), "8080"]).splitlines()
        except Failed:
            # Not running: an address at which nobody answers.
            return "127.0.0.1:1"
        return lines[0].strip()

    def api_address(self):
        return f"127.0.0.1:{self.api_port}"

    def psql_command(self):
        return ["docker", "exec", "-i", self.postgres(), "psql", "-U", "postgres", "-d", "tidemark"]

    def postgres(self):
        return self.promoted or self.container("postgres")

    def stop_server(self, name, kill=False):
        run(["docker", "kill" if kill else "stop", self.container(name)])

    def start_server(self, name):
        if name == "postgres" and self.settings.copies:
            # Another database is another container.
            self.write_override()
            self.compose("up", "-d", "--no-build", "--no-deps", "postgres")
        if name == "broker":
            self.write_broker_config()
        container = self.container(name)
        run(["docker", "start", container])
        if name == "postgres":
            self.wait_for_postgres(container)
        else:
            wait_for(lambda: "broker is up" in self.logs("broker"), f"the broker is up; {self.log_tail('broker')}", 30)

    def wait_for_postgres(self, container):
        ready = ["docker", "exec", container, "pg_isready", "-q", "-h", "127.0.0.1", "-U", "tidemark"]
        wait_for(
            lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0,
            f"PostgreSQL takes connections; {self.log_tail('postgres')}",
            60,
        )

    def databases_mount(self):
        return f"{self.folder}/databases:{DATABASES}"

    def run_postgres(self, database, network):
        """A server of another folder of the databases; its container."""
        name = f"{PROJECT}-{database}-{network}"
        label = f"com.docker.compose.project={PROJECT}"
        where = ["--network", network, "-v", self.databases_mount(), "-e", f"PGDATA={DATABASES}/{database}"]
        run(["docker", "run", "-d", "--name", name, "--label", label, *where, "postgres:15"])
        self.wait_for_postgres(name)
        return name

    def back_up(self, database, more=()):
        """A copy of the running server's folder, beside it."""
        copy = ["pg_basebackup", "-D", f"{DATABASES}/{database}", "-c", "fast", "-U", "postgres", *more]
        run(["docker", "exec", "-u", "postgres", self.postgres(), *copy])

    def offsets_of(self, database):
        """What the ledger of a folder holds whose server has ended."""
        server, current = self.run_postgres(database, "none"), self.promoted
        try:
            self.promoted = server
            return Ledger(self).offsets()
        finally:
            self.promoted = current
            run(["docker", "rm", "-f", "-v", server])

    def start_standby(self, database):
        """Another server that follows this one, asynchronously."""
        allow = f"echo 'host replication all all scram-sha-256' >> {DATABASES}/{self.database}/pg_hba.conf"
        run(["docker", "exec", "-u", "postgres", self.postgres(), "sh", "-c", allow])
        self.query("SELECT pg_reload_conf()")
        self.back_up(database)
        follows = f"host=postgres user=postgres password={self.password} application_name=standby"
        follow = f'cd {DATABASES}/{database} && touch standby.signal && echo "primary_conninfo = \'{follows}\'" >> postgresql.auto.conf'
        run(["docker", "exec", "-u", "postgres", self.postgres(), "sh", "-c", follow])
        self.standby = self.run_postgres(database, NETWORK)
        following = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'standby' AND state = 'streaming'"
        wait_for(lambda: self.number(following) == 1, f"the standby follows; {self.log_tail('postgres')}", 60)

    def promote(self, database):
        """The standby is the server from now on, for everybody who knows it by name."""
        run(["docker", "exec", "-u", "postgres", self.standby, "pg_ctl", "promote", "-w", "-D", f"{DATABASES}/{database}"])
        run(["docker", "network", "disconnect", NETWORK, self.standby])
        run(["docker", "network", "connect", "--alias", "postgres", NETWORK, self.standby])
        self.promoted, self.database = self.standby, database

    def cut(self, server, direction="both"):
        """By the packet filter in the network of the processor's container: packets are dropped, nobody is told."""
        if server == "standby":
            self.cut_off(run(["docker", "inspect", "-f", "{{.State.Pid}}", self.standby]).strip(), "postgres", direction)
        else:
            self.cut_off(self.processor_pid(), server, direction)

    def cut_off(self, pid, server, direction):
        address = self.inspect(server, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
        rules = {"to": ["OUTPUT", "-d", address], "from": ["INPUT", "-s", address]}
        for name in rules if direction == "both" else [direction]:
            run(["nsenter", "-t", str(pid), "-n", "iptables", "-w", "-A", *rules[name], "-j", "DROP"])
        self.cuts.append(pid)

    def heal(self):
        for pid in self.cuts:
            # A container that has ended has taken its rules along.
            subprocess.run(["nsenter", "-t", str(pid), "-n", "iptables", "-w", "-F"], capture_output=True, check=False)
        self.cuts.clear()

    def can_cut(self):
        return is_root() and shutil.which("nsenter") and shutil.which("iptables")

    def run_generator(self, arguments):
        name = f"{PROJECT}-generator-{len(self.runs)}"
        config = "/etc/tidemark/tidemark.toml"
        self.compose("run", "-d", "--no-deps", "--name", name, "generator", "generate", "--config", config, *arguments)
        self.runs.append(Container(name))
        return self.runs[-1]

    def run_publisher(self, path):
        shutil.copy(path, self.folder / "records")
        name, mount = f"{PROJECT}-publisher-{len(self.runs)}", f"{self.folder}/records:/records:ro"
        publish = ["publish", "--config", "/etc/tidemark/tidemark.toml", f"/records/{path.name}"]
        self.compose("run", "-d", "--no-deps", "--name", name, "-v", mount, "generator", *publish)
        self.runs.append(Container(name))
        return self.runs[-1]

    def kills_for_memory(self):
        killed, restarts = self.inspect("processor", "{{.State.OOMKilled}} {{.RestartCount}}").split()
        return int(restarts) + (killed == "true")

    def write_record(self, path, arguments):
        mount = ["-v", f"{self.folder}/records:/records"]
        # As a user who may write there, whoever runs the scenario.
        image = ["--user", f"{os.getuid()}:{os.getgid()}", f"{self.settings.image}-dev"]
        run(["docker", "run", "--rm", *mount, *image, "generate", "--output", f"/records/{path.name}", *arguments])
        (self.folder / "records" / path.name).rename(path)

    def checkpoint_files(self):
        find = ["find", "/var/lib/tidemark", "-name", "sales-epochs-*.parquet", "-printf", "%f\n"]
        return sorted(run(["docker", "exec", self.container("processor"), *find]).split())

    def logs(self, name):
        try:
            container = self.container(name)
        except Failed:
            return ""
        ran = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=False)
        return ran.stdout + ran.stderr

    def clear(self):
        """Containers, network and volumes of the project, also those of a run that was interrupted."""
        names = run(["docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}"]).split()
        if names:
            run(["docker", "rm", "-f", "-v", *names])
        volumes = run(["docker", "volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={PROJECT}"]).split()
        if volumes:
            run(["docker", "volume", "rm", *volumes])
        if run(["docker", "network", "ls", "-q", "--filter", f"name=^{NETWORK}$"]).strip():
            run(["docker", "network", "rm", NETWORK])

    def close(self):
        self.clear()
        for disk in self.disks:
            disk.unmount()
