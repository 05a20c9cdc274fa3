#!/usr/bin/env bash
# Makes the certificates of a run and puts each role's own into a Secret: secrets.sh NAMESPACE [FOLDER]
# FOLDER (default: certs) keeps ca.key, which signs further certificates; move it elsewhere.
set -euo pipefail
namespace=${1:?usage: secrets.sh NAMESPACE [FOLDER]} folder=${2:-certs}
[ -d "$folder" ] || riser certs "$folder" --host coordinator --host learner
kubectl get namespace "$namespace" >/dev/null 2>&1 || kubectl create namespace "$namespace"
for role in coordinator learner worker; do
    kubectl -n "$namespace" create secret generic "riser-$role" \
        --from-file="$folder/ca.pem" --from-file="$folder/$role.pem" --from-file="$folder/$role.key"
done
