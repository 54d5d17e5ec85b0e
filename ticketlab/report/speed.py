"""What ``ticketlab speed`` measured, in a terminal and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = ("runner", "type", "ms", "low to high", "images/s", "speed", "of limit", "error")


def render(found: dict[str, Any], console: Console) -> None:
    """Print what was measured, one table for each batch size, the limits, the files, and what all that says."""
    from rich import box
    from rich.table import Table

    title, *facts = _head(found)
    console.print(title, style="bold", soft_wrap=True)
    for line in facts:
        console.print(line, markup=False)
    for batch in found["batches"]:
        console.print(f"\n{_title(batch)}", style="bold")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for name in _COLUMNS:
            table.add_column(name, justify="left" if name in _COLUMNS[:2] else "right", no_wrap=name != "runner")
        for row in batch["rows"]:
            table.add_row(*_cells(row))
        console.print(table)
        console.print(_limit(batch), markup=False)
    for row in found["unavailable"]:
        console.print(f"not measured: {row['runner']}: {row['why']}", markup=False)
    console.print(f"\n{_files(found['files'])}", markup=False)
    for sentence in found["words"]:
        console.print(f"- {sentence}", markup=False)
    for line in _method(found):
        console.print(line, markup=False, style="dim")


def markdown(found: dict[str, Any]) -> str:
    """The same as one page."""
    title, *facts = _head(found)
    lines = [f"# {title}", "", *(f"{line}  " for line in facts)]
    for batch in found["batches"]:
        lines += ["", f"## {_title(batch)}", "", _line(_COLUMNS), _line(["---"] * 2 + ["---:"] * (len(_COLUMNS) - 2))]
        lines += [_line(_cells(row)) for row in batch["rows"]]
        lines += ["", _limit(batch)]
    lines += ["", *(f"- not measured: {row['runner']}: {row['why']}" for row in found["unavailable"])]
    lines += ["", _files(found["files"]), "", *(f"- {sentence}" for sentence in found["words"])]
    return "\n".join([*lines, "", *_method(found), ""])


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _head(found: dict[str, Any]) -> list[str]:
    machine, subject, limits = found["machine"], found["subject"], found["limits"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    threads, pattern = found["how"]["threads"], found["structure"]
    lines = [
        f"{subject['model']}, {subject['origin']}: {subject['kept']:,} of {subject['total']:,} weights kept, "
        f"sparsity {subject['sparsity']:.4f}, {'nothing removed' if pattern == 'none' else pattern}",
        f"{machine['device']}, {machine['cores']} cores, {threads} thread{'s' if threads > 1 else ''}, "
        f"{machine['instructions']}; {versions}",
        f"limits: fp32 {limits['fp32_flops'] / 1e9:,.0f} GFLOP/s (matrix product), "
        f"copy {limits['copy_bytes_s'] / 1e9:,.0f} GB/s",
        f"an image: {limits['dense_flops_per_image'] / 1e6:,.1f} MFLOP if dense, "
        f"{limits['kept_flops_per_image'] / 1e6:,.1f} with kept weights only ({limits['kept_share']:.1%})",
    ]
    if "accuracy" in subject["facts"]:
        lines.append(f"test accuracy of the ticket: {subject['facts']['accuracy']:.2f}%")
    if subject["empty_layers"]:
        lines.append(f"no weight is left in {', '.join(subject['empty_layers'])}")
    return lines


def _title(batch: dict[str, Any]) -> str:
    return "Latency, batch 1" if batch["batch"] == 1 else f"Throughput, batch {batch['batch']}"


def _cells(row: dict[str, Any]) -> list[str]:
    seconds, speed = row["seconds"], row["speed"]
    return [
        row["text"],
        row["precision"],
        _ms(seconds["median"]),
        f"{_ms(seconds['low'])} to {_ms(seconds['high'])}",
        f"{row['images_s']:,.0f}",
        f"{speed['median']:.2f}x" if speed else "",
        f"{row['limit_share']:.1%}",
        f"{row['error']:.0e}",
    ]


def _ms(seconds: float) -> str:
    """Milliseconds with three digits."""
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def _limit(batch: dict[str, Any]) -> str:
    limit = batch["limit"]
    return (
        f"limit of the density: {_ms(limit['arithmetic_s'])} ms for the kept arithmetic at the fp32 peak, "
        f"{_ms(limit['traffic_s'])} ms to move weights and activations once"
    )


def _files(files: dict[str, Any]) -> str:
    dense, small = files["dense_bytes"], files["compact_bytes"]
    if small is None:
        return f"files: {dense:,} bytes dense; compact: {files['why']}"
    return (
        f"files: {dense:,} bytes dense, {small:,} compact ({dense / small:.1f} times smaller; "
        f"{small / files['entropy_bytes']:.2f} of the entropy bound)"
    )


def _method(found: dict[str, Any]) -> list[str]:
    how, subject = found["how"], found["subject"]
    tolerances = ", ".join(f"{value:g} in {name}" for name, value in how["tolerances"].items())
    return [
        f"Medians of n = {how['rounds']} turns of {how['seconds']:g} s, all runners in turns in one process; speed: "
        f"beside the fastest dense fp32 runner, median of the turns' ratios. Of limit: the time of the kept arithmetic "
        f"at the fp32 peak over the runner's. Inputs: {subject['images']}.",
        f"error: of the outputs against fp32, share of the largest; above {tolerances} a runner is not timed. Dense "
        "runners have batch norm folded into the convolutions.",
    ]
