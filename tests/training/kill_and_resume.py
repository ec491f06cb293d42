#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills a training run with SIGKILL, again and again and also while it saves, lets it resume each
time, and compares its weights with those of a run that was never interrupted: byte for byte.

usage: kill_and_resume.py RESUMABLE_RUN [SEED]
"""
import filecmp
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

STEPS = 120
ROUNDS = 4
KILLS_A_ROUND = 4
LONGEST_DELAY = 0.02  # seconds after the line that was waited for
LONGEST_WAIT = 8  # steps


def fail(message):
    sys.exit(f"kill_and_resume: FAILED: {message}")


def write_text(path):
    letters = random.Random(1)
    words = ["".join(letters.choices("abcdefghij", k=letters.randint(1, 8))) for _ in range(200)]
    path.write_text(" ".join(letters.choice(words) for _ in range(5000)))


class Run:
    """The program with one directory for its checkpoints and one for its result."""

    def __init__(self, program, text, directory):
        self.checkpoints = directory / "checkpoints"
        self.result = directory / "result"
        self.command = [program, text, self.checkpoints, str(STEPS), self.result]

    def weights(self):
        return self.result / "model.safetensors"

    def finish(self):
        """Runs to the end. Returns the step it began with."""
        done = subprocess.run(self.command, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            fail(f"exit status {done.returncode}: {done.stderr.strip()}")
        if not self.weights().is_file():
            fail(f"{self.weights()} was not written")
        return int(done.stdout.split()[1])

    def kill(self, steps_to_wait, saving, delay):
        """Starts, waits for so many steps and perhaps for the next saving, then kills. Returns
        the steps that the run began and ended with."""
        process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        begin = last = None
        for line in process.stdout:
            word, number = line.split()
            if word == "begin":
                begin = int(number)
            elif word == "step":
                last = int(number)
            if begin is not None and (last or begin) >= begin + steps_to_wait:
                if word == "saving" or not saving:
                    break
        time.sleep(delay)
        process.kill()
        _, errors = process.communicate(timeout=60)
        if process.returncode != -signal.SIGKILL or self.weights().exists():
            fail(f"the kill came too late: the run ended with status {process.returncode} after "
                 f"step {last}: {errors.strip()}")
        return begin, last


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    program = pathlib.Path(sys.argv[1]).resolve()
    seed = int(sys.argv[2]) if len(sys.argv) == 3 else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", flush=True)
    moments = random.Random(seed)

    with tempfile.TemporaryDirectory(prefix="mor-kill-") as name:
        root = pathlib.Path(name)
        text = root / "text"
        write_text(text)
        whole = Run(program, text, root / "whole")
        whole.checkpoints.mkdir(parents=True)
        if whole.finish() != 0:
            fail("the uninterrupted run did not begin at step 0")

        resumed = 0
        half_saved = 0
        for number in range(ROUNDS):
            run = Run(program, text, root / f"killed-{number}")
            run.checkpoints.mkdir(parents=True)
            for kill in range(KILLS_A_ROUND):
                begin, last = run.kill(moments.randint(1, LONGEST_WAIT),
                                       saving=kill % 2 == 1,
                                       delay=moments.uniform(0, LONGEST_DELAY))
                left = [path.name for path in run.checkpoints.iterdir() if "." in path.name]
                resumed += begin > 0
                half_saved += any(".partial" in path for path in left)
                print(f"round {number}: from step {begin}, killed after step {last}, "
                      f"left behind: {left}", flush=True)
            begin = run.finish()
            resumed += begin > 0
            print(f"round {number}: from step {begin} to the end", flush=True)
            if not filecmp.cmp(run.weights(), whole.weights(), shallow=False):
                fail(f"round {number}: the weights differ from those of the uninterrupted run")
        if resumed < ROUNDS:
            fail(f"only {resumed} runs were resumed from a checkpoint: nothing was tested")
        print(f"{ROUNDS * KILLS_A_ROUND} kills, {half_saved} of them while a checkpoint was being "
              f"written; {resumed} resumptions; all weights are equal")


if __name__ == "__main__":
    main()
