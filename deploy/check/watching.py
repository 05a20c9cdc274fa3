"""Every PromQL expression parses, and every metric in it is one that docs/metrics.md promises."""

import json
import pathlib
import re

import promql_parser
import yaml

DEPLOY = pathlib.Path(__file__).parent.parent
METRICS = DEPLOY.parent / "docs" / "metrics.md"


def expressions():
    """Where an expression stands, and the expression."""
    for group in yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())["groups"]:
        yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])
    for file in sorted((DEPLOY / "grafana/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", []):
                # Grafana puts an interval there.
                yield f"{file.name}: {panel['title']}", target["expr"].replace("$__rate_interval", "1m")
    rules = yaml.safe_load((DEPLOY / "kubernetes/components/autoscaling/adapter-rules.yaml").read_text())
    for rule in rules["externalRules"]:
        # The adapter puts the namespace there.
        yield rule["name"]["as"], rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="riser"')


def check():
    """All complaints."""
    promised = set(re.findall(r"riser_[a-z_]*[a-z]", METRICS.read_text()))
    count = 0
    for where, expression in expressions():
        count += 1
        try:
            promql_parser.parse(expression)
        except ValueError as error:
            yield f"{where}: {error}"
        for name in set(re.findall(r"riser_[a-z_]*[a-z]", expression)):
            of_histogram = re.sub(r"_(bucket|sum|count)$", "", name)
            if not {name, of_histogram} & promised:
                yield f"{where}: {name} is not in docs/metrics.md"
    print(f"{count} PromQL expressions")
