"""A trainers' process that does as the task's name says: what a real one may do at its worst."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:  # noqa: C901 - a case for each way to behave
    channel = socket.socket(fileno=3)
    workspace = sys.argv[sys.argv.index("--workspace") + 1]
    file = channel.makefile("rwb")

    def say(message: object) -> None:
        file.write(json.dumps(message).encode() + b"\n" if not isinstance(message, bytes) else message)
        file.flush()

    say({"id": "", "ready": True, "layers": [], "torch": "none"})
    for line in file:
        request = json.loads(line)
        name = request["id"]
        match request.get("task"):
            case None:
                say({"id": request["cancel"], "ok": False, "error": {"code": "CANCELLED", "text": ""}})
            case "echo":
                say({"id": name, "ok": True, "result": {**request, "environment": dict(os.environ)}})
            case "workspace":
                say({"id": name, "ok": True, "result": {"workspace": workspace, "nice": os.nice(0)}})
            case "descriptors":
                found = sorted(
                    f"{one.name} {one.readlink()}" for one in Path("/proc/self/fd").iterdir() if one.is_symlink()
                )
                say({"id": name, "ok": True, "result": {"descriptors": found}})
            case "fail":
                say({"id": name, "ok": False, "error": {"code": "PLAN_FAILED", "text": "as told"}})
            case "nonsense":
                say(b"no json\n")
            case "no object":
                say([name])
            case "deep":
                say(b"[" * 100_000 + b"\n")
            case "no reason":
                say({"id": name, "ok": False})
            case "die":
                os._exit(1)
            case "child and die":
                subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
                os._exit(1)
            case "endless line":
                say(b"x" * (2 << 20))
            case "hang":
                time.sleep(60)
            case "silent":
                continue


if __name__ == "__main__":
    main()
