"""Foreign checkpoints with random numbers, and a second forward of each network: plain NumPy, written from shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import erf

Tensors = dict[str, np.ndarray]


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> Tensors:
    """Numbers by name: weights of the size that keeps a signal's size, gains around 1, running variances above 0."""
    result = {}
    for name in sorted(shapes):
        rng = np.random.default_rng([seed, *name.encode()])
        shape = shapes[name]
        if name.endswith("num_batches_tracked"):
            result[name] = np.array(7, np.int64)
            continue
        x = rng.standard_normal(shape)
        if len(shape) > 1:
            x /= math.sqrt(math.prod(shape[1:]))
        elif name.endswith(("weight", "running_var")):
            x = 1 + 0.1 * np.abs(x)
        else:
            x *= 0.1
        result[name] = x.astype(np.float32)
    return result


def save_torch(path: Path, tree: Any) -> Path:
    """``tree`` (dicts of arrays and anything else) as ``torch.save`` writes it."""

    def tensors(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tensors(item) for key, item in value.items()}
        return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value

    torch.save(tensors(tree), path)
    return path


def pulse_train(n: int = 2, seed: int = 0) -> np.ndarray:
    """Strips ``(n, 12, 1024)`` [mV]: beats of another height in every lead, some wander and some noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(1024) / 102.4
    phase = (t[None] / rng.uniform(0.6, 1.1, (n, 1)) + rng.random((n, 1))) % 1 - 0.4
    beat = np.exp(-0.5 * (phase / 0.02) ** 2) + 0.25 * np.exp(-0.5 * ((phase - 0.3) / 0.06) ** 2)
    strips = beat[:, None] * rng.uniform(-0.5, 1.5, (n, 12, 1)) + 0.1 * np.sin(2 * np.pi * 0.25 * t)
    return (strips + 0.01 * rng.standard_normal((n, 12, 1024))).astype(np.float32)


# --- the second forward ---


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def swish(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + erf(x / math.sqrt(2))) / 2


def convolve(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: int = 1, left: int = 0, right: int = 0
) -> np.ndarray:
    """Sum over taps; groups follow from the shapes."""
    out, width, taps = weight.shape
    groups = x.shape[1] // width
    padded = np.pad(x, ((0, 0), (0, 0), (left, right)))
    length = (padded.shape[-1] - taps) // stride + 1
    y = np.zeros((len(x), out, length))
    for tap in range(taps):
        seen = padded[:, :, tap : tap + stride * (length - 1) + 1 : stride]
        for g in range(groups):
            rows = slice(g * out // groups, (g + 1) * out // groups)
            y[:, rows] += np.einsum("oc,bct->bot", weight[rows, :, tap], seen[:, g * width : (g + 1) * width])
    return y if bias is None else y + bias[None, :, None]


def normalise(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def founder_forward(w: Tensors, x: np.ndarray, blocks: tuple[int, ...]) -> np.ndarray:
    """Logits of ECGFounder's network from what goes in."""

    def same(x: np.ndarray, path: str, stride: int = 1) -> np.ndarray:
        kernel, length = w[path + ".conv.weight"].shape[2], x.shape[-1]
        total = max(0, (math.ceil(length / stride) - 1) * stride + kernel - length)
        return convolve(x, w[path + ".conv.weight"], w[path + ".conv.bias"], stride, total // 2, total - total // 2)

    def linear(x: np.ndarray, path: str) -> np.ndarray:
        return x @ w[path + ".weight"].T + w[path + ".bias"]

    x = swish(same(x, "first_conv", 2))
    for s, count in enumerate(blocks):
        for b in range(count):
            path, stride = f"stage_list.{s}.block_list.{b}", 1 if b else 2
            y = same(x if s == b == 0 else swish(x), path + ".conv1")
            y = same(swish(same(swish(y), path + ".conv2", stride)), path + ".conv3")
            y = y * sigmoid(linear(swish(linear(y.mean(-1), path + ".se_fc1")), path + ".se_fc2"))[:, :, None]
            if stride == 2:
                even = x.shape[-1] // 2 * 2
                pairs = np.maximum(x[:, :, 0:even:2], x[:, :, 1:even:2])
                rest = np.maximum(x[:, :, even:], 0)  # the odd last sample stands beside the padded zero
                x = np.concatenate([pairs, rest], axis=-1)
            more = y.shape[1] - x.shape[1]
            x = y + np.pad(x, ((0, 0), (more // 2, more - more // 2), (0, 0)))
    return linear(x.mean(-1), "dense")


def fm_forward(w: Tensors, x: np.ndarray, layers: int, heads: int) -> np.ndarray:
    """Logits of ECG-FM's network; the positional convolution by length and direction."""

    def linear(x: np.ndarray, path: str) -> np.ndarray:
        return x @ w[path + ".weight"].T + w[path + ".bias"]

    def norm(x: np.ndarray, path: str) -> np.ndarray:
        return normalise(x, (-1,)) * w[path + ".weight"] + w[path + ".bias"]

    i = 0
    while (path := f"encoder.feature_extractor.conv_layers.{i}") + ".0.weight" in w:
        x = convolve(x, w[path + ".0.weight"], None, 2)
        if i == 0:
            x = normalise(x, (2,)) * w[path + ".2.weight"][:, None] + w[path + ".2.bias"][:, None]
        x = gelu(x)
        i += 1
    x = linear(norm(x.transpose(0, 2, 1), "encoder.layer_norm"), "encoder.post_extract_proj")
    path = "encoder.conv_pos.pos_conv.0."
    new = path + "parametrizations.weight.original0" in w
    g, v = (
        w[path + name]
        for name in (
            ("parametrizations.weight.original0", "parametrizations.weight.original1")
            if new
            else ("weight_g", "weight_v")
        )
    )
    kernel = np.stack([g[0, 0, k] * v[:, :, k] / np.linalg.norm(v[:, :, k]) for k in range(v.shape[2])], axis=2)
    half = kernel.shape[2] // 2
    places = convolve(x.transpose(0, 2, 1), kernel, w[path + "bias"], 1, half, half)[:, :, : x.shape[1]]
    x = norm(x + gelu(places).transpose(0, 2, 1), "encoder.encoder.layer_norm")
    for n in range(layers):
        path = f"encoder.encoder.layers.{n}."
        q, k, v = (linear(x, f"{path}self_attn.{name}_proj") for name in "qkv")
        size = x.shape[-1] // heads
        parts = []
        for h in range(heads):
            columns = slice(h * size, (h + 1) * size)
            scores = q[..., columns] @ k[..., columns].transpose(0, 2, 1) / math.sqrt(size)
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            parts.append(shares / shares.sum(-1, keepdims=True) @ v[..., columns])
        x = norm(x + linear(np.concatenate(parts, -1), path + "self_attn.out_proj"), path + "self_attn_layer_norm")
        x = norm(x + linear(gelu(linear(x, path + "fc1")), path + "fc2"), path + "final_layer_norm")
    return linear(x.mean(1), "proj")


def vae_forward(w: Tensors, x: np.ndarray, part: str, groups: int) -> np.ndarray:
    """The encoder's eight channels, or the decoder's twelve leads; what a layer is, its names and its place say."""
    places = sorted({int(name.split(".")[1]) for name in w if name.startswith(part + ".")})
    halved, doubled = {3, 6, 9}, {8, 13, 18}

    def group_norm(x: np.ndarray, path: str) -> np.ndarray:
        b, c, t = x.shape
        y = normalise(x.reshape(b, groups, -1), (2,)).reshape(b, c, t)
        return y * w[path + ".weight"][:, None] + w[path + ".bias"][:, None]

    def conv(x: np.ndarray, path: str, stride: int = 1) -> np.ndarray:
        weight = w[path + ".weight"]
        left = 0 if stride == 2 else weight.shape[2] // 2
        return convolve(x, weight, w[path + ".bias"], stride, left, weight.shape[2] // 2)

    for place in range(max(places) + 1):
        path = f"{part}.{place}"
        if part == "decoder" and place in doubled:
            x = np.repeat(x, 2, axis=2)
        elif path + ".conv_1.weight" in w:
            y = conv(swish(group_norm(x, path + ".groupnorm_1")), path + ".conv_1")
            y = conv(swish(group_norm(y, path + ".groupnorm_2")), path + ".conv_2")
            x = y + (conv(x, path + ".residual_layer") if path + ".residual_layer.weight" in w else x)
        elif path + ".attention.in_proj.weight" in w:
            rows = x.transpose(0, 2, 1)
            qkv = rows @ w[path + ".attention.in_proj.weight"].T + w[path + ".attention.in_proj.bias"]
            q, k, v = np.split(qkv, 3, axis=-1)
            scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            y = shares / shares.sum(-1, keepdims=True) @ v
            out = y @ w[path + ".attention.out_proj.weight"].T + w[path + ".attention.out_proj.bias"]
            x = x + out.transpose(0, 2, 1)
        elif path + ".weight" in w and w[path + ".weight"].ndim == 1:
            x = swish(group_norm(x, path))  # the swish behind it has no numbers and no name
        elif path + ".weight" in w:
            x = conv(x, path, 2 if part == "encoder" and place in halved else 1)
    return x
