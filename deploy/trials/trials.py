#!/usr/bin/env python3
"""Disturbs the compose cluster at random moments and checks that nothing came of it.

Every trial starts a run in a project of its own, waits for a step that was drawn at random, does one thing to one role, and
waits for the end. It passes if every role ends by itself with status 0, the policy has the digest of the undisturbed
embedded run, and `riser audit` finds nothing in either event log.

    ./trials.py                      all trials (about ten minutes), a table at the end
    ./trials.py kill:learner cut:worker --seed 3

Needs root on the machine that the engine runs on: `docker kill` would tell the engine that the end was wanted, so processes
are killed by their number. Images as in ../README.md.
"""

import argparse
import datetime
import json
import os
import random
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = "riser-trials"
ROLES = ("learner", "coordinator", "worker")
TRIALS = [f"{what}:{role}" for what in ("kill", "kill", "freeze", "cut") for role in ROLES]
TRIALS += ["kill-twice:learner", "kill-all:cluster", "full-disk:learner", "full-disk:coordinator"]
LOST_SECONDS = 400
STEPS = 300


def run(*command, check=True):
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    if check and done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def environment():
    """The variables of compose: those of deploy/.env, if there is one, and the trials' own."""
    variables = dict(os.environ)
    file = os.path.join(HERE, "..", ".env")
    if os.path.exists(file):
        variables.update(line.strip().split("=", 1) for line in open(file) if "=" in line)
    variables.pop("COMPOSE_FILE", None)
    variables.update(RUN_TOML=os.path.join(HERE, "run.toml"), WORLD="--items 300 --users 800")
    return variables


ENVIRONMENT = environment()


class Cluster:
    """A compose project, fresh but for certificates, data and the supervised model."""

    def __init__(self, small_disk):
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
        files = ["../docker-compose.yaml"] + ["docker-compose.disk.yaml"] * small_disk
        files = [part for name in files for part in ("-f", os.path.join(HERE, name))]
        self.command = (["docker", "compose"] if plugin else ["docker-compose"]) + ["-p", PROJECT] + files
        self.small_disk = small_disk

    def compose(self, *arguments):
        return run(*self.command, *arguments)

    def clean(self):
        """Stops everything and forgets the run."""
        run("docker", "rm", "-f", f"{PROJECT}-holder", check=False)
        self.compose("down", "--timeout", "1")
        run("docker", "volume", "rm", f"{PROJECT}_coordinator", f"{PROJECT}_learner", check=False)

    def start(self, workers=2):
        self.compose("up", "-d", "--scale", f"worker={workers}", *ROLES)
        if self.small_disk:
            # A volume in memory lasts as long as somebody has it open.
            self.tool(f"{PROJECT}-holder", "exec sleep 3600", detached=True)

    def tool(self, name, script, detached=False):
        """Runs a script beside the roles, with their disks."""
        image = run("docker", "inspect", "-f", "{{.Config.Image}}", self.containers("learner")[0])
        disks = [f"-v={PROJECT}_{role}:/{role}" for role in ("learner", "coordinator")]
        disks.append(f"-v={PROJECT}_data:/data:ro")
        run("docker", "run", "-d" if detached else "--rm", "--name", name, *disks, "--entrypoint", "sh", image, "-c", script)

    def containers(self, role):
        label = ["-f", f"label=com.docker.compose.project={PROJECT}", "-f", f"label=com.docker.compose.service={role}"]
        return run("docker", "ps", "-aq", *label, "-f", "label=com.docker.compose.oneoff=False").split()

    def log(self, container):
        """Lines with the time at which they were written."""
        done = subprocess.run(["docker", "logs", "-t", container], capture_output=True, text=True)
        lines = [line.split(" ", 1) for line in (done.stdout + done.stderr).splitlines() if " " in line]
        return sorted((timestamp(when), text) for when, text in lines)

    def steps(self):
        """Time and number of every step that the learner has finished."""
        lines = self.log(self.containers("learner")[0])
        found = ((when, re.match(r" *(\d+)  +-?\d", text)) for when, text in lines)
        return [(when, int(match[1])) for when, match in found if match]

    def json(self, role, *arguments):
        """What a command prints about a role's folder."""
        return json.loads(self.compose("run", "--rm", "--no-deps", "-T", role, "--format", "json", *arguments))

    def ended(self):
        """Exit status of every container, once all have ended."""
        containers = [container for role in ROLES for container in self.containers(role)]
        deadline = time.time() + LOST_SECONDS
        while time.time() < deadline:
            states = [run("docker", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name) for name in containers]
            if all(state.startswith("exited") for state in states):
                return [int(state.split()[1]) for state in states]
            time.sleep(1)
        sys.exit(f"no end after {LOST_SECONDS} s: {states}; `docker logs` of the project {PROJECT} says more")


def timestamp(text):
    """Seconds of the engine's RFC 3339 time."""
    return datetime.datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()


def progress(steps):
    """Of the finished steps those that were new: a learner that was started again repeats the ones since its checkpoint."""
    firsts, highest = [], 0
    for when, step in sorted(steps):
        if step > highest:
            firsts.append((when, step))
            highest = step
    return firsts


def kill(container):
    pid = run("docker", "inspect", "-f", "{{.State.Pid}}", container)
    run("kill", "-9", pid)


def disturb(cluster, what, role, chance):
    """Does one thing to one role; returns when it was over."""
    containers = cluster.containers(role) if role != "cluster" else []
    victim = chance.choice(sorted(containers)) if containers else None
    pause = chance.uniform(5, 20)
    if what in ("kill", "kill-twice"):
        kill(victim)
        began = time.time()
        if what == "kill-twice":
            time.sleep(chance.uniform(0, 3))
            # Between two lives there is nobody to kill.
            if run("docker", "inspect", "-f", "{{.State.Running}}", victim) == "true":
                kill(victim)
                began = time.time()
        return began
    if what == "kill-all":
        for container in (container for role in ROLES for container in cluster.containers(role)):
            kill(container)
        return time.time()
    if what == "freeze":
        run("docker", "pause", victim)
        time.sleep(pause)
        run("docker", "unpause", victim)
    elif what == "cut":
        run("docker", "network", "disconnect", f"{PROJECT}_default", victim)
        time.sleep(pause)
        run("docker", "network", "connect", "--alias", role, f"{PROJECT}_default", victim)
    elif what == "full-disk":
        cluster.tool(f"{PROJECT}-filler", f"cat /dev/zero >/{role}/filler 2>/dev/null; sleep {pause}; rm /{role}/filler")
    return time.time()


def trial(name, chance, digest):
    """One run with one disturbance; what is to be reported about it."""
    what, role = name.split(":")
    cluster = Cluster(small_disk=what == "full-disk")
    cluster.clean()
    cluster.start()
    moment = chance.randrange(STEPS // 10, STEPS * 3 // 4)
    deadline = time.time() + LOST_SECONDS
    while not any(step >= moment for _, step in cluster.steps()):
        if time.time() > deadline:
            sys.exit(f"step {moment} was never reached")
        time.sleep(0.2)
    began = time.time()
    over = disturb(cluster, what, role, chance)
    status = cluster.ended()
    firsts = progress(cluster.steps())
    reached = max(step for when, step in firsts if when <= began)
    later = [when for when, _ in firsts if when > over]
    around = [when for when, step in firsts if step >= reached]
    audits = [cluster.json("learner", "audit", "/var/lib/riser/run"), cluster.json("coordinator", "audit", "/var/lib/riser/run/coordinator")]
    ended_with = re.search(r"^digest +(\w+)", "\n".join(text for _, text in cluster.log(cluster.containers("learner")[0])), re.M)
    lost = [int(run("docker", "inspect", "-f", "{{.RestartCount}}", name)) for role in ROLES for name in cluster.containers(role)]
    return {
        "trial": name,
        "step": reached,
        "longest_pause": round(max(after - before for before, after in zip(around, around[1:])), 1),
        "next_step_after": round(min(later) - over, 1) if later else None,
        "restarts": sum(lost),
        "passed": not any(status) and ended_with[1] == digest and all(audit["clean"] for audit in audits),
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("trials", nargs="*", default=TRIALS, metavar="WHAT:ROLE", help=", ".join(dict.fromkeys(TRIALS)))
    arguments.add_argument("--seed", type=int, default=1, help="of the moments")
    arguments = arguments.parse_args()
    cluster = Cluster(small_disk=False)
    cluster.clean()
    cluster.compose("up", "-d", "setup")
    embedded = ["train", "-c", "/etc/riser/run.toml", "--out", "/var/lib/riser/embedded"]
    run("docker", "wait", cluster.containers("setup")[0])
    digest = cluster.json("learner", *embedded)["digest"]
    results = []
    for number, name in enumerate(arguments.trials):
        results.append(trial(name, random.Random(f"{arguments.seed}/{number}/{name}"), digest))
        print(json.dumps(results[-1]), flush=True)
    cluster.clean()
    run("docker", "volume", "rm", f"{PROJECT}_certs", f"{PROJECT}_data", check=False)
    print("\n| what | role | at step | longest pause, s | next step, s after it was over | restarts | same digest, clean audits |")
    print("|---|---|---|---|---|---|---|")
    for result in results:
        what, role = result["trial"].split(":")
        verdict = "yes" if result["passed"] else "NO"
        pause, after = result["longest_pause"], "run over" if result["next_step_after"] is None else result["next_step_after"]
        print(f"| {what} | {role} | {result['step']} | {pause} | {after} | {result['restarts']} | {verdict} |")
    sys.exit(not all(result["passed"] for result in results))


if __name__ == "__main__":
    main()
