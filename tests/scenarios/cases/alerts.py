"""Each rule of docker/alerts.yml, first over made-up series, then for real, by a Prometheus of our own."""

import json
import shutil
import time
import urllib.parse
import urllib.request
from pathlib import Path

from ports import free_ports
from stack.base import run
from stack.local import Process
from stack.settings import ROOT
from waiting import Skipped, check, wait_for

from .pressure import SLOW_COMMITS
from .scenario import Scenario

RULES = ROOT / "docker/alerts.yml"
TESTS = ROOT / "tests/alerts.yml"
CACHE = Path.home() / ".cache/tidemark/tools/prometheus"


class Alerts(Scenario):
    name = "alerts"
    title = "each alert rule sounds once, judged by Prometheus: heartbeat, error rate, dead letters, p99, queue"

    def run(self):
        programs = prometheus_programs()
        run([programs / "promtool", "check", "rules", RULES])
        run([programs / "promtool", "test", "rules", TESTS])
        self.report.did("promtool: each rule is silent where all is well and sounds where it is not")
        # Where it serves its metrics is known when it runs.
        first = self.begin(200)
        server = self.start_prometheus(programs)
        try:
            self.provoke(first)
        finally:
            server.end()
        self.everything_is_there()

    def provoke(self, first):
        first.acknowledged()
        wait_for(lambda: self.committed(200), "the first messages are committed")
        wait_for(lambda: self.value("cdc_messages_total") == 200, "Prometheus has seen them")
        check(not self.firing(), f"all is well, and there is an alert: {self.firing()}")

        self.stack.generate(2_000, "max", seed=2, more=["--faults", "0.2"]).acknowledged()
        self.sounds("TidemarkErrorRate", "TidemarkDeadLetters")

        self.stack.query(SLOW_COMMITS.format(seconds=40))
        # Without one whole batch there are still more than the rule asks for, for as long as it asks.
        self.stack.generate(12_000, "max", seed=3).acknowledged()
        self.sounds("TidemarkQueueDepth", "TidemarkSlow")
        self.stack.query("DROP TRIGGER slow ON tidemark_ledger")
        wait_for(lambda: self.committed(14_200), "all messages are committed")
        wait_for(lambda: "TidemarkQueueDepth" not in self.firing(), "the alert of the queue ends")

        self.stack.kill_processor()
        killed = time.monotonic()
        self.sounds("TidemarkHeartbeatMissing")
        silent = time.monotonic() - killed
        # The last heartbeat was scraped up to two seconds before.
        check(28 < silent < 40, f"the alert sounds 30 s after the last heartbeat, not {silent:.0f} s")
        self.report.measured("kill to alert", f"{silent:.0f} s")
        self.stack.start_processor()
        wait_for(lambda: "TidemarkHeartbeatMissing" not in self.firing(), "the alert of the consumer ends")

    def committed(self, count):
        return self.stack.committed() >= count

    def sounds(self, *names):
        for name in names:
            wait_for(lambda: name in self.firing(), f"{name} fires; what fires is {self.firing()}", 240)  # noqa: B023
            self.report.did(f"{name}: {self.firing()[name]}")

    def start_prometheus(self, programs):
        folder = self.stack.folder
        self.port = free_ports(1)[0]
        target = {"static_configs": [{"targets": [self.stack.http_address()]}], "job_name": "tidemark"}
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [target],
        }
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(config))
        words = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/prometheus"]
        words.append(f"--web.listen-address=127.0.0.1:{self.port}")
        server = Process([programs / "prometheus", *words], folder / "prometheus.log")
        wait_for(lambda: self.ask("query?query=1"), "Prometheus answers", 60)
        return server

    def ask(self, what):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{what}", timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def value(self, expression):
        result = self.ask("query?" + urllib.parse.urlencode({"query": f"sum({expression})"}))["result"]
        return float(result[0]["value"][1]) if result else None

    def firing(self):
        """Summaries by name."""
        alerts = self.ask("alerts")["alerts"]
        return {a["labels"]["alertname"]: a["annotations"]["summary"] for a in alerts if a["state"] == "firing"}


def prometheus_programs():
    """The folder of prometheus and promtool: on PATH, or out of Debian's package, which is not installed for it."""
    if found := shutil.which("promtool"):
        return Path(found).parent
    unpacked = CACHE / "usr/bin"
    if not (unpacked / "promtool").exists():
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise Skipped("promtool is not on PATH, and this is no Debian to get it from")
        CACHE.mkdir(parents=True, exist_ok=True)
        run(["apt-get", "download", "-o", "APT::Sandbox::User=root", "prometheus"], cwd=CACHE)
        for package in CACHE.glob("prometheus_*.deb"):
            run(["dpkg-deb", "-x", package, CACHE])
            package.unlink()
    return unpacked
