# SPDX-License-Identifier: Apache-2.0
"""Where the time of a pass goes, and how much of it each operation's roofline explains: the dense model
of 135M parameters, whose sizes say what each operation has to do."""
from performance.reports import entries, load, table

HIDDEN, INTERMEDIATE, LAYERS, VOCABULARY, KEYS = 576, 1536, 30, 49152, 192
LAYER = HIDDEN * (2 * HIDDEN + 2 * KEYS + 3 * INTERMEDIATE)  # weights
FLOAT = 4  # bytes


def forward(rows, pairs, head_rows):
    """Operations, bytes of memory and bytes of cache of a forward pass."""
    row = FLOAT * rows * LAYERS
    return {
        "products": (2 * (rows * LAYERS * LAYER + head_rows * HIDDEN * VOCABULARY), 0, 0),
        "attention": (4 * pairs * HIDDEN * LAYERS, 0, 0),
        "norms": (0, 0, row * 2 * 2 * HIDDEN),
        "rope": (0, 0, row * 2 * (HIDDEN + KEYS)),
        "swiglu": (0, 0, row * 3 * INTERMEDIATE),
    }


def training(rows, length):
    """The same of an update; every gradient costs what the value did, a product's twice."""
    pairs = rows * (length + 1) / 2
    once = forward(rows, pairs, rows)
    twice = {name: tuple(2 * part for part in parts) for name, parts in once.items()}
    parameters = LAYERS * LAYER + HIDDEN * VOCABULARY
    twice["products"] = (3 * once["products"][0], 0, 0)
    twice["attention"] = (3 * once["attention"][0], 0, 0)
    twice["cross-entropy"] = (0, 2 * FLOAT * rows * VOCABULARY, 0)
    twice["optimiser"] = (0, 8 * FLOAT * parameters, 0)  # with the norm of the gradient
    return twice


def decoding(sequences, length):
    """One token for each sequence, after `length`: keys and values are read once; of products, the weights
    where there is one sequence, while the operations take longer where there are many."""
    work = forward(sequences, 0, sequences)
    work["attention"] = (0, FLOAT * sequences * (length + 1) * 2 * KEYS * LAYERS, 0)
    if sequences == 1:
        work["products"] = (0, FLOAT * (LAYERS * LAYER + HIDDEN * VOCABULARY), 0)
    return work


CASES = (  # what it is, the profile, the report, whose entry, the work
    ("prefill of 512 tokens", "prefill", "prefill", "dense/135M", forward(512, 512 * 513 / 2, 1)),
    ("decoding one sequence", "decode", "decode", "dense/batch:1/", decoding(1, 84)),
    ("decoding 32 sequences", "decode_32", "decode", "dense/batch:32/", decoding(32, 84)),
    ("training on 4 x 256 tokens", "train_step", "train_step", "dense/", training(1024, 256)),
)


def profile(profiled, report, prefix, work):
    entry = next(e for name, e in entries(report).items() if name.startswith(prefix))
    threads = report["context"]["hardware_threads"]
    limit = lambda what: 1e9 * float(report["context"][f"roofline_{threads}_threads_{what}"])
    seconds = entry["real_time"] / 1e3
    shares = {name: share for name, share in profiled["shares"].items() if name not in profiled["not_of_the_pass"]}
    total = sum(shares.values())
    rows = []
    for name, share in shares.items():
        taken = seconds * share / total
        if share / total < 0.005:
            continue
        of_roofline = ""
        if name in work:
            flops, memory, cache = work[name]
            least = flops / limit("gflops") + memory / limit("memory_gbytes") + cache / limit("l2_gbytes")
            of_roofline = f"{100 * least / taken:.0f} %"
        rows.append([name, f"{100 * share / total:.1f} %", f"{1e3 * taken:.1f}", of_roofline])
    return table(["operation", "of the time", "milliseconds", "of its roofline"], rows)


def profiles(root):
    parts = []
    for title, profiled, report, prefix, work in CASES:
        found = load(root, f"profile_{profiled}")
        made = profile(found, load(root, report), prefix, work)
        parts.append(f"{title[0].upper()}{title[1:]}, {found['command']}:\n\n{made}")
    return "\n\n".join(parts)
