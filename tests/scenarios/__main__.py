"""Failure scenarios and load, as commands. `make scenario F1` calls this; docs/SCENARIOS.md explains it."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "support"))

from cases import FAILURES
from cases.alerts import Alerts
from cases.image import Image
from cases.load import LIMITS, LOADS, limits, table
from cases.referee import Referee
from chaos import Chaos
from report import Report
from stack import STACKS, Settings
from stack.base import run
from stack.compose import is_available
from stack.settings import ROOT
from waiting import Failed, Skipped

FOLDER = Path(tempfile.gettempdir()) / "tidemark-scenarios"
IMAGE = "tidemark-scenarios"
SCENARIOS = {Referee.name: Referee, Alerts.name: Alerts, Image.name: Image, **FAILURES, Chaos.name: Chaos, **LOADS}
# The others take long, or measure instead of judging.
CHECKED = [Referee.name, Alerts.name, Image.name, *FAILURES]


def arguments():
    parser = argparse.ArgumentParser(prog="make scenario", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join(SCENARIOS))
    parser.add_argument("--program", type=Path, required=True, help="the tidemark program")
    parser.add_argument("--stack", choices=["auto", *STACKS], default="auto", help="auto: containers where Docker is")
    parser.add_argument("--full", action="store_true", help="the lengths of the issue instead of seconds")
    parser.add_argument("--json", type=Path, help="a file for the figures of loads, one JSON object a line")
    parser.add_argument("--list", action="store_true", help="show them")
    parser.add_argument("--seed", type=int, default=1, help="of F15")
    parser.add_argument("--seconds", type=int, help="of F15")
    known = "; ".join(f"{name} ({default}): {unit}" for name, (unit, default) in LIMITS.items())
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=NUMBER", help=f"of loads. {known}")
    given = parser.parse_args()
    try:
        given.limits = limits(given.limit)
    except ValueError as error:
        parser.error(str(error))
    return given


def main():
    given = arguments()
    unknown = [name for name in given.names if name not in SCENARIOS]
    if unknown or given.list:
        if unknown:
            print(f"there is no scenario {' '.join(unknown)}; there are", file=sys.stderr)
        print("\n".join(f"{name:10} {scenario.title}" for name, scenario in SCENARIOS.items()))
        return 2 if unknown else 0
    names = given.names or CHECKED
    kind = given.stack if given.stack != "auto" else ("compose" if is_available() else "local")
    if kind == "compose":
        make_image(given.program)
    if given.json:
        given.json.unlink(missing_ok=True)
    ended = {name: run_one(SCENARIOS[name], kind, given) for name in names}
    verdicts = {name: verdict for name, (verdict, _) in ended.items()}
    if measured := [(name, results) for name, (_, results) in ended.items() if results]:
        print(table(measured) + "\n")
    print(f"{STACKS[kind].kind}: " + ", ".join(f"{name} {verdict}" for name, verdict in verdicts.items()))
    return 1 if "FAIL" in verdicts.values() else 0


def make_image(program):
    """The image of docker/Dockerfile around the program, so that what is tested is what was compiled."""
    scripts = ROOT / "tests/docker"
    for script in [[scripts / "base-images.sh", "postgres"], [scripts / "prebuilt-image.sh", program, IMAGE]]:
        run(script, env={"DOCKER_FLAGS": "--network=host", **os.environ})


def run_one(scenario, kind, given):
    name = scenario.name
    report = Report(scenario.name, scenario.title)
    folder = FOLDER / kind / scenario.name
    unmount_what_is_left(folder)
    shutil.rmtree(folder, ignore_errors=True)
    settings = Settings(folder, given.program.resolve(), IMAGE, **scenario.settings)
    more = {"seed": given.seed, "seconds": given.seconds} if scenario is Chaos else {}
    if name in LOADS:
        more = {"limits": given.limits}
    try:
        with STACKS[kind](settings) as stack:
            stack.start()
            try:
                scenario(stack, report, given.full, **more).run()
            except Failed:
                keep_logs(stack)
                raise
    except Skipped as reason:
        report.ended("SKIP", str(reason))
        return "SKIP", None
    except Failed as failure:
        report.ended("FAIL", f"{failure}\n   logs are in {folder}")
        return "FAIL", None
    report.ended("PASS")
    if given.json and report.results:
        with open(given.json, "a", encoding="utf-8") as file:
            file.write(json.dumps({"scenario": name, "stack": kind, **report.results}) + "\n")
    return "PASS", report.results


def keep_logs(stack):
    for name in ["processor", "broker", "postgres"]:
        text = stack.logs(name)
        (stack.folder / f"{name}.log").write_text(text)


def unmount_what_is_left(folder):
    """Of a run that was interrupted."""
    for name in ["data", "checkpoints"]:
        if (folder / name).is_mount():
            subprocess.run(["umount", folder / name], check=False)


if __name__ == "__main__":
    # Who ends it leaves nothing behind, either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
