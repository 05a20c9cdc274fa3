#!/usr/bin/env python3
"""Faults against real processes: kill -9, SIGSTOP, cut links, full disks; every run must end as the undisturbed one.

    python3 tests/trials/trials.py --riser target/release/riser --trials 30 --seed 1

Each trial runs a coordinator, a learner and two workers with mutual TLS, every one in a network namespace of its own, and does
one to three things to them at random moments. A process that is killed or ends with an error (a full disk can do that to a learner at
its last checkpoint, and to a role that is just being started) is started again with the same command, as a supervisor would. A trial passes if everybody ends by itself, the learner with the digest of the embedded run, and `riser audit` finds
every invariant intact. Needs root (namespaces, a small tmpfs) and `ip` of iproute2; one trial takes about half a minute.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

CONFIG = """
seed = 7
[data]
path = "data"
[model]
hidden_size = 32
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1
intermediate_size = 64
max_prompt_tokens = 96
[sft]
steps = 40
rows_per_batch = 8
validate_every = 20
validation_rows = 20
checkpoint_every = 20
[rollout]
samples = 12
group = 8
[train]
init = "sft"
steps = 300
workers = 2
groups_per_batch = 12
groups_per_lease = 2
evaluate_every = 40
evaluation_rows = 40
checkpoint_every = 5
[cluster]
security = "mtls"
certificates = "certs"
coordinator.listen = "0.0.0.0:7470"
coordinator.advertise = "10.77.0.2:7470"
learner.listen = "0.0.0.0:7471"
learner.advertise = "10.77.0.3:7471"
lease_timeout = 5
patience = 120
heartbeat = 1
"""

HOSTS = {"coordinator": "10.77.0.2", "learner": "10.77.0.3", "worker-1": "10.77.0.4", "worker-2": "10.77.0.5"}
FAULTS = ["kill", "kill", "kill", "stop", "cut", "full"]
# Longest that a run may take before it counts as hanging.
LOST = 240
# Pause before a process that failed is started again, and how often that is done.
RESTART_PAUSE, MAX_RESTARTS = 0.5, 100


def sh(*command, check=True):
    return subprocess.run(command, check=check, capture_output=True, text=True)


class Network:
    """A switch in a namespace of its own, one namespace per role; `cable` takes a role's cable out or puts it back."""

    SWITCH = "riser-switch"

    def __enter__(self):
        self.__exit__()
        sh("ip", "netns", "add", self.SWITCH)
        sh("ip", "-n", self.SWITCH, "link", "add", "switch", "type", "bridge")
        sh("ip", "-n", self.SWITCH, "link", "set", "switch", "up")
        for role, address in HOSTS.items():
            space = f"riser-{role}"
            sh("ip", "netns", "add", space)
            sh("ip", "link", "add", role, "netns", self.SWITCH, "type", "veth", "peer", "name", "eth0", "netns", space)
            sh("ip", "-n", self.SWITCH, "link", "set", role, "master", "switch", "up")
            for command in (["addr", "add", f"{address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
                sh("ip", "-n", space, *command)
        return self

    def __exit__(self, *_):
        for space in (self.SWITCH, *(f"riser-{role}" for role in HOSTS)):
            sh("ip", "netns", "del", space, check=False)

    def cable(self, role, state):
        sh("ip", "-n", self.SWITCH, "link", "set", role, state)


class Process:
    """A role; started again when a fault killed it. Its lines are kept with the time they came."""

    def __init__(self, role, command, folder):
        self.role, self.command, self.folder = role, command, folder
        self.lines, self.status, self.output, self.killed, self.failures, self.given_up = [], None, "", False, 0, False
        self.start()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def start(self):
        command = ["ip", "netns", "exec", f"riser-{self.role}", *self.command]
        self.child = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def watch(self):
        while True:
            for line in self.child.stderr:
                self.lines.append((time.monotonic(), line.rstrip()))
            self.output = self.child.stdout.read()
            status = self.child.wait()
            if self.killed:
                self.killed = False
            elif status != 0 and self.failures < MAX_RESTARTS and not self.given_up:
                self.failures += 1
                time.sleep(RESTART_PAUSE)
            else:
                self.status = status
                return
            self.start()

    def signal(self, number):
        if number == signal.SIGKILL:
            self.killed = True
        try:
            self.child.send_signal(number)
        except ProcessLookupError:
            self.killed = False

    def ended(self):
        return self.status is not None


def is_step(line):
    words = line.split()
    return len(words) > 5 and words[0].isdigit()


class World:
    def __init__(self, riser, folder):
        self.riser, self.folder = str(pathlib.Path(riser).resolve()), folder
        (folder / "run.toml").write_text(CONFIG)
        hosts = [word for address in HOSTS.values() for word in ("--host", address)]
        self.json("certs", "certs", *hosts)
        self.json("prepare", "synthetic", "data", "--items", "120", "--users", "300")
        self.json("sft", "-c", "run.toml", "--out", "sft")
        self.digest = self.json("train", "-c", "run.toml", "--out", "embedded")["digest"]

    def json(self, *arguments):
        done = subprocess.run([self.riser, *arguments, "--format", "json"], cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"riser {' '.join(arguments)}: {done.stderr[-2000:]}")
        return json.loads(done.stdout)

    def roles(self, out):
        common = ["-c", "run.toml", "--out", out, "--format", "json"]
        keys = ["--ca", "certs/ca.pem", "--cert", "certs/worker.pem", "--key", "certs/worker.key", "--format", "json"]
        worker = [self.riser, "worker", "--coordinator", "https://10.77.0.2:7470", "--patience", "120", *keys]
        return {
            "coordinator": [self.riser, "coordinator", *common],
            "learner": [self.riser, "learner", *common],
            "worker-1": worker,
            "worker-2": worker,
        }


def fill(folder):
    """Fills the disk that `folder` is on."""
    path = folder / "filler"
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(file, b"\0" * 65536)
    except OSError:
        os.close(file)
    return path


def do_fault(kind, target, processes, network, out, chance):
    """Does one thing to one role; returns a description and when its effect was over."""
    if kind == "kill":
        processes[target].signal(signal.SIGKILL)
        return "kill -9", time.monotonic()
    duration = chance.uniform(1.0, 8.0)
    if kind == "stop":
        processes[target].signal(signal.SIGSTOP)
        time.sleep(duration)
        processes[target].signal(signal.SIGCONT)
    elif kind == "cut":
        network.cable(target, "down")
        time.sleep(duration)
        network.cable(target, "up")
    elif kind == "full":
        filler = fill(out)
        time.sleep(duration)
        filler.unlink(missing_ok=True)
    return f"{kind} {duration:.1f} s", time.monotonic()


def trial(world, network, number, chance, faults):
    out = world.folder / f"trial-{number}"
    out.mkdir()
    # A disk of its own, so that it can be full.
    sh("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(out))
    began, told = time.monotonic(), []
    processes = {role: Process(role, command, world.folder) for role, command in world.roles(out.name).items()}
    learner = processes["learner"]
    problems = []
    try:
        for kind in faults:
            target = "learner" if kind == "full" else chance.choice(list(HOSTS))
            pause = chance.uniform(0.5, 6.0)
            until = time.monotonic() + pause
            while time.monotonic() < until and not learner.ended():
                time.sleep(0.05)
            if learner.ended():
                break
            num_lines = len(learner.lines)
            what, over = do_fault(kind, target, processes, network, out, chance)
            # Recovered when the learner makes the next step after the fault is over.
            resumed = None
            while resumed is None and not learner.ended() and time.monotonic() - over < LOST:
                lines = learner.lines[num_lines:]
                if (kind, target) == ("kill", "learner"):
                    # What the killed one had still written is not the next one's.
                    started = next((index for index, (_, line) in enumerate(lines) if " listens on " in line), len(lines))
                    lines = lines[started:]
                resumed = next((at - over for at, line in lines if at >= over and is_step(line)), None)
                time.sleep(0.02)
            told.append({"fault": what, "kind": kind, "role": target.split("-")[0], "seconds": resumed})
        while not all(process.ended() for process in processes.values()) and time.monotonic() - began < LOST:
            time.sleep(0.1)
        took = time.monotonic() - began
        for role, process in processes.items():
            if not process.ended():
                problems.append(f"{role} hangs")
            elif process.status != 0:
                problems.append(f"{role} ended with status {process.status}")
        if not problems:
            digest = json.loads(learner.output)["digest"]
            if digest != world.digest:
                problems.append(f"digest {digest} instead of {world.digest}")
            audit = world.json("audit", str(out / "coordinator"), str(out))
            if not audit["clean"]:
                problems.append(f"audit: {audit}")
    finally:
        for process in processes.values():
            process.given_up = True
            if not process.ended():
                process.child.kill()
        if problems:
            for role, process in processes.items():
                print(f"--- {role}", *[line for _, line in process.lines[-15:]], sep="\n", file=sys.stderr)
        sh("umount", "-l", str(out), check=False)
        shutil.rmtree(out, ignore_errors=True)
    failures = {role: process.failures for role, process in processes.items() if process.failures}
    return {"trial": number, "faults": told, "seconds": took, "failures": failures, "problems": problems}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--riser", default="target/release/riser", help="the program")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial; a trial's faults depend on seed and number only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(FAULTS), help="faults to draw from: kill, stop, cut, full")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("error: needs root, for network namespaces and a small disk")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="riser-trials-"))
    results = []
    with Network() as network:
        world = World(arguments.riser, folder)
        calm = trial(world, network, "calm", random.Random(0), [])
        print(json.dumps(calm), flush=True)
        for number in range(arguments.first, arguments.first + arguments.trials):
            chance = random.Random(f"{arguments.seed}/{number}")
            faults = [chance.choice(arguments.kinds.split(",")) for _ in range(chance.randint(1, 3))]
            results.append(trial(world, network, number, chance, faults))
            print(json.dumps(results[-1]), flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    failed = [result for result in results if result["problems"]]
    print(f"\n{len(results)} trials, {len(failed)} failed; {calm['seconds']:.1f} s undisturbed")
    print(f"{'fault':8} {'role':12} {'number':>6} {'median s':>9} {'longest s':>9}   until the next step after the fault")
    faults = [fault for result in results for fault in result["faults"]]
    for kind, role in sorted({(fault["kind"], fault["role"]) for fault in faults}):
        times = [fault["seconds"] for fault in faults if (fault["kind"], fault["role"]) == (kind, role)]
        known = [value for value in times if value is not None] or [float("nan")]
        print(f"{kind:8} {role:12} {len(times):6} {statistics.median(known):9.1f} {max(known):9.1f}")
    sys.exit(1 if failed or calm["problems"] else 0)


if __name__ == "__main__":
    main()
