"""What ``ticketlab bench`` measured, in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ticketlab.report.words import duration

if TYPE_CHECKING:
    from rich.console import Console


def render(found: dict[str, Any], console: Console) -> None:
    """Print the limits, a table of the engines and, last, what a plan would take."""
    from rich import box
    from rich.table import Table

    machine, work, plan = found["machine"], found["work"], found["estimate"]
    head = f"{machine['device']}, {machine['cores']} cores, {machine['instructions']}, torch {machine['torch']}"
    console.print(head, style="bold", highlight=False)
    for limits in found["limits"]:
        console.print(_limits(limits), highlight=False)
    console.print(
        f"\n{work['model']} on {work['data']}, {work['precision']}, batches of {work['batch_size']}: "
        f"{work['flops_per_image'] / 1e6:,.1f} MFLOP to train an image if dense; one worker with one thread; "
        f"sparse on tickets of sparsity {work['sparsity']:g}",
        highlight=False,
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("engine", "images/s", "of peak", "ratio", "set-up", f"{plan['tickets']} tickets"):
        table.add_column(name, justify="left" if name == "engine" else "right", no_wrap=True)
    for row in found["engines"]:
        table.add_row(
            row["engine"],
            f"{row['train_images_s']:,.0f}",
            f"{row['share_of_peak']:.1%}",
            f"{row['ratio']:.2f}x" if row["ratio"] else "",
            f"{row['setup_s']:.1f} s",
            duration(row["plan_s"]),
        )
    console.print(table)
    for row in found["unavailable"]:
        console.print(f"not available: {row['engine']}: {row['why']}", highlight=False, markup=False)
    workers = "one worker" if plan["jobs"] == 1 else f"{plan['jobs']} workers that do not slow each other"
    console.print(
        f"{plan['tickets']} trainings of {work['epochs']} epochs with {workers}: about {duration(plan['seconds'])} "
        f"with {plan['engine']}",
        style="bold",
        highlight=False,
    )


def _limits(limits: dict[str, Any]) -> str:
    """A line: what the best matrix product and the best copy reach."""
    threads = limits["threads"]
    who = "limits" if threads is None else f"{threads} thread{'s' if threads > 1 else ''}"
    bf16 = "no bf16" if limits["bf16_flops"] is None else f"bf16 {limits['bf16_flops'] / 1e9:,.0f} GFLOP/s"
    return (
        f"{who}: fp32 {limits['fp32_flops'] / 1e9:,.0f} GFLOP/s, {bf16} (matrix product), "
        f"copy {limits['copy_bytes_s'] / 1e9:,.0f} GB/s"
    )
