#!/usr/bin/env bash
# Runs riser.sbatch on two real Slurm nodes in containers and compares where it ends with the embedded run: undisturbed, with
# every role and `srun` killed once, and drained and requeued. Needs a Docker engine and riser:local of ../local-base.sh; a few minutes.
set -euo pipefail
cd "$(dirname "$0")"

cleanup() {
    docker rm -f riser-node1 riser-node2 >/dev/null 2>&1 || true
    docker volume rm riser-slurm >/dev/null 2>&1 || true
    docker network rm riser-slurm >/dev/null 2>&1 || true
}
trap cleanup EXIT
cleanup

folder=$(mktemp -d)
cp slurm.conf riser.sbatch ../trials/run.toml "$folder"
cat >"$folder/Dockerfile" <<'SLURM'
FROM riser:local
USER root
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurm-wlm munge procps \
    && rm -rf /var/lib/apt/lists/* && install -d /etc/slurm /var/spool/slurmd /var/lib/slurm /run/munge -o root \
    && chown munge: /run/munge && install -d -o riser /shared
COPY slurm.conf /etc/slurm/slurm.conf
COPY riser.sbatch run.toml /shared/
HEALTHCHECK NONE
ENTRYPOINT ["sh", "-c", "runuser -u munge -- munged; [ $(hostname) = node2 ] || slurmctld; exec slurmd -D"]
SLURM
docker build -q -t riser-slurm:local "$folder" >/dev/null
rm -rf "$folder"

docker network create riser-slurm >/dev/null
for node in node1 node2; do
    docker run -d --name "riser-$node" --hostname "$node" --network riser-slurm --network-alias "$node" \
        -v riser-slurm:/shared riser-slurm:local >/dev/null
done
on() { docker exec -u 10001 -w /shared -e HOME=/shared riser-node1 "$@"; }
until [ "$(on sinfo -h -t idle -o %D 2>/dev/null)" = 2 ]; do sleep 1; done
on sinfo

sed='s#/data/#/shared/data/#'
on sh -euc "sed -i '$sed' run.toml; riser prepare synthetic data/world --items 300 --users 800 >/dev/null 2>&1
    riser sft -c run.toml --out data/sft >/dev/null 2>&1"
expected=$(on sh -c 'riser train -c run.toml --out embedded 2>/dev/null' | awk '/^digest/ {print $2}')
echo "embedded run: $expected"

submit() { on sbatch --parsable --nodes=2 --time=10 -o "$1.log" "${@:2}" riser.sbatch run.toml "$1"; }
until_line() { until on grep -qsE "$2" "$1.log"; do sleep 0.2; done; }
state() { on scontrol show job "$1" | sed -n 's/.*JobState=\([A-Z]*\).*/\1/p'; }
finish() { # NAME JOB
    local end
    until end=$(state "$2") && [[ $end =~ COMPLETED|FAILED|TIMEOUT|CANCELLED ]]; do sleep 1; done
    local digest
    digest=$(on cat "$1.log" | awk '/^digest/ {print $2}')
    on riser audit "$1" >/dev/null && on riser audit "$1/coordinator" >/dev/null && audits=clean || audits=BROKEN
    echo "$1: job $2 $end, $(on scontrol show job "$2" | grep -o 'Restarts=[0-9]*'), digest ${digest:-none}, audits $audits"
    [ "$end" = COMPLETED ] && [ "$digest" = "$expected" ] && [ "$audits" = clean ] || { on tail -n 40 "$1.log"; exit 1; }
}

job=$(submit undisturbed)
finish undisturbed "$job"

job=$(submit killed)
until_line killed '^ +50  '
for role in learner coordinator worker; do
    docker exec riser-node1 pkill -KILL -f "^riser $role "
    sleep 2
done
docker exec riser-node1 pkill -KILL -o -f '^srun .* riser worker'
finish killed "$job"

# The time limit is two minutes and the warning comes after half of one, so the job needs several starts.
job=$(submit drained --time=2 --signal=B:USR1@90)
finish drained "$job"
on grep -q 'goes back into the queue' drained.log
