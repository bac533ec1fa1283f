"""The pages of a comparison: Markdown, pictures and JSON, all made of the same results."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from engines.evaluation.bootstrap import CONFIDENCE, Interval
from engines.evaluation.plots import save
from engines.study.comparison import JOINT, Outcome
from engines.study.comparison_pictures import draw_bars, draw_cosines, draw_curves
from engines.study.comparison_results import Cost, MetricRow, MultiTask
from engines.study.metrics import DELTA_M, Spread
from engines.study.writing import filled, short, write_text

NAME = "multi-task"
LOW = 0.05  # a figure that is nearly none
DELTA_M_KEYS = {metric.key for metric in DELTA_M}


def write_pages(found: MultiTask, out: Path) -> Path:
    """Write ``multi-task.md``, its pictures and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    out.mkdir(parents=True, exist_ok=True)
    save(draw_bars(found), out / f"{NAME}.png")
    save(draw_curves(found), out / f"{NAME}-curves.png")
    if found.cosines:
        save(draw_cosines(found), out / f"{NAME}-gradients.png")
    write_text(out / f"{NAME}.json", msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n")
    page = out / f"{NAME}.md"
    write_text(page, _markdown(found))
    return page


def _markdown(found: MultiTask) -> str:
    return "\n\n".join(_sections(found)) + "\n"


def _sections(found: MultiTask) -> Iterator[str]:
    yield "# One network for all tasks, or one for each"
    yield "Written by the command below; a change by hand is lost with the next run of it."
    yield f"```sh\n{found.command}\n```"
    yield _result(found)
    yield f"![The headline figures of both]({NAME}.png)"
    yield "## What is compared"
    yield _points(_setting(found))
    yield "## Every metric"
    yield _metrics(found)
    yield _points(_about_metrics(found))
    yield "## What it costs"
    yield _costs(found)
    yield _points(_about_costs(found))
    yield "## What each network saw"
    yield _seen(found)
    yield "## Training"
    yield f"![Curves of every run]({NAME}-curves.png)"
    yield filled(_about_curves(found))
    if found.cosines:
        yield f"![Cosines of the tasks' gradients]({NAME}-gradients.png)"
        yield filled(_about_cosines(found))
    yield "## What this does not show"
    yield _points(_limits(found))
    yield f"Every run, its figures and curves: [{NAME}.json]({NAME}.json)."


def _result(found: MultiTask) -> str:
    joint, single = _joint(found), _singles(found)
    delta = "no delta-m, since a figure is missing or 0" if found.delta_m is None else f"delta-m {_gain(found.delta_m)}"
    with_landmarks = found.delta_m_landmarks
    landmarks = f" ({_gain(with_landmarks)} with the landmarks' error as a further figure)" if with_landmarks else ""
    parameters = joint.parameters / sum(each.parameters for each in single)
    macs = joint.macs / sum(each.macs for each in single)
    seconds = joint.seconds / sum(each.seconds for each in single)
    return filled(
        f"**{delta}**{landmarks} against {len(single)} single-task networks, with {parameters:.0%} of their "
        f"parameters, {macs:.0%} of their multiply-accumulates and {seconds:.0%} of their training time."
    )


def _setting(found: MultiTask) -> Iterator[str]:
    joint = _joint(found)
    yield (
        f"The joint network of `{found.config}` learns {', '.join(found.tasks)}. The single-task network of a task has "
        "the same trunk, head, optimiser settings, phases and augmentation, and begins with the same trunk weights."
    )
    yield (
        "Both are trained by the same run: for the single-task network, the other tasks' heads and losses are gone, "
        "and the micro-batches that label none of its own are passed over. So at each step it sees exactly the "
        "pictures of its sets that the joint network sees, augmented alike. What the joint network does in one run, "
        "the single-task networks do in one each."
    )
    asked = "as asked for" if found.hours is None else f"chosen by a trial so that all runs end in {found.hours:g} h"
    spent = len(found.seeds) * sum(each.seconds for each in found.costs)
    yield (
        f"Budget: {joint.steps} steps a run ({asked}), {len(found.runs)} runs, seeds {_list(found.seeds)}; "
        f"{_time(spent)} of training in all. Warm-up and validation keep their share of the steps."
    )
    yield (
        "Figures are those of the averaged weights after the last step, exported, in f32 arithmetic and through the "
        f"pipeline's own decoding, at {found.runs[0].frame_size} pixels. No run was ended early, no checkpoint picked."
    )
    machines = dict.fromkeys(str(run.machine) for run in found.runs)
    yield f"Trained on: {'; '.join(machines)}."


def _metrics(found: MultiTask) -> str:
    head = (
        "| metric | one for all | one for each | one for all is better by | interval, one for all | "
        "interval, one for each |\n|---|---:|---:|---:|---:|---:|"
    )
    return "\n".join([head, *map(_metric, found.rows)])


def _metric(row: MetricRow) -> str:
    title = row.title + (" (lower is better)" if row.lower_is_better else "")
    gain = "–" if row.gain is None else _gain(row.gain)
    cells = (_spread(row.joint), _spread(row.single), gain, _between(row.joint_interval), _between(row.single_interval))
    return f"| {title} | {' | '.join(cells)} |"


def _about_metrics(found: MultiTask) -> Iterator[str]:
    yield (
        f"Mean and sample standard deviation over {len(found.seeds)} seed{'s' if len(found.seeds) > 1 else ''}. "
        '"Better by" is a share of the single-task figure, pairing the runs of each seed, and is above 0 where the '
        "joint network is better."
    )
    yield (
        f"Intervals: {CONFIDENCE:.0%} bootstrap over the pictures (for identity, the people) of the validation data, "
        "of the first seed. They say how far other pictures would move a figure, the deviation how far another "
        "training run would. Where one is missing, evaluation makes none."
    )
    yield (
        'delta-m (Maninis et al., "Attentive Single-Tasking of Multiple Tasks", CVPR 2019): the mean over the tasks of '
        '"better by", with one figure for each: objects AP50, faces AP50, scene top-1 and verification accuracy, as '
        "far as they are compared. The second delta-m counts the landmarks' NME (of the box) as one more figure."
    )
    yield (
        "Landmarks are measured on the faces that are found with a score of at least 0.1. Verification end to end "
        "needs faces and identities, so no single-task network has it."
    )


def _costs(found: MultiTask) -> str:
    head = (
        "| network | parameters | MACs | frame entry, images/s | face entry, images/s | training, s |\n"
        "|---|---:|---:|---:|---:|---:|"
    )
    single = _singles(found)
    speeds = {(each.name, each.entry): each for each in found.speed.entries}
    lines = [head]
    for each in found.costs:
        cells = []
        for entry in ("frame", "face"):
            speed = speeds.get((each.name, entry))
            cells.append("" if speed is None else f"{speed.images_per_s:.0f} ({speed.low:.0f} to {speed.high:.0f})")
        lines.append(
            f"| {each.name} | {short(each.parameters)} | {short(each.macs)} | {' | '.join(cells)} | "
            f"{each.seconds:.0f} |"
        )
    apart = [f"{found.speed.apart[entry]:.0f}" if entry in found.speed.apart else "" for entry in ("frame", "face")]
    lines.append(
        f"| one for each, together | {short(sum(each.parameters for each in single))} | "
        f"{short(sum(each.macs for each in single))} | {' | '.join(apart)} | "
        f"{sum(each.seconds for each in single):.0f} |"
    )
    return "\n".join(lines)


def _about_costs(found: MultiTask) -> Iterator[str]:
    speed = found.speed
    yield (
        "Multiply-accumulates (MACs) are those of convolutions and fully connected layers, of one picture through each "
        "entry that the network has: a frame, and an aligned face."
    )
    yield (
        f"Images/s: the exported entries of the first seed on {speed.backend} {speed.precision}, {speed.device}, in "
        f"batches of {speed.batch}; the median of {speed.rounds} rounds, in each of which every entry had its turn, "
        "and the slowest and fastest. Together: each picture goes through the entries of all single-task networks."
    )
    yield (
        "Training: the steps of a run, times the mean of a step's seconds. Steps of all networks were timed in turn, "
        f"{found.pace.rounds} of each over all phases, on {found.pace.machine}. Reading the data, validation and the "
        "final figures are not in it."
    )


def _seen(found: MultiTask) -> str:
    first = [run for run in found.runs if run.seed == found.seeds[0]]
    sets = list(_of(first, JOINT).seen)
    rows = [f"| network | steps | {' | '.join(sets)} | pictures in all |", "|---|---:|" + "---:|" * (len(sets) + 1)]
    for run in first:
        counts = [f"{run.seen[name].micro_batches}" if name in run.seen else "" for name in sets]
        rows.append(f"| {run.name} | {run.steps} | {' | '.join(counts)} | {run.pictures:,} |")
    total = sum(run.pictures for run in first if run.name != JOINT)
    rows.append(f"| one for each, together | | {' | '.join('' for _ in sets)} | {total:,} |")
    note = filled(
        "Micro-batches of each set and pictures seen, of every seed alike; a picture that two single-task networks "
        "see counts twice."
    )
    return "\n".join(rows) + "\n\n" + note


def _about_curves(found: MultiTask) -> str:
    if found.validated:
        return "Headline scores of the averaged weights on the validation data, one line for each seed."
    return (
        "Losses in training, running means, one line for each seed. That of identity rises while its margin grows. The "
        "configuration asks for no validation."
    )


def _about_cosines(found: MultiTask) -> str:
    lowest = min(found.cosines, key=lambda pair: found.cosines[pair])
    return (
        "Cosine of two tasks' gradients on the shared trunk, mean over the joint runs: above 0 they pull the same way, "
        f"below 0 against each other. The least is {found.cosines[lowest]:+.3f}, of {lowest.replace('.', ' and ')}. "
        "A step's gradients come from a few micro-batches, so single values are noisy."
    )


def _limits(found: MultiTask) -> Iterator[str]:
    joint = _joint(found)
    if joint.steps < found.config_steps:
        yield (
            f"The runs are short: {joint.steps} of the {found.config_steps} steps that the configuration asks for, "
            f"{_time(joint.seconds)} for the joint network. Which of the two gains more from longer training is "
            "not shown."
        )
    low = [row.title for row in found.rows if row.key in DELTA_M_KEYS and row.single and row.single.mean < LOW]
    if low:
        yield f"A share of a figure below {LOW} is mostly chance, and delta-m with it. Here: {', '.join(low)}."
    yield (
        "At equal steps the joint trunk learns from all sets, a single-task trunk from its own alone. Had each "
        "single-task network the joint network's training time, it would see its pictures more often."
    )
    yield (
        "The optimiser settings are the joint configuration's, for all runs. They were not tuned for the single-task "
        "networks."
    )
    if len(found.seeds) < 3:
        yield "With fewer than three seeds, the deviation says little."


def _joint(found: MultiTask) -> Cost:
    return next(each for each in found.costs if each.name == JOINT)


def _singles(found: MultiTask) -> list[Cost]:
    return [each for each in found.costs if each.name != JOINT]


def _of(runs: Sequence[Outcome], name: str) -> Outcome:
    return next(run for run in runs if run.name == name)


def _points(points: Iterator[str]) -> str:
    return "\n".join(filled(f"* {point}") for point in points)


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    return f"{spread.mean:.3f}" + ("" if spread.std is None else f" ± {spread.std:.3f}")


def _gain(spread: Spread) -> str:
    return f"{100 * spread.mean:+.1f} %" + ("" if spread.std is None else f" ± {100 * spread.std:.1f}")


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"


def _list(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
