"""The answer first: what was found, how sure that is, and what nobody can know."""

from ..judge import Comparison
from ..runs import Run
from .parts import Section, brief, escaped, table


def answer(run: Run, comparison: Comparison | None) -> Section:
    """The head of the page."""
    recovery, certificate = run.recovery, run.recovery.certificate
    kinds = " and ".join(dict.fromkeys(each.name for each in recovery.network.activations))
    shape = "-".join(map(str, recovery.network.shape))
    section = Section(f"A {shape} {kinds} network")
    verdict = recovery.judge.words() if recovery.is_exact else "not exact: take the widths as a guess"
    badges = [("yes" if certificate.certified else "no", "certified" if certificate.certified else "not certified")]
    badges.append(("yes" if recovery.is_exact else "no", verdict))
    marks = (
        f'<span class="badge {kind}">{"✓" if kind == "yes" else "!"} {escaped(text)}</span>' for kind, text in badges
    )
    section.body.append(f'<p class="badges">{" ".join(marks)}</p>')
    section.say(certificate.summary())
    facts = [(f"hidden layer {i}", f"{width} neurons") for i, width in enumerate(recovery.widths, start=1)]
    facts.append(("imitation loss", f"{recovery.loss:.1e} var(y)"))
    if certificate.fresh_loss is not None:
        facts.append(("loss on fresh queries", f"{certificate.fresh_loss:.1e}"))
    if certificate.parameter_bound is not None:
        what = "widest 95% interval" if recovery.errors is not None else "farthest that a parameter can be off"
        facts.append((what, f"± {certificate.parameter_bound:.1e}"))
    if recovery.errors is not None:
        facts.append(("intervals", "beside each weight, below"))
    facts.append(("queries", f"{len(run.x):,} of {run.x.shape[1]} inputs, {run.y.shape[1]} outputs"))
    if recovery.questions:
        facts.append(("questions asked", f"{recovery.questions:,}"))
    facts.append(("time", f"{sum(recovery.seconds.values()):,.1f} s"))
    rows = "".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in facts)
    section.body.append(f"<dl>{rows}</dl>")
    section.items("Likely cause", [recovery.advice] if recovery.advice else [])
    section.items("What cannot be known", recovery.unidentified)
    section.items("Removed", recovery.removed)
    section.items("Evidence for the widths", [each.words() for each in recovery.evidence])
    section.items("Chosen from the data", recovery.chosen)
    if comparison is not None:
        _against(section, comparison)
    return section


def _against(section: Section, comparison: Comparison) -> None:
    """The comparison with the teacher, layer by layer."""
    section.items("Against the teacher, which is known here", comparison.verdict().splitlines())
    names = {
        "layer": "layer",
        "teacher": "teacher",
        "recovered": "recovered",
        "excess": "in excess",
        "missing": "missing",
        "cosine_in_largest": "largest cosine distance of pre-activations",
        "cosine_in_euclidean_largest": "of weights in",
        "cosine_out_largest": "of weights out",
    }
    rows = [[brief(row[name]) for name in names] for row in comparison.rows()]
    section.body.append(table(list(names.values()), rows))
