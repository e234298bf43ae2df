"""PyTorch local training, federated processes and the sandbox that a plan runs in. No chain, no network."""
