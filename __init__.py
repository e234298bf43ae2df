"""Federated learning between organisations under the rules of a Hyperledger Fabric ledger that they run together.

Rooms: ``fabric`` (Hyperledger Fabric for Python), ``aggregation`` (exact sums of model updates), ``trainers``
(PyTorch), ``chaincode`` (the ledger's contracts), ``network`` (brings Fabric networks up), ``gateway`` (one server per
organisation), ``audit`` (the verifier) and ``console`` (the ``fedfabric`` command).
"""

__version__ = "0.1.0"
