#!/usr/bin/env python3
"""How long a training step takes in ndt-train and in PyTorch, in turns: python bench_training.py [--json FILE]

A turn is `cargo bench -p ndt-trainer --bench step` for one shape, then as many steps of the same work in PyTorch: the same
architecture and losses, dropout, a batch masked anew, gradient clipping, AdamW. Both may use every core. PyTorch's attention
is what is faster of scaled_dot_product_attention and the explicit formula. Told are medians over all turns, in milliseconds.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import time

import torch
from torch import nn
from torch.nn import functional as F

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Layer(nn.Module):
    def __init__(self, shape, fused):
        super().__init__()
        width, self.heads, self.fused = shape["width"], shape["heads"], fused
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, shape["feedforward"]), nn.Linear(shape["feedforward"], width)
        self.lag_bias = nn.Parameter(torch.zeros(self.heads, shape["window"]))
        self.dropout = shape["dropout"]

    def drop(self, x):
        return F.dropout(x, self.dropout, self.training)

    def attention(self, x, lags, hidden):
        trials, bins, width = x.shape
        query, key, value = self.qkv(x).view(trials, bins, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = (self.lag_bias[:, lags] + hidden)[None]
        if self.fused:
            attended = F.scaled_dot_product_attention(query, key, value, bias, self.dropout)
        else:
            scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(2, 3) + bias
            attended = self.drop(scores.softmax(-1)) @ value
        return self.output(attended.transpose(1, 2).reshape(trials, bins, width))

    def forward(self, x, lags, hidden):
        x = x + self.drop(self.attention(self.norm1(x), lags, hidden))
        return x + self.drop(self.down(self.drop(F.relu(self.up(self.norm2(x))))))


class Model(nn.Module):
    def __init__(self, shape, fused):
        super().__init__()
        width = shape["width"]
        self.readin, self.missing = nn.Linear(shape["channels"], width), nn.Parameter(torch.zeros(width))
        self.layers = nn.ModuleList(Layer(shape, fused) for _ in range(shape["layers"]))
        self.norm, self.dropout = nn.LayerNorm(width), shape["dropout"]
        self.rates, self.velocity = nn.Linear(width, shape["units"]), nn.Linear(width, 2)
        at = torch.arange(shape["bins"])
        lag = at[:, None] - at[None, :]
        self.lags = lag.clamp(0, shape["window"] - 1)
        self.hidden = torch.where((lag < 0) | (lag >= shape["window"]), -1e9, 0.0)

    def forward(self, counts, missing):
        x = torch.where(missing[..., None], self.missing, self.readin(counts))
        x = F.dropout(x, self.dropout)
        for layer in self.layers:
            x = layer(x, self.lags, self.hidden)
        state = self.norm(x)
        return self.rates(F.dropout(state, self.dropout)), self.velocity(state)


class Trainer:
    """The same work as a step of ndt-train; `fused` is the kind of attention."""

    def __init__(self, shape, fused):
        torch.manual_seed(1)
        self.shape, self.model = shape, Model(shape, fused)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), 6e-3, (0.9, 0.98), weight_decay=0.01, fused=True)
        rows = shape["trials"], shape["bins"]
        self.counts = torch.randint(0, 8, (*rows, shape["units"])).div(6, rounding_mode="floor").float()
        self.velocity = torch.randn(*rows, 2)

    def masked(self):
        """Single counts, bins and channels are hidden; what is hidden is asked for."""
        channels = self.shape["channels"]
        missing = torch.rand(self.counts.shape[:2]) < 0.02
        dead = torch.rand(self.counts.shape[0], 1, channels) < 0.01
        hidden = (torch.rand(*self.counts.shape[:2], channels) < 0.3) | dead | missing[..., None]
        counted = torch.ones_like(self.counts, dtype=torch.bool)
        counted[..., :channels] = hidden
        return self.counts[..., :channels] * ~hidden / 0.7, missing, counted

    def step(self):
        inputs, missing, counted = self.masked()
        log_rates, velocity = self.model(inputs, missing)
        loss = ((log_rates.exp() - self.counts * log_rates) * counted).sum() / counted.sum()
        loss = loss + 0.03 * F.mse_loss(velocity, self.velocity)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        return loss.item()

    def steps_ms(self, steps):
        self.step()
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            self.step()
            times.append((time.perf_counter() - start) * 1e3)
        return times


def bench(title):
    """One turn of ndt-train: its shape, and a time for each of its epochs."""
    command = ["cargo", "bench", "--locked", "-p", "ndt-trainer", "--bench", "step", "--", title]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.loads((ROOT / "target/bench/step.json").read_text())[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    print(f"PyTorch {torch.__version__}, {threads} threads")
    print(f"{'shape':<12} {'ndt-train':>10} {'PyTorch':>10} {'ratio':>6}   ms a step")
    rows = []
    for title in ("reference", "default"):
        ours, theirs = [], {True: [], False: []}
        for _ in range(arguments.turns):
            shape = bench(title)
            ours += shape["steps-ms"]
            for fused, times in theirs.items():
                times += Trainer(shape, fused).steps_ms(6 if title == "reference" else 40)
        attention = min(theirs, key=lambda fused: statistics.median(theirs[fused]))
        ours, pytorch = statistics.median(ours), statistics.median(theirs[attention])
        print(f"{title:<12} {ours:>10.1f} {pytorch:>10.1f} {ours / pytorch:>6.2f}")
        rows.append({"title": title, "ndt-train-ms": ours, "pytorch-ms": pytorch, "ratio": ours / pytorch,
                     "pytorch-attention": "fused" if attention else "explicit", "threads": threads})
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
