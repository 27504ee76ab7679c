"""`ecjax flow`: a study in a folder, taken up where it was, with the same result; and the figures of flows."""

import json

import drawn
import jax
import jax.random as jr
import numpy as np
import pytest

from ecjax import figures, flow
from ecjax.cli import flowing, main
from ecjax.network import respond
from ecjax.objective import Samples

OPTIONS = [
    "flow",
    "--d-in",
    "2",
    "--width",
    "2",
    "--n-students",
    "6",  # three slices of one size
    "--n-samples",
    "50",
    "--activation",
    "tanh",
    "--slice",
    "2",
    "--steps",
    "150",
    "--time",
    "1e3",
    "--solver",
    "tsit5",  # half as long to compile
]


def test_a_study_is_written_and_taken_up(tmp_path, monkeypatch, capsys):
    assert main([*OPTIONS, "--out", str(tmp_path / "whole")]) == 0
    assert "| students | kind |" in capsys.readouterr().out
    whole = tmp_path / "whole"
    assert {file.name for file in (whole / "figures").iterdir()} == {"losses.png", "ends.png"}
    kinds = json.loads((whole / "kinds.json").read_text())
    assert sorted(i for kind in kinds["kinds"] for i in kind["members"]) == list(range(6))

    calls, real = [], flowing.follow

    def interrupted(*given, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given, **options)

    again = [*OPTIONS, "--out", str(tmp_path / "parts"), "--no-figures"]
    monkeypatch.setattr(flowing, "follow", interrupted)
    assert main(again) == 130
    assert "2 students are safe" in capsys.readouterr().err
    assert main(again) == 0
    assert "2 of 6 students are there" in capsys.readouterr().out
    assert len(calls) == 4  # of three slices the first one once
    with np.load(whole / "flows.npz") as one, np.load(tmp_path / "parts" / "flows.npz") as other:
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.slow
def test_a_population_is_followed(tmp_path, capsys):
    options = [
        "--d-in",
        "2",
        "--width",
        "2",
        "--n-students",
        "2",
        "--activation",
        "erf",
        "--population",
        "--steps",
        "100",
        "--no-figures",
    ]
    assert main(["flow", *options, "--out", str(tmp_path / "run")]) == 0


@pytest.mark.slow
def test_figures_of_flows(key, tmp_path):
    teacher = drawn.network((2, 2, 1), "tanh", key=key)
    x = drawn.normal(jr.fold_in(key, 1), (40, 2))
    samples = Samples(x, respond(teacher, x))
    students = drawn.students(3, (2, 2, 1), "tanh", key=jr.fold_in(key, 2))
    path = flow.follow(students, samples, until=flow.Until(time=5.0), saves=[1.0], solver="tsit5")
    study = flow.study_ends(path, samples, gradient_norm=1e6)
    assert sum(len(kind.members) for kind in study.kinds) == 3
    ends = [jax.tree.map(lambda leaf, i=i: leaf[i], path.final) for i in range(2)]
    plane = flow.Plane.through(teacher, *ends)
    side = np.linspace(-1, 1, 5)
    for figure in (
        figures.plot_flows(path),
        figures.plot_ends(study),
        figures.plot_plane(side, side, plane.losses(samples, side, side)),
        figures.plot_neurons(path, 0, teacher),
        figures.plot_overlaps(path, 0, teacher),
    ):
        figure.savefig(tmp_path / "a.png")
