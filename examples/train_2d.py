"""Train a two-dimensional energy with NumPy alone, and draw it in text.

    python examples/train_2d.py [steps]

p(x) = exp(-E(x)/T)/Z: persistent chains sample it at temperature T = sigma^2 / (2 eta), training lowers E on data and
raises it on the chains, until neither moves the other.
"""

import sys

import numpy as np

import ebm_ref

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 600
box = (-4.0, 4.0)

# Data, an energy, and how to train it. Everything that follows is a function of the seed.
data = ebm_ref.toy_sample("two_moons", 2000, seed=0, dtype=np.float32)  # (2000, 2)
energy = ebm_ref.MLPEnergy(shape=(2,), hidden=(64, 64))
recipe = ebm_ref.Recipe(
    batch=128,
    K=20,
    eta=0.02,
    sigma=0.1,
    box=box,
    alpha=0.01,
    sigma_data=0.05,
    rho=0.02,
    M=512,
    lr=2e-3,
    schedule="cosine",
    ema_decay=0.99,
    steps=steps,
)


def report(state: ebm_ref.TrainState, record: dict[str, float]) -> None:
    if state.step % 100 == 0:
        print(f"step {state.step:4}  gap {record['gap']:+.3f}  |grad_theta| {record['grad_norm']:.3f}")


state = ebm_ref.train(ebm_ref, energy, recipe, data, seed=0, callback=report)

# Is E low on data? Held-out points against uniform noise in the box; higher score = more in-distribution.
held_out = ebm_ref.toy_sample("two_moons", 1000, seed=1, dtype=np.float32)
u = ebm_ref.noise_uniform(1, ebm_ref.Stream.EVALUATION, 0, np.arange(1000), 2, np.float32)
noise = box[0] + (box[1] - box[0]) * u  # (1000, 2)
score = [-energy.energy(state.ema, x) for x in (held_out, noise)]
print(f"AUROC of held-out data against noise: {ebm_ref.auroc(*score):.3f}")

# The unnormalised density exp(-(E - min E)/T) on a grid, darker = denser.
tau = recipe.sigma**2 / (2 * recipe.eta)
columns, rows = np.meshgrid(np.linspace(-3, 3, 64, dtype=np.float32), np.linspace(2, -2, 24, dtype=np.float32))
E = energy.energy(state.ema, np.stack([columns.ravel(), rows.ravel()], axis=1))  # (24 * 64,)
shade = (9.99 * np.exp(-(E - E.min()) / tau)).astype(int).reshape(24, 64)  # (24, 64)
print("\n".join("".join(" .:-=+*#%@"[s] for s in row) for row in shade))
