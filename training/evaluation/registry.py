"""``STUDIES``: every study by name. Commands, ``--quick``, ``--json``, pages and figures grow out of a row here.

A module of a study has ``USUAL`` and ``SMALL`` (:class:`~training.evaluation.result.Size`), ``study(...)`` that returns
the document, ``figure(document)`` and ``summary(document)``, rows for a screen. How it is run, its ``kind`` says:

    world    ``study(world, size, progress)``, ``rows_of(size)`` strips
    truth    ``study(world, truth, size, quick, progress)``, ``answers_of(size, quick)`` questions
    own      a command of its own in ``training.cli.study``, for it has other options
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Study:
    """One study: what it asks, and the module that answers."""

    name: str
    question: str  # one sentence, the help of its command
    path: str  # of the module, under training.evaluation
    kind: str = "own"

    @property
    def module(self) -> ModuleType:
        """The module, imported now: most load torch."""
        return importlib.import_module(f"training.evaluation.{self.path}")


_ROWS = (
    Study("delineation", "PR, QRS, QT and Tpeak-Tend against cardiologists' marks or virtual truth: bias, SD, MAE and "
          "failures in ms.", "virtual_patient.delineation"),
    Study("codec", "What the codec keeps of strips it was not trained on, beside trivial codes of the same size.",
          "world_model.codec"),
    Study("forecast", "Latents, millivolts and intervals of held-out virtual patients, beside copies, means and the "
          "crippled model.", "world_model.forecast", "truth"),
    Study("intervals", "Group effects of every drug, held-out doses and pairs, measured from drawn ECGs, beside the "
          "virtual truth.", "world_model.intervals"),
    Study("calibration", "Spread, coverage of 90 % bands (raw, and corrected on validation patients), and CRPS beside "
          "trivial forecasts.", "world_model.calibration"),
    Study("delta-risk", "Predicted against true change of risk: does the model foresee help and harm?",
          "world_model.delta_risk", "truth"),
    Study("baselines", "Our model beside rival generators trained alike, the majority class, pharmacology and a copy.",
          "world_model.baselines"),
    Study("realism", "Do drawn strips look real: a classifier that tells them apart, Fréchet distance, precision and "
          "recall.",
          "world_model.realism"),
    Study("decisions", "Whose word is worth following: what the world says, what it draws, pharmacology, chance, a few "
          "futures of the truth.", "world_model.decisions", "truth"),
    Study("drawing", "Does a drawn strip show what the state says: intervals, rhythm and findings read off it again.",
          "world_model.drawing", "truth"),
    Study("ablate-epk", "The physiological prior at 0, 0.25 and 1 of its strength: spread, CRPS and whether the "
          "condition is followed.", "world_model.ablate_epk"),
    Study("pharmacology", "Published effects of drugs and pairs beside what the pharmacology says, typical person, no "
          "waveforms.", "virtual_patient.pharmacology"),
    Study("drug-effects", "The virtual trial beside the real one, measured from waveforms: effects, levels, placebo "
          "drift, scatter.", "virtual_patient.drug_effects"),
    Study("plans", "One decision in the learned world, judged in the virtual patient, beside watching, chance and the "
          "oracle.", "planning.plans"),
    Study("scenarios", "What watching, chance, a constant, the guideline and the oracle reach in each scenario.",
          "scenarios.scenarios"),
    Study("task", "Is it worth learning? Watching, chance, everything, constants and the book beside a search and "
          "MaskablePPO.", "task.study"),
    Study("anchor", "What McSharry's model knows of the next strip once the intervals and the beats are given; no "
          "network.", "world_model.anchor"),
    Study("zero-dose", "What the learned world does to real strips when nothing is given; a perfect one would do "
          "nothing.", "world_model.zero_dose"),
    Study("rollout", "One to eight steps that feed on themselves, treated and not, beside single steps from the truth.",
          "world_model.rollout", "world"),
    Study("stability", "Anybody's world over many steps: horizon, drift, washout, order, twins, violations, spread "
          "against error.", "stability.study"),
    Study("missing-leads", "Each lead missing in turn, and up to six at once: what it costs the forecast, and what is "
          "filled in.", "world_model.missing_leads", "world"),
    Study("ablate-lambda", "What the weight of uncertainty does to decisions: regret, bad tail and stability, for "
          "lambda from 0 to 2.", "planning.ablate_lambda", "world"),
    Study("ablate-k", "How many futures a decision needs: regret, error of the risk and stability for K from 1 to 32.",
          "planning.ablate_k", "world"),
    Study("prior-mismatch", "What happens when pharmacology or the anchor is wrong: scaled, reversed, another "
          "patient's.", "world_model.prior_mismatch", "world"),
    Study("sampler-speed", "What a planning query costs beside the naive way, and what fewer sampling steps cost in "
          "CRPS.", "speed.sampler", "world"),
    Study("leads-agents", "Fits until each LEADS agent is within 5 % of the exhaustive best, on a table of fits.",
          "leads.agents"),
    Study("proposers", "Which proposer's k treatments hold the oracle's best: recall, regret, calls saved, refusals.",
          "planning.proposers"),
    Study("inverse-dynamics", "Which drug was given between two strips, beside chance, pharmacology and a simulated "
          "ceiling.", "planning.inverse_dynamics"),
    Study("vector-speed", "Steps per second of the native vector env beside Gymnasium's own, in both worlds.",
          "speed.vector"),
    Study("speed", "Steps a second as ratios: without strips against CartPole, with strips against NeuroKit2 and "
          "single envs.", "speed.engine"),
    Study("fidelity", "Readings without strips beside those of strips: bias, SD, risk, and what policies earn in both.",
          "virtual_patient.fidelity"),
    Study("real-effects", "Group effects of real arms beside those of the model, of pharmacology, of placebo and of a "
          "wrong drug.", "real_trials.effects"),
    Study("leave-one-out", "The interval model, tuned on everybody else, foretells the one who was left out; beside "
          "trivial forecasts.", "real_trials.leave_one_out"),
    Study("leads", "Synthetic hearts: is the true reaction named, how well is another pacing foretold, do intervals "
          "cover?", "leads.study"),
)  # fmt: skip
STUDIES = {study.name: study for study in _ROWS}
