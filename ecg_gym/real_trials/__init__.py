"""Real ECGs before and after a drug: the FDA trials as released, anybody's ``pairs.csv``, hospital episodes; as shards.

from ecg_gym.real_trials import read_trial, trajectories_of, write_shards

table = read_trial("ecgrdvq", "ecgrdvq/1.0.0")
trajectories, left_out = trajectories_of(table)
write_shards(trajectories, dict.fromkeys(table.subjects, "train"), Path("data/fda"))
"""

from ecg_gym.real_trials.data_check import check_release
from ecg_gym.real_trials.fda import read_trial, releases
from ecg_gym.real_trials.manifest import RealTrial, is_real, read_manifest, read_real
from ecg_gym.real_trials.pairs_csv import check_pairs, read_pairs, write_pairs
from ecg_gym.real_trials.profiles import profile_named, profiles, sides_of
from ecg_gym.real_trials.shards import write_shards
from ecg_gym.real_trials.table import TrialTable
from ecg_gym.real_trials.trajectories import Trajectory, pairs_of, trajectories_of

__all__ = [
    "RealTrial",
    "Trajectory",
    "TrialTable",
    "check_pairs",
    "check_release",
    "is_real",
    "pairs_of",
    "profile_named",
    "profiles",
    "read_manifest",
    "read_pairs",
    "read_real",
    "read_trial",
    "releases",
    "sides_of",
    "trajectories_of",
    "write_pairs",
    "write_shards",
]
