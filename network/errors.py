"""What can go wrong with a network, and what to do about it.

NetworkError
├── ProgramsError          Fabric's programs can be neither found nor built
├── EngineError            no Docker engine answers
├── SpecificationError     network.yaml is malformed or contradicts itself
├── StateError             the network's folder is stale, foreign or in use
├── PortError              a port that the network needs is taken
├── ProcessError           a process died or did not become ready
├── ReadinessError         everything runs, yet no transaction gets through
└── OnboardingError        an organisation could not be added; `undone` says whether the channel is as before
"""


class NetworkError(Exception):
    """Base of this room's errors; its text says what is wrong, where, and what to do."""


class ProgramsError(NetworkError):
    """Fabric's programs can be neither found nor built."""


class EngineError(NetworkError):
    """No Docker engine answers."""


class SpecificationError(NetworkError):
    """A network's description is malformed or contradicts itself."""


class StateError(NetworkError):
    """The network's folder does not belong to this network, or cannot be used."""


class PortError(NetworkError):
    """A port that the network needs is taken by another process."""


class ProcessError(NetworkError):
    """A process of the network died or did not become ready in time."""


class ReadinessError(NetworkError):
    """All processes run, yet no transaction was committed in time."""


class OnboardingError(NetworkError):
    """An organisation could not be added.

    Attributes:
        undone: whether the channel's configuration is as it was before; if not, `network up` tries again.
    """

    undone = True
