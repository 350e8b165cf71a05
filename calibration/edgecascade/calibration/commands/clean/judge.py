"""`edgecascade clean judge`: what the verdicts of a person prove about the labels that nobody looked at."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import Any

from edgecascade.calibration.cleaning import Judgement, Precision, Verdict, judge
from edgecascade.calibration.cleaning.count import percent_down, percent_up, percent_with_ends
from edgecascade.calibration.commands.arguments import share
from edgecascade.calibration.commands.clean.suspects_file import SuspectsFile, new_files, read_suspects
from edgecascade.calibration.commands.clean.verdicts_file import Verdicts, read_verdicts
from edgecascade.types.estimate import Estimate

__all__ = ["configure", "execute", "judgement_of", "unjudged_sentences"]

_WORDS = {
    Verdict.GIVEN: "given label right",
    Verdict.SUGGESTED: "suggested label right",
    Verdict.OTHER: "neither right",
    Verdict.BOTH: "both right",
    Verdict.CANNOT_TELL: "cannot tell",
}
_MISTAKES = 3  # pairs of classes that are printed
_ROUNDING = 1e-6


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "example:\n"
        "  edgecascade clean judge suspects.parquet verdicts.csv --precision 0.7\n\n"
        "Rows without a verdict and `cannot tell` count against every claim; `both are right` is no error. A\n"
        "precision must be chosen before the verdicts are seen."
    )
    parser.add_argument("suspects", metavar="SUSPECTS", help="What `find` wrote.")
    text = "Verdicts of one audit: .csv of the review page, .json of Label Studio or Argilla."
    parser.add_argument("verdicts", metavar="VERDICTS", help=text)
    text = "Also name the largest set of most suspect rows of which at least this share is proved to be wrong; from an "
    text += "audit of the flagged rows."
    parser.add_argument("--precision", type=share, metavar="P", help=text)
    parser.add_argument("--json", metavar="FILE", help="Write the figures as JSON to FILE, or - for standard output.")


def execute(arguments: Namespace) -> int:
    """Judge, then print and write."""
    new = [] if arguments.json in (None, "-") else [arguments.json]
    with new_files(*new):
        file = read_suspects(arguments.suspects)
        verdicts = read_verdicts(arguments.verdicts, file)
        found = judgement_of(file, verdicts)
        tested = arguments.precision is not None and found.design == "flagged"
        largest = found.largest_flagged(arguments.precision) if tested else None
        document = json.dumps(_document(file, verdicts, found, largest), allow_nan=False, indent=1)
        if new:
            Path(arguments.json).write_text(document + "\n", encoding="utf-8")
    print(document if arguments.json == "-" else "\n".join(_lines(file, verdicts, found, largest, arguments.precision)))
    return 0


def judgement_of(file: SuspectsFile, verdicts: Verdicts) -> Judgement:
    """Return what verdicts prove about suspects."""
    return judge(file.suspects, verdicts.drawn.audit, verdicts.judged.values())


def unjudged_sentences(file: SuspectsFile, found: Sequence[Verdicts]) -> Iterator[str]:
    """Yield what the first audit of flagged rows proves about all of them, and about those that were not judged.

    The last sentence is about their suggested labels.
    """
    ordered = sorted(found, key=lambda one: one.drawn.audit.design != "flagged")
    first = next((one for one in (judgement_of(file, verdicts) for verdicts in ordered) if one.precision), None)
    if first is None or first.precision is None or first.suggested_right is None:
        yield "no flagged row was judged, so nothing is known of how many of their labels are wrong"
        return
    proved = first.precision
    said = {row: Verdict(one.verdict) for verdicts in found for row, one in verdicts.judged.items()}
    flagged = file.suspects.row[file.suspects.flagged].tolist()
    unjudged = sum(row not in said for row in flagged)
    if not unjudged:
        yield "every flagged row was judged"
        return
    no_error = (Verdict.GIVEN, Verdict.BOTH)
    judged_wrong = sum(row in said and said[row] not in no_error for row in flagged)  # or undecided, which may be wrong
    least = max(0, round(proved.bound * proved.flagged) - judged_wrong)
    yield f"{proved}; up to {unjudged - least} of the {unjudged} that were not judged may be right as they are"
    not_right = (Verdict.GIVEN, Verdict.OTHER)
    judged_right = sum(row in said and said[row] not in not_right for row in flagged)
    least = max(0, ceil(first.suggested_right.low * proved.flagged - _ROUNDING) - judged_right)
    yield f"up to {unjudged - least} of the {unjudged} may get a wrong label, as the suggested one may be wrong"


def _lines(
    file: SuspectsFile, verdicts: Verdicts, found: Judgement, largest: Precision | None, precision: float | None
) -> Iterator[str]:
    among = "the flagged rows" if found.design == "flagged" else "all rows"
    skipped = f", {found.skipped} of them skipped" if found.skipped else ""
    counts = ", ".join(f"{found.verdicts[one]} {_WORDS[one]}" for one in Verdict if found.verdicts.get(one))
    yield (
        f"audit      {found.judged} of {found.drawn} rows judged{skipped}, drawn from {among} "
        f"(seed {verdicts.drawn.audit.seed})"
    )
    yield f"verdicts   {counts}"
    if found.wrong is not None:
        n = file.suspects.n
        share = percent_with_ends(_share(found.wrong, n), 2)
        if found.judged == n:
            yield f"wrong      {_count(found.wrong)} of all {n} labels: {share}"
        else:
            yield f"wrong      {_count(found.wrong)} of all {n} labels, with 95 % intervals: {share}"
            yield "           the upper end allows for wrong labels that look right to every expert"
        if (some := found.wrong_flagged) is not None and found.precision is not None:
            counts = f"{_count(some)} are wrong; of {some.n} that were judged, {found.precision.wrong} are"
            yield f"flagged    of the {int(file.suspects.flagged.sum())} flagged labels alone, {counts}"
    elif found.precision is not None:
        yield f"flagged    {found.precision}"
    if found.suggested_right is not None:
        yield f"suggested  right for {percent_with_ends(found.suggested_right)} of the flagged rows"
    if largest is not None:
        share = f"{100 * largest.bound:g} % wrong labels"
        sure = "" if largest.judged == largest.flagged else " (95 % confidence)"
        yield f"set        the {largest.flagged} most suspect rows have at least {share}{sure}"
    elif precision is not None and found.design != "flagged":
        yield "set        none is named: --precision needs an audit of the flagged rows, and this one is of all rows"
    elif precision is not None:
        yield f"set        no set of most suspect rows is proved to have {100 * precision:g} % wrong labels or more"
    for one in found.mistakes[:_MISTAKES]:
        share = f"{percent_with_ends(one.share)} of the wrong labels ({one.judged} of {one.share.n})"
        yield f"mistaken   {file.name(one.right)} labelled {file.name(one.given)}: {share}"
    if len(found.mistakes) > _MISTAKES:
        yield f"           and {len(found.mistakes) - _MISTAKES} rarer pairs, in --json"
    if found.mistakes and found.design == "all" and found.judged < file.suspects.n:
        yield "           these percentages are weighted: rows that were more likely to be drawn count less"
    yield from wrap(_paper(file, found), 108, initial_indent="paper      ", subsequent_indent=" " * 11)


def _count(one: Estimate) -> str:
    """Return a number of labels with its interval; without one where it is exact."""
    return f"{one.value:.0f}" if one.low == one.high else f"about {one.value:.0f} ({one.low:.0f} to {one.high:.0f})"


def _share(one: Estimate, n: int) -> Estimate:
    return Estimate(one.value / n, one.low / n, one.high / n, one.n)


def _paper(file: SuspectsFile, found: Judgement) -> str:
    """Return a sentence that can be printed beside the data."""
    n, experts = file.suspects.n, len(file.suspects.experts)
    models = f"a calibrated pool of {experts} models" if experts > 1 else "a calibrated model"
    doubtful = found.skipped + found.verdicts.get(Verdict.CANNOT_TELL, 0)
    against = f"; {doubtful} undecided rows count against it" if doubtful else ""
    blind = "without seeing which label was given"
    if found.judged == (n if found.design == "all" else int(file.suspects.flagged.sum())):  # nothing is left to prove
        who = f"{found.judged - found.skipped} of the {found.judged}" if found.skipped else f"all {found.judged}"
        which = "labels" if found.design == "all" else f"labels that {models} flagged among {n}"
        wrong = found.verdicts.get(Verdict.SUGGESTED, 0) + found.verdicts.get(Verdict.OTHER, 0)
        left = f", and {doubtful} are undecided" if doubtful else ""
        return f"A person judged {who} {which}, {blind}: {wrong} of them are wrong{left}."
    if found.wrong is not None:
        some = _share(found.wrong, n)
        return (
            f"A person judged a random sample of {found.judged} of all {n} labels, weighted by {models}, {blind}: "
            f"{100 * some.value:.2f} % of the labels are wrong (95 % interval {percent_down(some.low, 2)} to "
            f"{percent_up(some.high, 2)} %{against})."
        )
    assert found.precision is not None
    return (
        f"A person judged a random sample of {found.judged} of the {found.precision.flagged} labels that {models} "
        f"flagged among {n}, {blind}: with 95 % confidence, at least {percent_down(found.precision.bound)} % of the "
        f"flagged labels are wrong (exact hypergeometric bound{against})."
    )


def _document(file: SuspectsFile, verdicts: Verdicts, found: Judgement, largest: Precision | None) -> dict[str, Any]:
    return {
        "audit": verdicts.drawn.tag,
        "verdicts_sha256": verdicts.hash,
        "design": found.design,
        "drawn": found.drawn,
        "judged": found.judged,
        "skipped": found.skipped,
        "verdicts": {verdict.value: found.verdicts.get(verdict, 0) for verdict in Verdict},
        "precision": None if found.precision is None else asdict(found.precision),
        "wrong": None if found.wrong is None else asdict(found.wrong),
        "wrong_flagged": None if found.wrong_flagged is None else asdict(found.wrong_flagged),
        "suggested_right": None if found.suggested_right is None else asdict(found.suggested_right),
        "largest_flagged": None if largest is None else asdict(largest),
        "mistakes": [
            {
                "given": file.name(one.given),
                "right": file.name(one.right),
                "judged": one.judged,
                "share": asdict(one.share),
            }
            for one in found.mistakes
        ],
        "paper": _paper(file, found),
    }
