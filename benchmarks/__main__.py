"""The benchmarks: `python -m fedfabric.benchmarks NAME…`, or `all`.

Each is a module of this folder, named in BENCHMARKS, with a function `run() -> Report`. Its figures are printed as a
table and written to `build/bench/NAME.json`. A goal that is missed is printed as missed; it is no failure of the run.
"""

import argparse
import importlib
import sys
from pathlib import Path

from rich.console import Console

BENCHMARKS = ("bringup", "throughput", "shim", "round", "aggregation", "job")


def names() -> list[str]:
    """The benchmarks of this folder."""
    return [name for name in BENCHMARKS if (Path(__file__).parent / f"{name}.py").exists()]


def main(arguments: list[str]) -> int:
    """Run the benchmarks named; 1 if one could not be run."""
    parser = argparse.ArgumentParser(prog="python -m fedfabric.benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="+", metavar="NAME", choices=[*names(), "all"], help=", ".join([*names(), "all"])
    )
    chosen = parser.parse_args(arguments).names
    console = Console(width=None if sys.stdout.isatty() else 120)
    failed = []
    for name in names() if "all" in chosen else chosen:
        try:
            report = importlib.import_module(f"{__spec__.parent}.{name}").run()
        except Exception:
            console.print_exception()
            failed.append(name)
            continue
        report.show(console)
        console.print(f"  written to {report.write()}\n", highlight=False)
    if failed:
        console.print(f"not run to the end: {', '.join(failed)}", style="red")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
