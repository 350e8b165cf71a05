"""A bounded queue on disk for inputs that the remote did not answer in time, and for its late answers.

`outbox.py` is the public class, `sender.py` asks the remote again and delivers the answers, `store.py` is the SQLite
file, `file.py` opens it, `salvage.py` copies the rows of a damaged one, `packed.py` has the bytes in it, and `clock.py`
gives the age of a record even if the wall clock is wrong.
"""

from edgecascade.runtime.outbox.clock import Clock
from edgecascade.runtime.outbox.file import Cause
from edgecascade.runtime.outbox.outbox import Late, LateAnswers, Outbox, OutboxCounts

__all__ = ["Cause", "Clock", "Late", "LateAnswers", "Outbox", "OutboxCounts"]
