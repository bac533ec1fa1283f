"""Everyone in turn, round after round, so that what the machine does meanwhile meets all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tools.peers.figures import Result, Row, ratios
from tools.peers.peers import Group
from tools.peers.running import Failed

Measure = Callable[[], Result]


@dataclass(frozen=True, slots=True)
class Contestant:
    """Somebody to be measured; the first of a group is the one that the others are held against."""

    name: str
    title: str
    group: Group
    remark: str
    prepare: Callable[[], Measure]  # what takes long and is not measured


@dataclass(slots=True)
class _Course:
    """What has come of a contestant so far."""

    results: list[Result] = field(default_factory=list)
    failed: str | None = None


def play(
    contestants: Sequence[Contestant], rounds: int, tell: Callable[[str], None] = lambda text: None
) -> dict[Group, tuple[Row, ...]]:
    """Prepare everybody, then measure everybody once a round; who fails is not asked again, and has no figures."""
    courses = {one.name: _Course() for one in contestants}
    ready: dict[str, Measure] = {}
    for one in contestants:
        tell(f"Preparing: {one.title}")
        try:
            ready[one.name] = one.prepare()
        except Failed as error:
            courses[one.name].failed = str(error)
    for number in range(rounds):
        for one in contestants:
            course = courses[one.name]
            if course.failed is None:
                tell(f"Round {number + 1} of {rounds}: {one.title}")
                _measure(ready[one.name], course)
    return _rows(contestants, courses)


def _measure(measure: Measure, course: _Course) -> None:
    try:
        course.results.append(measure())
    except Failed as error:
        course.failed = str(error)
        course.results.clear()


def _rows(contestants: Sequence[Contestant], courses: Mapping[str, _Course]) -> dict[Group, tuple[Row, ...]]:
    groups: dict[Group, tuple[Row, ...]] = {}
    for one in contestants:
        course = courses[one.name]
        runs = tuple(result.run for result in course.results)
        before = groups.get(one.group, ())
        last = course.results[-1] if course.results else None
        row = Row(
            name=one.name,
            title=one.title,
            remark=one.remark,
            runs=runs,
            ratios=ratios(before[0].runs, runs) if before else None,
            versions=last.versions if last else {},
            facts=last.facts if last else {},
            failed=course.failed,
        )
        groups[one.group] = (*before, row)
    return groups
