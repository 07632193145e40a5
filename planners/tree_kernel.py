"""The trees of many patients as arrays, and the loops over them: which outcome to draw next, and what it changes.

Every array has the tree first. A node is a patient after what was given and seen, an edge a treatment at a node, an
outcome one step that the world was asked for. See :mod:`planners.tree_search` for what is done with them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ecg_gym.compiled import compiled_exact

NONE = -1


class Forest(NamedTuple):
    """R trees of at most N nodes, N edges and N outcomes, over A menu entries and K readings."""

    value: np.ndarray  # (R, N) expected return from each node on
    guess: np.ndarray  # (R, N) the same before anything was tried there
    left: np.ndarray  # (R, N) int steps that may still follow; 0 where the episode is over
    visits: np.ndarray  # (R, N) int simulations that ended below it
    readings: np.ndarray  # (R, N, K) readings, in units of what can be told apart
    allowed: np.ndarray  # (R, N, A) bool
    prior: np.ndarray  # (R, N, A) probabilities
    like: np.ndarray  # (R, N) int outcomes that look like this node
    reward: np.ndarray  # (R, N) mean reward of the step into it
    above: np.ndarray  # (R, N) int the edge that leads to it
    beside: np.ndarray  # (R, N) int the next child of the same edge
    sample: np.ndarray  # (R, N) int its newest outcome; the root's is outcome 0
    edge: np.ndarray  # (R, N, A) int the edge of each entry
    edge_node: np.ndarray  # (R, N) int
    edge_entry: np.ndarray  # (R, N) int
    edge_visits: np.ndarray  # (R, N) int simulations that went through it, those under way included
    edge_requests: np.ndarray  # (R, N) int outcomes asked for, those under way included
    edge_value: np.ndarray  # (R, N)
    edge_child: np.ndarray  # (R, N) int its newest child
    older: np.ndarray  # (R, N) int the outcome before, of the same node
    nodes: np.ndarray  # (R,) int
    edges: np.ndarray  # (R,) int
    outcomes: np.ndarray  # (R,) int, the root's included
    requests: np.ndarray  # (R,) int outcomes that the world was asked for, those under way included
    low: np.ndarray  # (R,) lowest value of an edge
    high: np.ndarray  # (R,) highest


class Growth(NamedTuple):
    """How trees grow; the numbers of ``SearchSettings`` that the loops need."""

    budget: int
    exploration: float
    widening: float
    exponent: float
    apart: float
    mixing: float
    guess_weight: float
    discount: float
    informed: bool


def forest(trees: int, outcomes: int, entries: int, readings: int) -> Forest:
    """Empty trees for so many outcomes each, the root's among them."""
    size = (trees, outcomes)
    real = {name: np.zeros(size) for name in ("value", "guess", "reward", "edge_value")}
    whole = {name: np.zeros(size, np.int64) for name in ("left", "visits", "like", "edge_visits", "edge_requests")}
    links = ("above", "beside", "sample", "edge_node", "edge_entry", "edge_child", "older")
    linked = {name: np.full(size, NONE) for name in links}
    return Forest(
        **real, **whole, **linked, readings=np.zeros((*size, readings)), allowed=np.zeros((*size, entries), bool),
        prior=np.zeros((*size, entries)), edge=np.full((*size, entries), NONE), nodes=np.zeros(trees, np.int64),
        edges=np.zeros(trees, np.int64), outcomes=np.zeros(trees, np.int64), requests=np.zeros(trees, np.int64),
        low=np.full(trees, np.inf), high=np.full(trees, -np.inf),
    )  # fmt: skip


@compiled_exact
def plant(f: Forest, samples: int, readings: np.ndarray, allowed: np.ndarray, prior: np.ndarray, guess: np.ndarray,
          left: np.ndarray) -> None:  # fmt: skip
    """The root of every tree, of ``samples`` outcomes each: hearts that the patient may have."""
    for r in range(len(left)):
        _add(f, r, NONE, 0.0, readings[r], allowed[r], prior[r], guess[r], left[r])
        for _ in range(samples - 1):
            _again(f, r, 0)


@compiled_exact
def select(f: Forest, g: Growth, most: int, out: np.ndarray) -> int:
    """Up to ``most`` outcomes to draw in every tree; how many in all, one column of ``out (5, R x most)`` each.

    Its rows are the tree, the node, its edge, the outcome of the node that it goes on from, and which outcome of the
    edge it is. Columns of one tree stand together.
    """
    n = 0
    for r in range(len(f.nodes)):
        start = n
        while n - start < most and f.requests[r] < g.budget:
            at, entry = 0, _root_entry(f, g, r)
            while True:
                e = f.edge[r, at, entry]
                if e == NONE:
                    e = f.edges[r]
                    f.edges[r] += 1
                    f.edge[r, at, entry], f.edge_node[r, e], f.edge_entry[r, e] = e, at, entry
                f.edge_visits[r, e] += 1
                requests = f.edge_requests[r, e]
                child = _follow(f, r, e)
                wide = requests >= g.widening * f.edge_visits[r, e] ** g.exponent
                if child == NONE or not wide or f.left[r, child] == 0:  # a way never ends in what is known
                    out[0, n], out[1, n], out[2, n], out[4, n] = r, at, e, requests
                    out[3, n] = _sample(f, r, at, requests)
                    f.edge_requests[r, e] += 1
                    f.requests[r] += 1
                    n += 1
                    break
                at = child
                entry = _entry(f, g, r, at)
    return n


@compiled_exact
def put(f: Forest, g: Growth, tree: np.ndarray, edge: np.ndarray, reward: np.ndarray, readings: np.ndarray,
        allowed: np.ndarray, prior: np.ndarray, guess: np.ndarray, left: np.ndarray) -> None:  # fmt: skip
    """The outcomes that were drawn, in the order in which they were selected."""
    for i in range(len(tree)):
        r, e = tree[i], edge[i]
        child = f.edge_child[r, e]
        while child != NONE and not (
            f.left[r, child] == left[i] and _alike(f.readings[r, child], readings[i], g.apart)
        ):
            child = f.beside[r, child]
        if child == NONE:
            child = _add(f, r, e, reward[i], readings[i], allowed[i], prior[i], guess[i], left[i])
        else:
            f.reward[r, child] += (reward[i] - f.reward[r, child]) / (f.like[r, child] + 1)
            _again(f, r, child)
        f.visits[r, child] += 1
        _back_up(f, g, r, e)


@compiled_exact
def _add(f, r, e, reward, readings, allowed, prior, guess, left):
    child = f.nodes[r]
    f.nodes[r] += 1
    f.value[r, child], f.guess[r, child], f.left[r, child] = guess, guess, left
    f.readings[r, child], f.allowed[r, child], f.prior[r, child] = readings, allowed, prior
    f.like[r, child], f.reward[r, child], f.above[r, child] = 1, reward, e
    f.sample[r, child] = f.outcomes[r]
    f.outcomes[r] += 1
    if e != NONE:
        f.beside[r, child], f.edge_child[r, e] = f.edge_child[r, e], child
    return child


@compiled_exact
def _again(f, r, at):
    """One more outcome that looks like a node."""
    f.older[r, f.outcomes[r]], f.sample[r, at] = f.sample[r, at], f.outcomes[r]
    f.like[r, at] += 1
    f.outcomes[r] += 1


@compiled_exact
def _alike(one, other, apart):
    for k in range(len(one)):  # noqa: SIM110 - a compiled loop
        if not abs(one[k] - other[k]) < apart:
            return False
    return True


@compiled_exact
def _sample(f, r, at, nth):
    """The outcome of a node that the nth draw of an edge goes on from: one after the other, newest first."""
    outcome = f.sample[r, at]
    for _ in range(nth % f.like[r, at]):
        outcome = f.older[r, outcome]
    return outcome


@compiled_exact
def _follow(f, r, e):
    """The child that was followed least for its frequency."""
    best, most, child = NONE, -1.0, f.edge_child[r, e]
    while child != NONE:
        share = f.like[r, child] / (1.0 + f.visits[r, child])
        if share > most:
            best, most = child, share
        child = f.beside[r, child]
    return best


@compiled_exact
def _root_entry(f, g, r):
    """The entry whose turn it is: everything once, best prior first, then by sequential halving the least visited."""
    n, untried, best = 0, NONE, -1.0
    values = np.empty(f.allowed.shape[2])
    for a in range(f.allowed.shape[2]):
        if f.allowed[r, 0, a]:
            e = f.edge[r, 0, a]
            if e == NONE:
                if f.prior[r, 0, a] > best:
                    untried, best = a, f.prior[r, 0, a]
            elif f.edge_child[r, e] != NONE:
                values[n] = f.edge_value[r, e]
                n += 1
    if untried != NONE or n == 0:
        return untried if untried != NONE else _first(f, r)
    rounds = max(1, int(np.ceil(np.log2(max(n, 2)))))
    survivors = max(1, int(np.ceil(n / 2.0 ** min(rounds - 1, f.requests[r] * rounds // g.budget))))
    least = np.sort(values[:n])[n - survivors]
    turn, fewest = NONE, 0
    for a in range(f.allowed.shape[2]):
        e = f.edge[r, 0, a]
        if not f.allowed[r, 0, a] or f.edge_child[r, e] == NONE or f.edge_value[r, e] < least:
            continue
        if turn == NONE or f.edge_visits[r, e] < fewest:
            turn, fewest = a, f.edge_visits[r, e]
    return turn


@compiled_exact
def _first(f, r):
    """The least visited entry, where no outcome has come back yet."""
    turn, fewest = NONE, 0
    for a in range(f.allowed.shape[2]):
        if f.allowed[r, 0, a] and (turn == NONE or f.edge_visits[r, f.edge[r, 0, a]] < fewest):
            turn, fewest = a, f.edge_visits[r, f.edge[r, 0, a]]
    return turn


@compiled_exact
def _entry(f, g, r, at):
    """The most promising entry of a node below the root: UCB1, or PUCT where there is a prior."""
    total = 0
    for a in range(f.allowed.shape[2]):
        if f.edge[r, at, a] != NONE:
            total += f.edge_visits[r, f.edge[r, at, a]]
    scale = f.high[r] - f.low[r]
    best, most = NONE, -np.inf
    for a in range(f.allowed.shape[2]):
        if not f.allowed[r, at, a]:
            continue
        e, visits, value = f.edge[r, at, a], 0, f.value[r, at]
        if e != NONE:
            visits = f.edge_visits[r, e]
            if f.edge_child[r, e] != NONE:
                value = f.edge_value[r, e]
        score = (value - f.low[r]) / scale if scale > 0 else 0.0
        if g.informed:
            score += g.exploration * f.prior[r, at, a] * np.sqrt(max(1.0, total)) / (1.0 + visits)
        else:
            score += g.exploration * np.sqrt(np.log(1.0 + total) / (1.0 + visits))
        if score > most:
            best, most = a, score
    return best


@compiled_exact
def _back_up(f, g, r, e):
    """The values of an edge and of everything above it."""
    while e != NONE:
        total, weight, child = 0.0, 0.0, f.edge_child[r, e]
        while child != NONE:
            total += f.like[r, child] * (f.reward[r, child] + g.discount * f.value[r, child])
            weight += f.like[r, child]
            child = f.beside[r, child]
        f.edge_value[r, e] = total / weight
        f.low[r], f.high[r] = min(f.low[r], f.edge_value[r, e]), max(f.high[r], f.edge_value[r, e])
        at = f.edge_node[r, e]
        f.value[r, at] = _node_value(f, g, r, at)
        e = f.above[r, at]
        if e != NONE:
            f.visits[r, at] += 1


@compiled_exact
def _node_value(f, g, r, at):
    """Of the best edge and the mean over visits, and of the guess for so many visits more."""
    best, total, visits = -np.inf, 0.0, 0.0
    for a in range(f.allowed.shape[2]):
        e = f.edge[r, at, a]
        if e != NONE and f.edge_child[r, e] != NONE:
            best = max(best, f.edge_value[r, e])
            total += f.edge_visits[r, e] * f.edge_value[r, e]
            visits += f.edge_visits[r, e]
    mixed = g.mixing * best + (1 - g.mixing) * total / visits
    return (g.guess_weight * f.guess[r, at] + visits * mixed) / (g.guess_weight + visits)


def best_entries(f: Forest) -> tuple[np.ndarray, np.ndarray]:
    """The root entry with the highest value in each tree ``(R,)``, and that value."""
    rows = np.arange(len(f.edge))[:, None]
    edges = f.edge[:, 0]
    mask = (edges != NONE) & (f.edge_child[rows, edges] != NONE)
    values = np.where(mask, f.edge_value[rows, edges], -np.inf)
    entry = values.argmax(axis=1)
    return entry, values[rows[:, 0], entry]
