#!/usr/bin/env python3
"""What can be known about deploy/ without an engine, a cluster or a scheduler. `.ci/deploy-check` installs what it needs."""

import ast
import shutil
import subprocess
import sys

import manifests
import watching
import yaml


def scripts():
    """Complaints about scripts that do not parse."""
    for script in sorted([*watching.DEPLOY.rglob("*.sh"), *watching.DEPLOY.rglob("*.sbatch")]):
        done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
        if done.returncode:
            yield f"{script.name}: {done.stderr.strip()}"
    for script in sorted(watching.DEPLOY.rglob("*.py")):
        ast.parse(script.read_text(), script.name)


def compose():
    """Complaints about services that mount or wait for what is not there."""
    file = yaml.safe_load((watching.DEPLOY / "docker-compose.yaml").read_text())
    for name, service in file["services"].items():
        yield from (f"compose: {name} waits for {other}" for other in service.get("depends_on", []) if other not in file["services"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                if not (watching.DEPLOY / source).exists():
                    yield f"compose: {name} mounts {source}, which is not there"
            elif not source.startswith("$") and source not in file["volumes"]:
                yield f"compose: {name} mounts {source}, which is no volume"


def main():
    complaints = [*manifests.check(sys.argv[1]), *watching.check(), *scripts(), *compose()]
    if promtool := shutil.which("promtool"):
        for command in (["check", "config", "prometheus.yaml"], ["test", "rules", "rules_test.yaml"]):
            done = subprocess.run([promtool, *command], cwd=watching.DEPLOY / "prometheus", capture_output=True, text=True)
            complaints += [done.stdout + done.stderr] if done.returncode else []
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
