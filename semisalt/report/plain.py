"""The look of all tables on the terminal."""

from collections.abc import Sequence

from rich import box
from rich.table import Table


def plain_table(numbers: Sequence[str], title: str) -> Table:
    """A table without vertical lines, its first columns numbers."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"\n{title}",
        title_justify="left",
        title_style="",
        collapse_padding=True,
        pad_edge=False,
        show_edge=False,
    )
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table
