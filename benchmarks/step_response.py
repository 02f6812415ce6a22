"""The control loop on a simulated link: estimate, damp, divide, enforce, measure; its response to a step of demand.

    python -m benchmarks.step_response          prints the figures of docs/demand.md
    python -m benchmarks.step_response --write  draws docs/figures/step-response.svg too

Three classes of equal weight share 1 Gbit/s: one whose demand jumps, one that takes whatever it gets, so that
the link stays full and nobody's demand can be seen but by probing, and a steady small one.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate.demand import DemandSettings, Seen, estimate
from telemetryd.allocate.divide import allocate
from telemetryd.allocate.stability import NS, StabilitySettings, begin, damp
from telemetryd.allocate.tree import build

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
M = 1_000_000
CAPACITY = 1000 * M
STEP_S = 10
FULL = 0.98

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Response:
    """What happened, by step and class, shape (t, k) each, in bit/s: estimated, applied, shares, sent."""

    estimated: Floats
    applied: Floats
    shares: Floats
    sent: Floats

    def changes(self, number: int = 0) -> Floats:
        """Return by how much what is applied for a class changed from step to step, shape (t - 1,)."""
        return np.diff(self.applied[:, number])

    def turns(self, number: int = 0) -> int:
        """Return how often what is applied for a class turned from rising to falling or back."""
        signs = np.sign(self.changes(number))
        signs = signs[signs != 0]
        return int(np.count_nonzero(np.diff(signs)))


def step_truth(before_mbps: float, after_mbps: float, steps: int) -> Floats:
    """Return true demands in which the first class jumps halfway, shape (t, 3)."""
    truth = np.empty((steps, 3))
    truth[:, 0] = np.where(np.arange(steps) < steps // 2, before_mbps, after_mbps) * M
    truth[:, 1:] = 2 * CAPACITY, 50 * M
    return truth


def respond(
    truth: Floats,
    demand: DemandSettings,
    stability: StabilitySettings | None,
    delay: int = 0,
    noise: float = 0.0,
    seed: int = 1,
) -> Response:
    """Run the loop: shares are in force `delay` steps after they were made; measured usage is off by up to `noise`."""
    random = np.random.default_rng(seed)
    steps, classes = truth.shape
    parents = [-1] + [0] * classes
    tree = build(parents)
    found = {name: np.zeros((steps, classes)) for name in ("estimated", "applied", "shares", "sent")}
    shares = [np.zeros(classes + 1, np.int64)] * (delay + 1)
    state, damped = None, begin(np.zeros(classes + 1))
    for step in range(steps):
        device = build(parents, guarantee=shares[-1 - delay])
        wanted = np.concatenate(([0], truth[step])).astype(np.int64)
        sent = allocate(device, wanted, CAPACITY).bps
        factor = random.uniform(1 - noise, 1 + noise, classes + 1)
        seen = Seen(sent * factor, allocation_bps=shares[-1 - delay], is_full=bool(sent[0] >= FULL * CAPACITY))
        now = estimate(tree, seen, state, CAPACITY, demand)
        state = now.state
        if stability is None:
            damped = begin(now.demand_bps)
        else:
            damped = damp(damped, now.demand_bps, step * STEP_S * NS, stability)
        shares.append(allocate(tree, np.rint(damped.bps).astype(np.int64), CAPACITY).bps)
        found["estimated"][step] = now.demand_bps[1:]
        found["applied"][step] = damped.bps[1:]
        found["shares"][step] = shares[-1][1:]
        found["sent"][step] = sent[1:]
    return Response(**found)


def draw(path: Path) -> None:
    """Draw the step response with and without damping."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "telemetryd"
    from matplotlib import pyplot as plt

    truth = step_truth(60, 240, 160)
    truth[120:, 0] = 60 * M
    figure, axes = plt.subplots(2, 1, figsize=(8, 5.6), sharex=True, layout="constrained")
    minutes = np.arange(len(truth)) * STEP_S / 60
    for axis, stability, title in zip(axes, (None, StabilitySettings()), ("not damped", "damped"), strict=True):
        run = respond(truth, DemandSettings(few_samples=0), stability, delay=1, noise=0.08)
        changes = int(np.count_nonzero(run.changes()))
        axis.step(minutes, truth[:, 0] / M, color="#5f6b76", linestyle="--", where="post", label="true demand")
        axis.step(minutes, run.sent[:, 0] / M, color="#d9772b", where="post", label="sent")
        axis.step(minutes, run.applied[:, 0] / M, color="#1f6fb4", where="post", label="demand that is divided by")
        axis.set_title(f"{title}: {changes} changes in {minutes[-1]:.0f} minutes", fontsize=10)
        axis.set_ylabel("Mbit/s")
        axis.grid(color="#dfe4e8")
        axis.set_ylim(0)
    axes[0].legend(fontsize=8, loc="upper right")
    axes[1].set_xlabel("minutes")
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="draw docs/figures/step-response.svg")
    chosen = parser.parse_args()
    demand = DemandSettings(few_samples=0)
    print("noise  damped  delay  changes an hour (jumping class, steady class)  turns")
    for noise in (0.0, 0.08):
        for stability in (None, StabilitySettings()):
            for delay in (0, 3):
                run = respond(step_truth(60, 240, 720), demand, stability, delay, noise)
                hours = 720 * STEP_S / 3600
                counts = [np.count_nonzero(run.changes(number)) / hours for number in (0, 2)]
                print(
                    f"{noise:5.0%}  {'yes' if stability else 'no':6}  {delay:5}  {counts[0]:8.1f} {counts[1]:8.1f}"
                    f"{'':29}{run.turns():5}"
                )
    if chosen.write:
        draw(FIGURES / "step-response.svg")


if __name__ == "__main__":
    main()
