"""The contract ``training``: jobs from submission to their end, and their rounds."""

from .jobs import JobTransactions
from .rounds import RoundTransactions


class TrainingContract(JobTransactions, RoundTransactions):
    """Transactions of jobs and of rounds under one name."""

    name = "training"
