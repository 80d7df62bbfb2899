"""The stack as containers: docker/compose.yaml unchanged, with files and ports of the scenario."""

import json
import os
import secrets
import shutil
import subprocess
import time

from ports import free_ports
from waiting import Failed, wait_for

from .base import Stack, is_root, run
from .disk import SmallDisk
from .settings import ROOT

PROJECT = "tidemark-scenarios"
NETWORK = f"{PROJECT}_default"
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
        (folder / "broker.toml").write_text(self.settings.broker_config())
        (folder / "records").mkdir()
        (folder / "records").chmod(0o777)
        (folder / "override.json").write_text(json.dumps(self.override()))
        self.compose("up", "-d", "--no-build", "postgres", "dev-broker", *(["rest-api"] if self.settings.api else []))
        self.start_server("postgres")
        self.start_server("broker")

    def override(self):
        """Mounts replace those of compose.yaml that have the same place in the container."""
        config = f"{self.folder}/processor.toml:/etc/tidemark/tidemark.toml:ro"
        processor = {"volumes": [config, f"{self.sql_folder}:/etc/tidemark/sql:ro"]}
        postgres = {}
        if self.settings.memory:
            processor["mem_limit"] = self.settings.memory
        if self.settings.small_disks:
            for name, service, place in [
                ("checkpoints", processor, "/var/lib/tidemark"),
                ("data", postgres, "/var/lib/postgresql/data"),
            ]:
                path = self.folder / name
                path.mkdir()
                self.disks.append(SmallDisk(path, self.settings.small_disks))
                path.chmod(0o777)
                service.setdefault("volumes", []).append(f"{path}:{place}")
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
        if not self.has_processor(number):
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
        container = self.container("postgres")
        return ["docker", "exec", "-i", container, "psql", "-U", "postgres", "-d", "tidemark"]

    def stop_server(self, name, kill=False):
        run(["docker", "kill" if kill else "stop", self.container(name)])

    def start_server(self, name):
        container = self.container(name)
        run(["docker", "start", container])
        if name == "postgres":
            ready = ["docker", "exec", container, "pg_isready", "-q", "-h", "127.0.0.1", "-U", "tidemark"]
            wait_for(
                lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0,
                f"PostgreSQL takes connections; {self.log_tail('postgres')}",
                60,
            )
        else:
            wait_for(lambda: "broker is up" in self.logs("broker"), f"the broker is up; {self.log_tail('broker')}", 30)

    def cut(self, server, direction="both"):
        """By the packet filter in the network of the processor's container: packets are dropped, nobody is told."""
        pid = self.processor_pid()
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
