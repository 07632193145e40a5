"""The few-step sampler that ships beside the weights: a denoiser that has learnt to take the teacher's long strides.

A diffusion sampler in k steps is a list of noise levels and a network asked once at each. The student's network has the
teacher's shape, but its answer at a level is no longer the expected clean latent: it is the point that the teacher's
whole walk from this level to the student's next one heads for (``training.train_student``). It is therefore called at
its own levels only, by order-1 steps without noise.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ecg_gym import checkpoint
from ecg_gym.world_model.denoiser import DenoiserConfig

KIND = "student"
WEIGHTS = "student.safetensors"
STEPS = 4  # if nobody says


@dataclass(frozen=True)
class Student:
    """A distilled forecaster and the noise levels it may be asked at."""

    forecaster: nn.Module  # the teacher's kind, all but its denoiser a copy of the teacher's
    taus: Mapping[int, tuple[int, ...]]  # number of steps -> levels from noise down to 0, for `sample(..., taus=...)`
    sha256: str = ""  # of the student's weights

    def levels(self, steps: int | None = None) -> list[int]:
        """The noise levels of a walk of ``steps`` (None: 4, or the most there are); ValueError for any other."""
        steps = min(STEPS, max(self.taus)) if steps is None else steps
        if steps not in self.taus:
            raise ValueError(
                f"steps is {steps} with the student; expected one of {sorted(self.taus)}, the walks it has learnt; "
                "leave it out, or use sampler='dpm++' for any number of steps"
            )
        return list(self.taus[steps])


def load_student(path: str | Path, teacher: nn.Module, teacher_sha256: str) -> Student:
    """The student stored at ``path``, for the forecaster ``teacher`` whose weights have that SHA-256.

    ``path`` is the file or a folder that holds ``student.safetensors``. ``teacher`` is not changed: the student is a
    copy of it with a denoiser of its own. A teacher whose file changed since, but not its denoiser (another card, a
    calibration), is still the teacher. Raises ValueError if there is no such file or it learnt from other weights.
    """
    path = Path(path)
    path = path / WEIGHTS if path.is_dir() else path
    if not path.is_file():
        raise ValueError(
            f"no student at {path}; expected the few-step weights that belong to this world model; make them with "
            "`ecg-gym train student`, or use sampler='dpm++', which needs none"
        )
    stored = checkpoint.load(path, KIND, checkpoint.manifest().get(path.name) if _packaged(path) else None)
    learnt_from = str(stored.metadata.get("teacher_sha256"))
    if learnt_from != teacher_sha256 and stored.metadata.get("teacher_denoiser") != digest(_denoiser(teacher)):
        raise ValueError(
            f"{path} learnt from the world model {learnt_from[:12]}...; expected {teacher_sha256[:12]}..., the one in "
            "use; keep both files together, or distil again with `ecg-gym train student`"
        )
    pupil = copy.deepcopy(teacher)
    checkpoint.restore(_denoiser(pupil), stored)
    try:
        taus = {int(steps): tuple(map(int, levels)) for steps, levels in stored.metadata["config"]["taus"].items()}
    except (KeyError, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path} says of its noise levels {str(stored.metadata.get('config'))[:80]}; expected config.taus with "
            "whole numbers per number of steps; distil again with `ecg-gym train student`"
        ) from error
    return Student(pupil.eval(), checked_taus(taus, teacher.schedule.n), stored.sha256)  # type: ignore[union-attr, arg-type]


def save_student(
    path: str | Path, denoiser: nn.Module, taus: Mapping[int, Sequence[int]], teacher: nn.Module,
    teacher_sha256: str, *, data: Mapping[str, Any], metrics: Mapping[str, Any], **more: Any,
) -> str:  # fmt: skip
    """Write a student's denoiser, its noise levels and whom it learnt from; returns the SHA-256 of the file."""
    inputs: DenoiserConfig = denoiser.config  # type: ignore[assignment]
    config = {"denoiser": asdict(inputs), "taus": {str(steps): list(levels) for steps, levels in taus.items()}}
    tensors = denoiser.state_dict()
    origin: dict[str, Any] = {"teacher_sha256": teacher_sha256, "teacher_denoiser": digest(_denoiser(teacher))}
    return checkpoint.save(path, KIND, tensors, config, data=data, metrics=metrics, **origin, **more)


def digest(network: nn.Module) -> str:
    """The SHA-256 of a network's weights as they are stored, whatever else stands in the file."""
    sums = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        value = tensor.detach().cpu()
        sums.update(name.encode() + (value.half() if value.is_floating_point() else value).numpy().tobytes())
    return sums.hexdigest()


def checked_taus(taus: Mapping[int, Sequence[int]], n: int) -> dict[int, tuple[int, ...]]:
    """The walks, after checking that each falls to 0 in as many steps as it says and that a level belongs to one."""
    for steps, levels in taus.items():
        falls = all(a > b for a, b in itertools.pairwise(levels))
        if len(levels) != steps + 1 or levels[-1] != 0 or levels[0] > n or not falls:
            raise ValueError(
                f"taus[{steps}] is {list(levels)}; expected {steps} noise levels that fall from {n} at most, then 0; "
                "mend the student's preset"
            )
    target_intervals = [tau for levels in taus.values() for tau in levels[:-1]]
    if len(set(target_intervals)) < len(target_intervals):
        raise ValueError(
            f"taus are {dict(taus)}; expected no level twice, because the student's answer at a level is one stride; "
            "shift one of them by a step"
        )
    return {steps: tuple(levels) for steps, levels in taus.items()}


def _denoiser(forecaster: nn.Module) -> nn.Module:
    return forecaster.denoiser  # type: ignore[return-value]


def _packaged(path: Path) -> bool:
    return path.parent.resolve() == checkpoint.ASSETS.resolve()
