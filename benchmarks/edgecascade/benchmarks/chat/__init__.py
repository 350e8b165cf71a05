"""What two chat endpoints save and cost as a cascade, beside other ways to choose between them, on the same replies.

Read `measure.py` first.
"""

from edgecascade.benchmarks.chat.measure import ChatComparison, measure_chat
from edgecascade.benchmarks.chat.report import chat_report, chat_summary
from edgecascade.benchmarks.chat.rows import ChatRows, chat_rows

__all__ = ["ChatComparison", "ChatRows", "chat_report", "chat_rows", "chat_summary", "measure_chat"]
