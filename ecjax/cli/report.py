"""What the terminal shows at the end of a recovery."""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int
from rich import box
from rich.console import Console
from rich.table import Table

from ..cluster import LayerClustering
from ..judge import Comparison
from ..objective import Inputs
from ..road import Recovery, cluster_numbers
from .recover_commands import RecoverData
from .words import in_options

_MOST_ROWS = 40  # of a table of candidates
_ADVICE = (
    "Neurons are missed where students did not come to a low loss, and in excess where the cut\n"
    "is too lax: give students more steps or epochs, more of them (--n-students), more questions (--n, --n-samples),\n"
    "or another cut (--gamma, --beta)."
)


def report(
    console: Console, recovery: Recovery, comparison: Comparison | None, folder: Path, x: Inputs | None = None
) -> None:
    """What came out: widths, which neurons, how sure, where the files are.

    Args:
        console: To say it on.
        recovery: What was recovered.
        comparison: With the teacher, where it is known.
        folder: Of the run.
        x: The queries; with them each cluster has the number of the neuron that it became, as in the figures.
    """
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    say(in_options(recovery.summary(), RecoverData))  # whose options the others have, too
    for i, clustering in enumerate(recovery.clusterings, start=1):
        kinds = [recovery.network.activations[i - 1].name]  # where probes proposed, as long as there is one of a layer
        if recovery.expansions:
            students = recovery.expansions[i - 1].students
            kinds = [kind.name for kind, _ in students.layers[0].activation.groups(students.widths[0])]
        console.print()
        numbers = None if x is None else np.concatenate(cluster_numbers(recovery, x, i - 1))
        console.print(_clusters(clustering, kinds, f"candidates in hidden layer {i}", numbers))
    if comparison is not None:
        say(f"\nagainst the teacher\n{comparison.summary()}")
    if comparison is not None and (comparison.n_missing or comparison.n_excess):
        say(f"Not the whole teacher. {_ADVICE}")
    elif not recovery.is_exact:
        say(f"\nNothing exact was found. {_ADVICE}")
    say(f"\nrun      {folder}")
    if not recovery.is_exact and len(recovery.clusterings) == 1 and recovery.expansions:
        gamma = recovery.config.cluster.gamma
        say(f"cut      ecjax cut {folder} --gamma {0.75 * gamma:.2g}   (without training; now {gamma:.2g})")
    say(f"numbers  ecjax export {folder}")
    figures = sorted(path.name for path in (folder / "figures").glob("*.png"))
    if figures:
        say(f"figures  {folder / 'figures'}: {', '.join(figures)}")


def _clusters(
    clustering: LayerClustering, kinds: list[str], title: str, numbers: Int[np.ndarray, " clusters"] | None = None
) -> Table:
    """Every candidate cluster of a layer, those that were kept first.

    Args:
        clustering: Of the layer.
        kinds: Names of the activations of its groups.
        title: Above the table.
        numbers: Of the neuron that each became, 0 for none.
    """
    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="", pad_edge=False, collapse_padding=True
    )
    for name in ("cluster", "students", "copies", "median angle", "spread"):
        table.add_column(name, justify="right")
    if numbers is not None:
        table.add_column("neuron", justify="right")
    if len(kinds) > 1:
        table.add_column("activation")
    table.add_column("verdict")
    order = np.argsort(~clustering.kept, kind="stable")
    for k in order[:_MOST_ROWS]:
        table.add_row(
            str(k),
            f"{clustering.n_present[k]}/{clustering.n_students}",
            str(clustering.n_vectors[k]),
            f"{clustering.median_angle[k]:.1e}",
            f"{clustering.spread[k]:.1e}",
            *([str(numbers[k] or "")] if numbers is not None else []),
            *([kinds[clustering.group_of(k)]] if len(kinds) > 1 else []),
            clustering.verdict[k],
            style=None if clustering.kept[k] else "dim",
        )
    if len(order) > _MOST_ROWS:
        table.caption = f"and {len(order) - _MOST_ROWS} more, all of them in result.json"
    return table
