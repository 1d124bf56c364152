"""Let a fault strike each verb at many moments, and count what is lost."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterable, Iterator

from attrs import define

from tests.campaign.faults import Fault
from tests.campaign.lab import Lab, Lost
from tests.campaign.verbs import VERBS, Verb


@define
class Row:
    """What came of a verb."""

    verb: str
    fault: str
    struck: int = 0
    """How often it failed or was killed."""
    passed: int = 0
    """How often it had ended before, or succeeded nevertheless."""
    lost: int = 0


def run(lab: Lab, fault: Fault, verbs: Iterable[str], points: int, seed: int,
        tell: Callable[[str], None]) -> Iterator[Row]:  # fmt: skip
    """Let it strike each of these verbs at that many moments, chosen by ``seed``."""
    for verb in VERBS:
        if verb.name in verbs:
            row = Row(verb.name, fault.name)
            moments = random.Random(f"{seed} {fault.name} {verb.name}")
            _run(lab, fault, verb, points, moments, row, tell)
            tell(f"{fault.name}: {verb.name}: struck {row.struck}, passed {row.passed}, "
                 f"lost {row.lost}")  # fmt: skip
            yield row


def _run(lab: Lab, fault: Fault, verb: Verb, points: int, moments: random.Random, row: Row,
         tell: Callable[[str], None]) -> None:  # fmt: skip
    try:
        verb.prepare(lab)
        fault.measure(lab, verb.words(lab))
        verb.holds(lab)
    except Lost as error:
        tell(f"{verb.name}: without any fault: {error}")
        row.lost += 1
        return
    for number in range(points):
        where = "?"
        try:
            verb.prepare(lab)
            where = fault.strike(lab, verb.words(lab), moments)
            row.struck += where != ""
            row.passed += where == ""
            lab.look()
            lab.run(*verb.words(lab), codes=verb.done)
            verb.holds(lab)
        except Exception as error:
            row.lost += 1
            why = str(error) if isinstance(error, Lost) else traceback.format_exc()
            tell(f"LOST: {fault.name}: {verb.name}, {number + 1}, {where}: {why}")
            _sweep(lab, tell)


def _sweep(lab: Lab, tell: Callable[[str], None]) -> None:
    try:
        lab.down()
    except Lost as error:
        tell(f"  and then: {error}")
