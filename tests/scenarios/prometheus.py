"""The processor's /metrics, read."""

import json
import urllib.error
import urllib.request


class Metrics:
    """One scrape."""

    def __init__(self, text):
        self.samples = []
        for line in text.splitlines():
            if line and not line.startswith("#"):
                series, _, value = line.rpartition(" ")
                name, _, labels = series.partition("{")
                self.samples.append((name, labels.rstrip("}"), float(value)))

    def sum(self, name, label=""):
        """Of all series with the name, whose labels contain `label`, as in `outcome="applied"`."""
        values = [value for found, labels, value in self.samples if found == name and label in labels]
        return sum(values)

    def series(self, name):
        return {labels: value for found, labels, value in self.samples if found == name}


def scrape(address):
    """`None` while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=3) as answer:
            return Metrics(answer.read().decode())
    except (OSError, urllib.error.URLError):
        return None


def readiness(address):
    """What /ready says: `{"ready": ..., "conditions": {...}}`; `None` while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{address}/ready", timeout=3) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        return json.load(refused)
    except (OSError, urllib.error.URLError):
        return None
