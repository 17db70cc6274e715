"""Many scans, whatever runs them: finished ones are skipped, failed ones named, those that another run holds come last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from veridice.cohort.task import Outcome, ScanTask, give_up
from veridice.errors import ClusterError

Run = Callable[[Sequence[ScanTask], bool], Iterator[tuple[ScanTask, Outcome | Exception]]]
"""Runs tasks somewhere; the second argument says whether to wait for scans that another run holds."""


@dataclass
class Tally:
    """How a study went, by names of scans."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        if outcome.status == "failed":
            self.failed[outcome.scan] = outcome.reason
        else:
            (self.done if outcome.status == "done" else self.skipped).append(outcome.scan)

    def __str__(self) -> str:
        return f"{len(self.done)} judged, {len(self.skipped)} finished before, {len(self.failed)} failed"


def run_cohort(tasks: Sequence[ScanTask], run: Run, tell: Callable[[Outcome], None]) -> Tally:
    """Judge every scan of a study that is not finished.

    Args:
        tasks: the scans.
        run: where.
        tell: called with what became of each scan, as it is known.

    Raises:
        ClusterError: what runs them was lost.
    """
    tally = Tally()

    def count(outcome: Outcome) -> None:
        tally.add(outcome)
        tell(outcome)

    waiting: list[ScanTask] = []
    for task in tasks:
        if task.is_finished():
            count(Outcome(task.name, "skipped"))
        else:
            waiting.append(task)
    try:
        for patient in (False, True):
            held = []
            for task, result in run(waiting, patient) if waiting else ():
                # A process that died could not say why its scan failed.
                outcome = give_up(task, str(result)) if isinstance(result, Exception) else result
                if outcome.status == "held":
                    held.append(task)
                else:
                    count(outcome)
            waiting = held
    except ClusterError as error:
        done = sum(task.is_finished() for task in tasks)
        raise ClusterError(f"{error}; {done} of {len(tasks)} scans are done: give the same command again to go on") from error
    return tally
