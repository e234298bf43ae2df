"""The `job` benchmark's work in Flower's simulation, written with Flower's own FedAvg. Runs in Flower's environment.

Run as a program: FOLDER (of `digits.deal`), CPUs of a client, ROUNDS, file for the final model. Prints the seconds of
each round as JSON on the last line.
"""

import itertools
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from fedfabric.benchmarks.job_work import evaluate, initial_model, plan, train
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

FOLDER = Path(os.environ["BENCH_FOLDER"])
client = ClientApp()


def _member(context: Context) -> Path:
    return sorted(FOLDER.iterdir())[int(context.node_config["partition-id"])]


def _model(message: Message) -> torch.nn.Module:
    model = plan().model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return model


@client.train()
def train_member(message: Message, context: Context) -> Message:
    """One member's local training."""
    torch.set_num_threads(int(os.environ["BENCH_CPUS"]))
    model = _model(message)
    count, loss = train(model, _member(context), int(message.content["config"]["server-round"]))
    metrics = MetricRecord({"num-examples": count, "loss": loss})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


@client.evaluate()
def evaluate_member(message: Message, context: Context) -> Message:
    """One member's evaluation of the global model."""
    torch.set_num_threads(int(os.environ["BENCH_CPUS"]))
    count, found = evaluate(_model(message), _member(context))
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": count, **found})}), reply_to=message)


def main(cpus: int, rounds: int, out: Path) -> None:
    """Run the simulation and report."""
    server = ServerApp()
    stamps: list[float] = []
    final = {}

    @server.main()
    def serve(grid: Grid, context: Context) -> None:  # noqa: ARG001
        members = len(list(FOLDER.iterdir()))
        strategy = FedAvg(
            fraction_train=1.0,
            fraction_evaluate=1.0,
            min_train_nodes=members,
            min_evaluate_nodes=members,
            min_available_nodes=members,
        )

        def stamp(number: int, arrays: ArrayRecord) -> None:  # noqa: ARG001  called before the first and after each
            stamps.append(time.perf_counter())

        result = strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(initial_model().state_dict()),
            num_rounds=rounds,
            evaluate_fn=stamp,
        )
        final["arrays"] = result.arrays.to_torch_state_dict()
        final["accuracy"] = float(result.evaluate_metrics_clientapp[rounds]["accuracy"])

    members = len(list(FOLDER.iterdir()))
    backend = {"client_resources": {"num_cpus": cpus, "num_gpus": 0.0}}
    run_simulation(server_app=server, client_app=client, num_supernodes=members, backend_config=backend)
    np.savez(out, **{name: value.numpy() for name, value in final["arrays"].items()})
    seconds = [after - before for before, after in itertools.pairwise(stamps)]
    print(json.dumps({"rounds": seconds, "accuracy": final["accuracy"]}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
