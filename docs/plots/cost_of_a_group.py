"""How the cost of a group grows with samples, catalog and prompt: runs `riser bench rollout` and draws what it says.

pip install matplotlib;  python docs/plots/cost_of_a_group.py target/release/riser
Writes cost_of_a_group.json and cost_of_a_group.svg beside this file in a minute or two, with 2 GiB for the largest catalog. Without the
program it only draws again what the first file says.
"""
import json, pathlib, subprocess, sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "riser"})
import matplotlib.pyplot as plt

HERE = pathlib.Path(__file__).parent
MODEL = ["--hidden", "128", "--layers", "4", "--groups", "128", "--rounds", "15"]
DEFAULT = {"samples": 20, "items": 10_000, "prompt-tokens": 60}
SWEEPS = {
    "samples": [20, 50, 100, 200, 500],
    "items": [10_000, 100_000, 1_000_000, 10_000_000],
    "prompt-tokens": [30, 60, 120, 250, 500],
}
NAMES = {"samples": "samples per group, m", "items": "items of the catalog", "prompt-tokens": "tokens of the prompt"}


def measure(riser, sweep, value):
    sizes = {**DEFAULT, sweep: value}
    # As many are kept as are drawn, so that nothing is hidden by the selection.
    arguments = [part for name, size in sizes.items() for part in (f"--{name}", str(size))]
    command = [riser, "bench", "rollout", *MODEL, *arguments, "--group", str(sizes["samples"]), "--format", "json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    kept = HERE / "cost_of_a_group.json"
    if sys.argv[1:]:
        riser = sys.argv[1]
        figures = {sweep: [[value, measure(riser, sweep, value)] for value in values] for sweep, values in SWEEPS.items()}
        kept.write_text(json.dumps(figures, indent=1) + "\n")
    figures = json.loads(kept.read_text())
    fig, rows = plt.subplots(2, 3, figsize=(12, 6), sharey="row")
    for column, (sweep, points) in enumerate(figures.items()):
        x = [value for value, _ in points]
        ms = [1e3 / figures["groups_per_second"]["median"] for _, figures in points]
        rows[0][column].plot(x, ms, "o-")
        rows[1][column].plot(x, [f["rows_per_group"] for _, f in points], "o-", label="computed")
        rows[1][column].plot(x, [f["naive_rows_per_group"] for _, f in points], "s--", label="every sample by itself")
        for axis in (rows[0][column], rows[1][column]):
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_xticks(x, [f"{value:,}" for value in x])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        rows[1][column].set_xlabel(NAMES[sweep])
    rows[0][0].set_ylabel("ms per group")
    rows[1][0].set_ylabel("model rows per group")
    rows[1][0].legend()
    fig.suptitle("Cost of a group, 128 wide, 4 layers; the other sizes at 20 samples, 10,000 items, 60 tokens")
    fig.tight_layout()
    fig.savefig(HERE / "cost_of_a_group.svg", metadata={"Date": None})


main()
