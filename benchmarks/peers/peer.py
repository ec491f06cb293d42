# SPDX-License-Identifier: Apache-2.0
"""What the scripts that measure peers share: a scratch folder, and reports without names or paths."""
import dataclasses
import datetime
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import venv


@dataclasses.dataclass(frozen=True)
class Shape:
    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int = 49152
    head_dim: int = 64


# The dense shapes of SmolLM.
SHAPES = {"135M": Shape(576, 30, 1536, 9, 3), "360M": Shape(960, 32, 2560, 15, 5)}
ROPE_THETA, NORM_EPSILON = 10000.0, 1e-5

PROMPT = 512  # tokens of a prefill
BATCH, SEQUENCE = 4, 256  # tokens of an update
SCRATCH = pathlib.Path(tempfile.gettempdir()) / "mor_peers"


def run(*command, **options):
    """Stops with the command's own words when it fails; returns what it printed."""
    done = subprocess.run(
        [str(word) for word in command], text=True, capture_output=True, check=False, **options
    )
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


def virtual_environment(folder, *packages):
    """The interpreter of a virtual environment with the newest packages; made once."""
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        print(f"installing {' '.join(packages)}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        run(python, "-m", "pip", "install", "--quiet", "--no-cache-dir", *packages)
        complete.touch()
    return python


def clean_environment():
    """The environment less what steers BLAS and OpenMP, which would choose slow kernels or threads."""
    steers = ("OPENBLAS_", "OMP_", "MKL_", "KMP_", "GOMP_", "DNNL_", "ONEDNN_")
    return {name: value for name, value in os.environ.items() if not name.startswith(steers)}


def machine():
    cpu = "unknown"
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            cpu = value.strip()
            break
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
    }


def commit(root):
    """Of the library, with a mark if its sources differ from it."""
    name = run("git", "-C", root, "rev-parse", "--short", "HEAD").strip()
    sources = ("include", "benchmarks/*.[ch]pp")
    return name + ("-dirty" if run("git", "-C", root, "status", "--porcelain", "--", *sources) else "")


def peak_bytes():
    """The most memory that this process had resident."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def rates(values):
    """Tokens a second: the median, and each measurement."""
    return {"median": round(statistics.median(values), 2), "all": [round(value, 2) for value in values]}


def write(report, path):
    text = json.dumps(report, indent=1) + "\n"
    if path:
        pathlib.Path(path).write_text(text, encoding="utf-8")
    else:
        print(text, end="")
