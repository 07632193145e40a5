"""Multiple shooting: a long recording is cut into windows that are simulated at once, each from its own state.

A simulation from rest to the end of a long recording forgives nothing: a first beat that comes early moves every later
one, and the misfit is flat or full of holes. Windows of 100 to 200 ms begin at the observed voltages; their hidden
variables are free and found with the model's parameters, and what is left between the end of a window and the
beginning of the next is penalised with a weight that rises. The parameters are then a start for
``ecg_gym.tissue.fit``, which simulates the whole recording from rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ecg_gym.tissue.fitting import (
    Fit,
    FitOptions,
    clip_rows,
    fit,
    flushed_denormals,
    penalties,
    protocol_stimuli,
    put_inside,
    results_of,
)
from ecg_gym.tissue.model import Model, Stimuli, rates, simulate
from ecg_gym.tissue.recording import DataSet
from ecg_gym.tissue.spec import Spec
from ecg_gym.tissue.timing import smooth


@dataclass(frozen=True)
class ShootingOptions:
    """How the windows are cut and how hard is tried."""

    window_ms: float = 160.0
    stages: tuple[tuple[float, int, float], ...] = ((0.1, 20, 0.08), (1.0, 20, 0.05), (10.0, 15, 0.03))
    # (weight of the gaps between windows, iterations, learning rate of Adam)
    dt_ms: float = 0.5


def fit_long(
    spec: Spec, data: DataSet, shooting: ShootingOptions = ShootingOptions(), options: FitOptions | None = None
) -> Fit:
    """A structure fitted to a recording of voltages on every node: by windows first, then from rest to the end."""
    options = FitOptions() if options is None else options
    model, _ = shoot(Model.nominal(spec, data.graph, 1, options.seed), data, shooting)
    begin = results_of(model, [data], sum(steps for _, steps, _ in shooting.stages), 0.0, options)
    return fit([spec], [data], options, {(spec, data.key): begin[0]})[0][0]


@flushed_denormals()
def shoot(model: Model, data: DataSet, options: ShootingOptions = ShootingOptions()) -> tuple[Model, list[float]]:
    """The model (one row) fitted to the windows of the train protocols, and the root mean square of the gaps between
    windows (u and hidden variables) after every stage."""
    if data.kind != "voltage":
        raise ValueError(f"observed is {data.kind!r}; expected 'voltage' on every node; use ecg_gym.tissue.fit")
    windows = Windows.of(data, options)
    leaves = {name: value.detach().clone().requires_grad_() for name, value in model.parameters.items()}
    trial = model.with_parameters(leaves)
    with torch.no_grad():
        u, hidden = windows.start(trial, options.dt_ms)
    states = [x.requires_grad_() for x in (u, *hidden)]
    gaps = []
    for weight, steps, rate in options.stages:
        adam = torch.optim.Adam([*leaves.values(), *states], lr=rate, betas=(0.9, 0.98))
        for _ in range(steps):
            adam.zero_grad()
            error, gap = windows.misfit(trial, states, options.dt_ms)
            (error + weight * gap + penalties(trial, None).sum()).backward()
            for leaf in leaves.values():
                clip_rows(leaf, 0.3)
            adam.step()
            put_inside(leaves, model.spec)
        gaps.append(float(gap.detach()) ** 0.5)
    return model.with_parameters({name: value.detach() for name, value in leaves.items()}), gaps


@dataclass(frozen=True, eq=False)
class Windows:
    """W windows of B protocols, as B * W trajectories; window w of protocol b is trajectory ``w * B + b``."""

    values: Tensor  # (L, N, W * B) observed u
    first: Tensor  # (N, W * B) u at the beginning: observed, smoothed; 0 in the first windows
    stimuli: Stimuli  # with onsets from the beginning of a window
    sample_ms: float
    protocols: int

    @classmethod
    def of(cls, data: DataSet, options: ShootingOptions) -> Windows:
        """The train protocols; what is left over after the last whole window is not used."""
        length = round(options.window_ms / data.sample_ms)
        count = data.samples // length
        if count < 2:
            raise ValueError(
                f"a recording of {data.duration_ms:g} ms has {count} windows of {options.window_ms:g} ms; expected at "
                "least 2; cut it shorter or use ecg_gym.tissue.fit"
            )
        voltage = torch.as_tensor(data.values[list(data.train)], dtype=torch.float32).permute(1, 2, 0)  # (T, N, B)
        smoothed, n = smooth(voltage), len(data.graph)
        cut = [voltage[w * length : (w + 1) * length] for w in range(count)]
        begin = [torch.zeros_like(voltage[0]), *(smoothed[w * length - 1] for w in range(1, count))]
        one = protocol_stimuli([data], data.train)
        shift = options.window_ms * torch.arange(count).repeat_interleave(len(data.train))[None, :, None]
        stimuli = Stimuli(one.masks.repeat(1, 1, count, 1), one.onset_ms.repeat(1, count, 1) - shift)
        assert stimuli.masks.shape[1] == n
        return cls(torch.cat(cut, 2), torch.cat(begin, 1), stimuli, data.sample_ms, len(data.train))

    def start(self, model: Model, dt_ms: float) -> tuple[Tensor, Sequence[Tensor]]:
        """States ``(N, W * B, 1)`` at the beginnings: u observed, hidden variables driven by the observed u."""
        f, (_, hidden) = rates(model), model.rest(self.protocols)
        begin = [hidden]
        every = round(self.sample_ms / dt_ms)
        for w in range(self.values.shape[2] // self.protocols - 1):
            for u in smooth(self.values[:, :, w * self.protocols : (w + 1) * self.protocols]):
                for _ in range(every):
                    hidden = tuple(h + dt_ms * d for h, d in zip(hidden, f.reaction(u[..., None], hidden)[1]))
            begin.append(hidden)
        return self.first[..., None].clone(), [torch.cat(parts, 1).clone() for parts in zip(*begin)]

    def misfit(self, model: Model, states: Sequence[Tensor], dt_ms: float) -> tuple[Tensor, Tensor]:
        """Mean squared error of u in the windows, and mean squared gap between a window's end and the next's state.

        The first windows begin at rest whatever ``states`` holds for them.
        """
        b = self.protocols
        u, hidden = model.rest(b)
        whole = [torch.cat([rest, free[:, b:]], 1) for rest, free in zip((u, *hidden), states)]
        every = round(self.sample_ms / dt_ms)
        run = simulate(
            model, self.stimuli, dt_ms, len(self.values) * every, every, (whole[0], tuple(whole[1:]))
        )  # fmt: skip
        error = ((run.u[..., 0] - self.values) ** 2).mean()
        ends = (run.end[0], *run.end[1])
        gap = torch.stack([((end[:, :-b] - begin[:, b:]) ** 2).mean() for end, begin in zip(ends, whole)]).mean()
        return error, gap


__all__ = ["ShootingOptions", "fit_long", "shoot"]
