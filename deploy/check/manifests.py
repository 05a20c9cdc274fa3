"""The overlays against the API schemas, and against themselves: whatever an object names must be there."""

import json
import pathlib
import subprocess

import jsonschema
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).parent
KUBERNETES = HERE.parent / "kubernetes"
VERSIONS = ("1.29", "1.37")
# Made by hand or by secrets.sh, never committed.
SECRETS = {"riser-coordinator", "riser-learner", "riser-worker", "riser-token"}


def templates(thing):
    """Every pod template in an object, with the kind and name of the object."""
    spec = thing.get("spec", {})
    if thing["kind"] == "JobSet":
        return [job["template"]["spec"]["template"] for job in spec["replicatedJobs"]]
    return [spec["template"]] if "template" in spec else []


def schemas(thing):
    """Complaints of the API schemas about an object."""
    if thing["kind"] == "JobSet":
        schema = json.loads((HERE / "jobset-v1alpha2.json").read_text())
        yield from (error.message for error in jsonschema.Draft7Validator(schema).iter_errors(thing))
        jobs = thing["spec"]["replicatedJobs"]
        things = [{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job["name"]}, **job["template"]} for job in jobs]
    else:
        things = [thing]
    for version in VERSIONS:
        for inner in things:
            try:
                kubernetes_validate.validate(inner, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{version}: {'.'.join(map(str, error.path))}: {error.message}"


def references(things):
    """Complaints about names that nobody has."""
    have = {(thing["kind"], thing["metadata"]["name"]) for thing in things} | {("Secret", name) for name in SECRETS}
    labels = [template["metadata"]["labels"] for thing in things for template in templates(thing)]

    def selected(selector):
        return any(selector.items() <= pod.items() for pod in labels)

    for thing in things:
        where, spec = f"{thing['kind']}/{thing['metadata']['name']}", thing.get("spec", {})
        if thing["kind"] == "Service" and not selected(spec["selector"]):
            yield f"{where} selects no pod"
        if thing["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
            selector = (spec.get("podSelector") or spec["selector"])["matchLabels"]
            if not selected(selector):
                yield f"{where} selects no pod"
        if thing["kind"] == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]
            if (target["kind"], target["name"]) not in have:
                yield f"{where} scales nothing"
        for template in templates(thing):
            pod = template["spec"]
            names = set()
            for volume in pod.get("volumes", []):
                names.add(volume["name"])
                for key, kind, field in (
                    ("configMap", "ConfigMap", "name"),
                    ("secret", "Secret", "secretName"),
                    ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
                ):
                    if key in volume and (kind, volume[key][field]) not in have:
                        yield f"{where}: no {kind} {volume[key][field]}"
            names |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
            for container in pod["containers"] + pod.get("initContainers", []):
                place = f"{where}/{container['name']}"
                yield from (f"{place}: no volume {m['name']}" for m in container["volumeMounts"] if m["name"] not in names)
                for source in container.get("envFrom", []):
                    if ("ConfigMap", source["configMapRef"]["name"]) not in have:
                        yield f"{place}: no ConfigMap {source['configMapRef']['name']}"
                if "limits" not in container.get("resources", {}):
                    yield f"{place} has no limits"
                if not container["securityContext"].get("readOnlyRootFilesystem"):
                    yield f"{place} can write to its image"
            if not pod["securityContext"].get("runAsNonRoot"):
                yield f"{where} may run as root"


def relays(things):
    """Complaints about workers that hand policies on where other workers cannot reach them."""
    for thing in things:
        for container in (container for template in templates(thing) for container in template["spec"]["containers"]):
            ports = [arg.rsplit(":", 1)[1] for arg in container.get("args", []) if arg.startswith(("--relay=", "--relay-advertise="))]
            if not ports:
                continue
            where, labels = f"{thing['kind']}/{container['name']}", thing["spec"]["template"]["metadata"]["labels"]
            if len(set(ports)) != 1 or len(ports) != 2:
                yield f"{where} listens at and advertises ports {ports}"
            if int(ports[0]) not in [port["containerPort"] for port in container["ports"]]:
                yield f"{where} does not name port {ports[0]}"
            for policy in (policy for policy in things if policy["kind"] == "NetworkPolicy"):
                if not policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items():
                    continue
                for way, peers in (("ingress", "from"), ("egress", "to")):
                    is_let = any(
                        {"port": int(ports[0])} in rule["ports"]
                        and any(peer.get("podSelector", {}).get("matchLabels") == labels for peer in rule[peers])
                        for rule in policy["spec"][way]
                    )
                    if not is_let:
                        yield f"{where}: its network policy has no {way} for port {ports[0]}"


def check(kubectl):
    """All complaints about all overlays."""
    for overlay in sorted((KUBERNETES / "overlays").iterdir()):
        done = subprocess.run([kubectl, "kustomize", overlay], capture_output=True, text=True)
        if done.returncode:
            yield f"{overlay.name}: {done.stderr.strip()}"
            continue
        things = list(yaml.safe_load_all(done.stdout))
        for thing in things:
            yield from (f"{overlay.name}: {thing['kind']}/{thing['metadata']['name']}: {text}" for text in schemas(thing))
        yield from (f"{overlay.name}: {text}" for text in references(things))
        yield from (f"{overlay.name}: {text}" for text in relays(things))
        print(f"overlay {overlay.name}: {len(things)} objects")
