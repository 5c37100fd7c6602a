"""Generates the dashboards as JSON files: `python grafana/source FOLDER`."""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

import asynchronous
import home
import ingress
import kafka
import objectives
import pipeline
import postgresql
import runbooks
import runtime
import service

DASHBOARDS = [home, objectives, service, ingress, asynchronous, postgresql, kafka, runtime, pipeline]


def numbered(dashboard):
    """Adds the panel ids and query ids that Grafana would assign."""
    for number, panel in enumerate(dashboard["panels"], start=1):
        panel["id"] = number
        for letter, target in zip("ABCDEFGHIJKL", panel.get("targets", [])):
            target["refId"] = letter
    return dashboard


def write(dashboard, folder):
    built = json.loads(JSONEncoder().encode(dashboard.build()))
    text = json.dumps(numbered(built), indent=1, sort_keys=True, ensure_ascii=False)
    (folder / f"{built['uid']}.json").write_text(text + "\n")


def main():
    folder = Path(sys.argv[1])
    for module in DASHBOARDS:
        write(module.dashboard(), folder)
    folder = folder / "runbooks"
    folder.mkdir(exist_ok=True)
    for file in folder.glob("*.json"):
        file.unlink()
    for dashboard in runbooks.dashboards():
        write(dashboard, folder)


main()
