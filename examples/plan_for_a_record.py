"""Rank treatments for a 12-lead record with the trained world model, and draw the picture.

    python examples/plan_for_a_record.py path/to/wfdb_record out.png

The same as `ecg-gym plan path/to/wfdb_record`, in the ten lines that matter.
"""

import sys

from rich.console import Console

from ecg_gym.datasets import read_record
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.risk import RiskModel
from ecg_gym.world_model import WorldModel
from planners import Plan, plan
from planners.report.table import plan_figure, plan_table

DRUGS = ("dofetilide", "verapamil", "metoprolol")  # None is the whole formulary


def main(path: str, picture: str, drugs: tuple[str, ...] = DRUGS, k: int = 16) -> Plan:
    record = read_record(path)
    world = WorldModel.load()
    state = world.observe(record.ecg, record.patient)
    ranked = plan(world, state, FORMULARY.menu(drugs), RiskModel.load(), k=k, record=record.name)
    Console(width=120, markup=False).print(plan_table(ranked))
    plan_figure(ranked).savefig(picture, dpi=100)
    return ranked


if __name__ == "__main__":
    main(*sys.argv[1:3])
