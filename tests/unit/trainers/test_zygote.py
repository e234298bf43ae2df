"""The trainers' process from outside: its protocol, its limits, and what becomes of children and their remains."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from fedfabric.aggregation import MemoryTensors, TensorFile, manifest_of, to_arrays, write_tensors

PLACE = {"job": "job-1", "number": 1, "member": "AMSP"}
LIMITS = {"memory_bytes": 1 << 30, "seconds": 30, "file_bytes": 64 << 20, "threads": 1}


@pytest.fixture
def task(room, trainers, examples, plan_file):
    """Runs a task over the linear plan, with functions of the plan replaced."""
    data = examples(room / "data", 60, 1)
    initialised = trainers.run("initialise", plan=plan_file(room / "plain.zip"), out=room / "out", seed=3)
    model = initialised["result"]["model"]

    def run(name, replaced=None, **fields):
        plan = plan_file(room / "plan.zip", **(replaced or {}))
        asked = {"plan": plan, "data": data, "model": model, "out": room / "out", "limits": LIMITS, **fields}
        if name == "train":
            asked.setdefault("round", PLACE)
        return trainers.run(name, **{key: value for key, value in asked.items() if value is not None})

    return run


def test_it_says_hello_with_the_layers_that_hold(trainers):
    assert trainers.hello["ready"] is True
    assert {"landlock", "seccomp"} <= set(trainers.hello["layers"])


def test_a_training_gives_samples_metrics_and_a_delta(task, room):
    answer = task("train")
    assert answer["ok"], answer
    result = answer["result"]
    assert result["samples"] == 45
    assert 0 < result["metrics"]["loss"] < 2
    assert result["seconds"] > 0
    with TensorFile(result["delta"]) as delta:
        assert list(delta.specs) == ["delta/0.bias", "delta/0.weight"]
        assert any(array.any() for array in to_arrays(delta).values())
    assert sorted(path.name for path in (room / "out").iterdir()) == [
        "delta.safetensors",
        "model.safetensors",
        "trainer.log",
    ]


def test_the_same_place_gives_the_same_bytes_and_another_place_others(task):
    def delta(**place):
        with TensorFile(task("train", round=PLACE | place)["result"]["delta"]) as file:
            return manifest_of(file).digest

    first = delta()
    assert delta() == first
    others = [delta(job="job-2"), delta(number=2), delta(member="BMSP"), delta(attempt=1)]
    assert len({first, *others}) == 5


def test_the_initial_model_follows_from_the_seed(trainers, room, plan_file):
    plan = plan_file(room / "p.zip")
    digests = [trainers.run("initialise", plan=plan, out=room / "out", seed=s)["result"]["digest"] for s in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_an_evaluation_gives_the_plans_metrics(task):
    answer = task("evaluate")
    assert answer["ok"], answer
    assert set(answer["result"]["metrics"]) == {"loss", "accuracy"}
    assert answer["result"]["samples"] == 15


def test_parameters_of_the_job_replace_the_plans(task):
    answer = task("evaluate", params={"holdout_fraction": 0.5})
    assert answer["result"]["samples"] == 30


def failing(statement):
    return {"load": f"def load(folder, params):\n    {statement}"}


@pytest.mark.parametrize(
    ("replaced", "code"),
    [
        (failing("raise ValueError('Jane Doe, born 1961')"), "PLAN_FAILED"),
        (failing("import sys; sys.exit(0)"), "PLAN_FAILED"),
        (failing("import os; os._exit(0)"), "PLAN_FAILED"),
        (failing("raise KeyboardInterrupt"), "PLAN_FAILED"),
        (failing("return None"), "PLAN_INVALID"),
        (failing("return Dataset([], [])"), "DATA_INVALID"),
        (failing("import ctypes; ctypes.string_at(1)"), "KILLED"),
        ({"model_fn": "def model_fn(params): return 7"}, "PLAN_INVALID"),
        ({"model_fn": "def model_fn(params): return torch.nn.Linear(9, 1)"}, "MODEL_MISMATCH"),
        ({"model_fn": "def model_fn(params): return torch.nn.Linear(4, 1).to(torch.bfloat16)"}, "MODEL_MISMATCH"),
        ({"client_optimizer_fn": "def client_optimizer_fn(parameters, params): return None"}, "PLAN_INVALID"),
        ({"loss_fn": "def loss_fn(a, b): return (a - b).sum() * float('inf')"}, "NOT_FINITE"),
        ({"loss_fn": "def loss_fn(a, b): return (a - b).sum() * 1e38"}, "NOT_FINITE"),
        ({"metrics": "metrics = 3"}, "PLAN_INVALID"),
        ({"top": "raise RuntimeError('at import')"}, "PLAN_FAILED"),
        ({"top": "while True: pass"}, "TIME_LIMIT"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value.values()).replace("\n", " ")[:70],
)
def test_a_plan_that_fails_is_a_clean_error_and_says_nothing_of_the_data(task, replaced, code):
    answer = task("train", replaced, limits=LIMITS | {"seconds": 1 if code == "TIME_LIMIT" else 30})
    assert answer["error"]["code"] == code, answer
    assert "Jane Doe" not in json.dumps(answer)
    assert task("train")["ok"]


def test_the_log_of_a_failure_stays_with_the_owner(task, room):
    task("train", failing("print('looked'); raise ValueError('Jane Doe')"))
    log = (room / "out" / "trainer.log").read_text()
    assert "ValueError: Jane Doe" in log


@pytest.mark.parametrize(
    ("returned", "code"),
    [
        ("{'loss': float('nan')}", "NOT_FINITE"),
        ("{'loss': float('inf')}", "NOT_FINITE"),
        ("{'a' * 65: 1.0}", "PLAN_FAILED"),
        ("{'a\\n': 1.0}", "PLAN_FAILED"),
        ("{'ä': 1.0}", "PLAN_FAILED"),
        ("{str(i): 1.0 for i in range(65)}", "PLAN_FAILED"),
        ("[1.0]", "PLAN_INVALID"),
        ("{'loss': 'x'}", "PLAN_FAILED"),
    ],
)
def test_bad_metrics_are_refused(task, returned, code):
    answer = task("evaluate", {"metrics": f"def metrics(model, holdout, params):\n    return {returned}"})
    assert answer["error"]["code"] == code, answer


FORGED = """
def load(folder, params):
    import os
    os.write(3, {answer!r})
    os._exit(0)
"""


@pytest.mark.parametrize(
    "answer",
    [
        b'{"ok": true, "result": {"samples": NaN, "metrics": {}, "seconds": 1}}',
        b'{"ok": true, "result": {"samples": 5, "metrics": {"loss": NaN}, "seconds": 1}}',
        b'{"ok": true, "result": {"samples": 5, "metrics": {"loss": 1' + b"0" * 400 + b'}, "seconds": 1}}',
        b'{"ok": true, "result": {"samples": -5, "metrics": {}, "seconds": 1}}',
        b'{"ok": true, "result": {"samples": 1e400, "metrics": {}, "seconds": 1}}',
        b'{"ok": true, "result": {"samples": 5, "metrics": {}, "seconds": 1, "delta": "/etc/passwd"}}',
        b'{"ok": true, "result": []}',
        b'{"ok": 1}',
        b"[]",
        b"[" * 100_000,
        b"\xff",
        b"",
    ],
)
def test_an_answer_that_a_plan_forged_is_checked(task, answer):
    found = task("train", {"load": FORGED.format(answer=answer)})
    assert found["ok"] is False
    assert found["error"]["code"] in {"PLAN_FAILED", "NOT_FINITE"}


def test_a_forged_reason_can_be_written_down(task):
    forged = b'{"ok": false, "error": {"code": "PLAN_\\ud800", "text": "\\udfff"}}'
    found = task("train", {"load": FORGED.format(answer=forged)})
    assert found["error"] == {"code": "PLAN_?", "text": "?"}


def test_a_forged_path_is_never_handed_on(task, room):
    good = {"ok": True, "result": {"samples": 5, "metrics": {}, "seconds": 1, "delta": "/etc/passwd"}}
    source = f"""
def load(folder, params):
    import os
    open({str(room / "out" / "delta.safetensors")!r}, "wb").close()
    os.write(3, {json.dumps(good).encode()!r})
    os._exit(0)
"""
    answer = task("train", {"load": source})
    assert answer["result"]["delta"] == str(room / "out" / "delta.safetensors")


def test_an_endless_answer_ends(task):
    source = "def load(folder, params):\n    import os\n    while True: os.write(3, b'x' * 65536)"
    assert task("train", {"load": source})["error"]["code"] == "PLAN_FAILED"


GREEDY = {
    "private memory": (
        "a = []\n    while True: a.append(bytearray(16 << 20))",
        {"memory_bytes": 700 << 20},
        "MEMORY_LIMIT",
    ),
    "tensors": (
        "a = []\n    while True: a.append(torch.ones(4 << 20))",
        {"memory_bytes": 700 << 20},
        "MEMORY_LIMIT",
    ),
    "one enormous tensor": ("torch.ones(1 << 40)", {}, "MEMORY_LIMIT"),
    "shared memory": (
        "import mmap\n    a = []\n    while True: a.append(mmap.mmap(-1, 64 << 20)); a[-1].write(bytes(64 << 20))",
        {"memory_bytes": 700 << 20},
        "MEMORY_LIMIT",
    ),
    "time": ("while True: pass", {"seconds": 0.5}, "TIME_LIMIT"),
    "sleep": ("import time\n    time.sleep(1000)", {"seconds": 0.5}, "TIME_LIMIT"),
    "one large file": (
        "import tempfile\n    f = tempfile.TemporaryFile(buffering=0)\n    while True: f.write(bytes(1 << 20))",
        {"file_bytes": 4 << 20},
        "FILE_LIMIT",
    ),
    "many files": (
        "import os, tempfile\n    while True: os.close(tempfile.mkstemp()[0])",
        {},
        "FILE_LIMIT",
    ),
    "a sparse file": (
        "import tempfile\n    tempfile.TemporaryFile().truncate(1 << 40)",
        {"file_bytes": 4 << 20},
        "FILE_LIMIT",
    ),
    "folders without end": (
        "import os, tempfile\n    os.chdir(tempfile.gettempdir())\n    while True: os.mkdir('d'); os.chdir('d')",
        {},
        "FILE_LIMIT",
    ),
    "threads": (
        (
            "import threading, time\n    threading.stack_size(1 << 16)\n"
            "    while True: threading.Thread(target=time.sleep, args=(99,)).start()"
        ),
        {},
        "THREAD_LIMIT",
    ),
    "printing": ("while True: print('x' * 65536, flush=True)", {"file_bytes": 4 << 20}, "FILE_LIMIT"),
}


@pytest.mark.parametrize("greed", GREEDY)
def test_limits_end_a_greedy_plan_and_nothing_else(task, room, greed):
    statement, limits, code = GREEDY[greed]
    answer = task("train", failing(statement), limits=LIMITS | limits)
    assert answer["error"]["code"] == code, answer
    assert not [path for path in (room / "out").iterdir() if path.is_dir()]
    assert task("train")["ok"]


def test_a_killed_child_is_a_clean_error(start_trainers, room, examples, plan_file):
    process = start_trainers()
    try:
        out = room / "out"
        plan = plan_file(room / "p.zip", **failing("import time; open('" + str(out / "up") + "', 'w'); time.sleep(60)"))
        data = examples(room / "data", 20, 1)
        write_tensors(room / "m", MemoryTensors({}))
        process.send(id="k", task="train", plan=plan, data=data, model=room / "m", out=out, round=PLACE, limits=LIMITS)
        children = await_children(process, out / "up")
        children[0].send_signal(signal.SIGKILL)
        answer = process.receive()
        assert answer == {
            "id": "k",
            "ok": False,
            "error": {"code": "KILLED", "text": "the trainer was ended by SIGKILL"},
        }
        assert process.run("initialise", plan=plan_file(room / "q.zip"), out=out)["ok"]
    finally:
        assert process.close() == 0


def await_children(process, sign):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if sign.exists():
            return psutil.Process(process.process.pid).children(recursive=True)
        os.sched_yield()
    raise TimeoutError("the child did not start")


@pytest.mark.parametrize("way", ["its gateway leaves", "it is killed"])
@pytest.mark.parametrize("layer", ["layer 1", "all layers"])
def test_no_child_outlives_the_trainers_process(start_trainers, workspace, room, plan_file, way, layer):
    process = start_trainers(workspace if layer == "all layers" else None)
    out = room / "out"
    source = "import time; open('" + str(out / "up") + "', 'w'); time.sleep(60)"
    process.send(id="k", task="initialise", plan=plan_file(room / "p.zip", top=source), out=out, limits=LIMITS)
    children = await_children(process, out / "up")
    assert children
    if way == "it is killed":
        process.process.kill()
    process.close()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_a_task_can_be_cancelled(trainers, room, plan_file):
    plan = plan_file(room / "p.zip", top="while True: pass")
    trainers.send(id="long", task="initialise", plan=plan, out=room / "out", limits=LIMITS)
    trainers.send(id="stop", cancel="long")
    answers = {answer["id"]: answer for answer in (trainers.receive(), trainers.receive())}
    assert answers["stop"]["ok"] is True
    assert answers["long"]["error"]["code"] == "CANCELLED"
    trainers.send(id="stop", cancel="long")
    assert trainers.receive()["error"]["code"] == "BAD_REQUEST"


def test_tasks_run_side_by_side(trainers, room, plan_file):
    slow = plan_file(room / "slow.zip", top="import time; time.sleep(1)")
    quick = plan_file(room / "quick.zip")
    (room / "other").mkdir()
    trainers.send(id="slow", task="initialise", plan=slow, out=room / "out")
    trainers.send(id="quick", task="initialise", plan=quick, out=room / "other")
    assert [trainers.receive()["id"], trainers.receive()["id"]] == ["quick", "slow"]


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[]",
        b"{}",
        b'{"id": 7}',
        b'{"id": ""}',
        b'{"id": "' + b"x" * 65 + b'"}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"id": "x", "task": "format"}',
        b'{"id": "x", "task": "train"}',
        b'{"id": "x", "task": ["train"]}',
        b'{"id": "x", "cancel": {}}',
    ],
)
def test_malformed_requests_are_answered_and_change_nothing(trainers, line):
    trainers.file.write(line + b"\n")
    trainers.file.flush()
    answer = trainers.receive()
    assert answer["ok"] is False
    assert answer["error"]["code"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    "changes",
    [
        {"plan": "relative.zip"},
        {"plan": "/no/such/file"},
        {"plan": "/etc/passwd"},
        {"plan": 7},
        {"plan": "/a\0b"},
        {"data": "/proc"},
        {"out": "/"},
        {"out": None},
        {"round": None},
        {"round": {}},
        {"round": {"job": "j", "member": "m", "number": 0}},
        {"round": {"job": "", "member": "m"}},
        {"round": {"job": "j", "member": "m", "extra": 1}},
        {"params": []},
        {"params": {"a": {}}},
        {"limits": []},
        {"limits": {"seconds": 0}},
        {"limits": {"seconds": "1"}},
        {"limits": {"memory_bytes": -1}},
        {"limits": {"threads": 1e3}},
        {"limits": {"cores": 1}},
        {"foreign": "no"},
        {"seed": -1},
        {"secret": "x"},
    ],
    ids=str,
)
def test_bad_fields_are_named(task, changes):
    answer = task("train", **changes)
    if changes == {"round": None}:
        assert answer["error"]["text"] == "train needs round"
    assert answer["error"]["code"] == "BAD_REQUEST"


def test_paths_that_climb_out_of_the_workspace_are_refused(task, room, tmp_path):
    (room / "link").symlink_to(tmp_path)
    for path in (tmp_path, room / ".." / ".." / "..", room / "link"):
        answer = task("train", data=path)
        assert answer["error"]["code"] == "BAD_REQUEST", path


def test_hostile_files_given_as_model_are_clean_errors(task, room):
    for name, data in (("cut", bytes(5)), ("text", b"not a model at all"), ("huge", (2**62).to_bytes(8, "little"))):
        (room / name).write_bytes(data)
        assert task("train", model=room / name)["error"]["code"] == "MODEL_MISMATCH"


def test_a_bundle_that_is_not_canonical_is_refused(task, room):
    (room / "bad.zip").write_bytes((room / "plain.zip").read_bytes() + b"x")
    assert task("train", plan=room / "bad.zip")["error"]["code"] == "PLAN_INVALID"


def test_it_refuses_to_run_without_its_descriptor(tmp_path):
    result = subprocess.run(
        [sys.executable, "-I", "-m", "fedfabric.trainers.zygote"], capture_output=True, text=True, env={}, check=False
    )
    assert result.returncode == 2
    assert "descriptor 3" in result.stderr


def test_its_environment_and_arguments_hold_nothing_of_the_gateways(trainers):
    for process in [psutil.Process(trainers.process.pid), *psutil.Process(trainers.process.pid).children(True)]:
        assert set(process.environ()) <= {
            "FEDFABRIC_ZYGOTE",
            "FEDFABRIC_BUBBLEWRAP",
            "PYTHONHASHSEED",
            "CUDA_VISIBLE_DEVICES",
            "LC_ALL",
            "LC_CTYPE",
            "OMP_WAIT_POLICY",
            "PWD",
        }
