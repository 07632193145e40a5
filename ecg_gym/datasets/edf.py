"""EDF and BDF: a ``Source`` through pyedflib (``pip install 'ecg-gym[files]'``). The only file that knows pyedflib."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from ecg_gym.datasets.channels import Channel, Source

MISSING = "reading {kind} needs {package}; expected it to be installed; run pip install 'ecg-gym[files]'"


def read_edf(path: Path) -> Source:
    """All signals of an EDF or BDF file, each at its own rate and in its own unit.

    Raises ImportError without pyedflib, ValueError for a file that it cannot read.
    """
    try:
        import pyedflib
    except ImportError as error:
        raise ImportError(MISSING.format(kind="EDF", package="pyedflib")) from error
    try:
        with pyedflib.EdfReader(str(path)) as file:
            channels = tuple(
                Channel(
                    file.getLabel(i).strip(),
                    file.readSignal(i),
                    file.getPhysicalDimension(i).strip() or None,
                    float(file.getSampleFrequency(i)),
                )
                for i in range(file.signals_in_file)
            )
            sex, birth, start = file.getSex(), file.getBirthdate(string=False), file.getStartdatetime()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({' '.join(str(error).split())}); expected an EDF or BDF file; copy it again or "
            "export it once more"
        ) from error
    age = ""
    if isinstance(birth, datetime):
        age = str(start.year - birth.year - ((start.month, start.day) < (birth.month, birth.day)))
    return Source(path.stem, str(path), channels, age, sex or "")
