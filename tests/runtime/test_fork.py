"""A cascade raises an error in a forked child, which has no threads, and keeps working in the parent."""

import subprocess
import sys
from pathlib import Path

from task_files import twice_file

SCRIPT = """
import os, sys
import numpy as np
from edgecascade.runtime import Cascade, ForkedError, Outbox

x = np.array([5, 0, 0], np.float32)
with Cascade.load(sys.argv[1], remote=lambda x: x, outbox=Outbox(sys.argv[2])) as cascade:
    cascade.predict(x)
    child = os.fork()
    if child == 0:
        for ask in (lambda: cascade.predict(x), lambda: cascade.predict_batch(x[None]), lambda: cascade.predict(x * 0)):
            try:
                ask()
            except ForkedError as error:
                print(error)
        with Cascade.load(sys.argv[1]) as own:
            print(own.predict(x).name)
        cascade.close()
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    print(cascade.predict(x).name, cascade.predict(x * 0).reason.value)
"""


def test_every_call_in_a_forked_child_raises_one_error(file: Path, tmp_path: Path) -> None:
    """A cascade loaded in the child works, and the parent's is not affected."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(file), str(tmp_path / "outbox")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    *told, own, parents = ran.stdout.splitlines()
    assert len(told) == 3
    assert all(one.startswith("cascade: ") and "fork" in one for one in told)
    assert (own, parents) == ("red", "red offloaded")


TASK = """
import os, sys
import numpy as np
from edgecascade.runtime import Cascade, ForkedError

x = np.array([2, 0, 0], np.float32)
with Cascade.load(sys.argv[1], remote=lambda x: {"tripled": 3 * x}, decode=dict, deadline=10.0) as cascade:
    cascade.predict(-x)
    child = os.fork()
    if child == 0:
        for ask in (cascade.predict, lambda one: cascade.predict_batch(one[None])):
            try:
                ask(x)
            except ForkedError as error:
                print(error)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    print(sorted(cascade.predict(x).result), cascade.predict(-x).reason.value)
"""


def test_a_general_task_raises_the_same_error_in_a_forked_child(tmp_path: Path) -> None:
    """The parent goes on, with its outputs and its remote."""
    ran = subprocess.run(
        [sys.executable, "-c", TASK, str(twice_file(tmp_path))], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    *told, parents = ran.stdout.splitlines()
    assert len(told) == 2
    assert all(one.startswith("cascade: ") and "fork" in one for one in told)
    assert parents == "['quality', 'twice'] offloaded"
