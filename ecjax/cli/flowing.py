"""`ecjax flow`: follow many students of one teacher, and sort them by the kind of point they end in."""

from pathlib import Path

import jax
import jax.random as jr
from rich.console import Console

from ..base.checks import whole_number
from ..base.files import write_whole
from ..data.queries import gaussian_queries
from ..data.teachers import synthetic_teacher
from ..flow import Ode, Trajectory, Until, follow, joined, load_trajectory, log_times
from ..flow.study import study_ends
from ..network import Network, random_students, respond, save_network
from ..objective import Objective, Population, Samples
from ..runs import as_json
from ..runs.as_json import write_json
from .commands import Flow
from .options import named_activations
from .progress_bars import ProgressBars
from .recovering import Interrupted
from .run_folder import finish, run_folder


def flow(command: Flow, console: Console) -> None:
    """Follow in a run folder, slice by slice; an interrupted run goes on after its last slice."""
    whole_number(command.slice, "slice")
    teacher, students, objective = _problem(command)
    dynamics = Ode(solver=command.solver, rtol=command.rtol, atol=command.rtol * 1e-3)
    rules = {"steps": command.steps, "gradient_norm": command.gradient_norm, "norm": command.norm}
    until = Until(**rules, loss=0.0, time=command.time)
    saves = log_times(1e-2, min(command.time, 1e6), 60)
    asked = {name: value for name, value in as_json(command).items() if name not in ("output", "threads", "slice")}
    with run_folder(command.output, "flow", {"command": "flow", **asked}) as (partial, interrupted):
        done = _slices(partial, students, dynamics, console)
        n_done = sum(part.n_students for part in done)
        if interrupted:
            console.print(
                f"going on in {partial}: {n_done} of {command.n_students} students are there", highlight=False
            )
        try:
            with ProgressBars(console) as progress:
                while n_done < command.n_students:
                    members = slice(n_done, min(n_done + command.slice, command.n_students))
                    part = follow(
                        jax.tree.map(lambda leaf, members=members: leaf[members], students),
                        objective,
                        until=until,
                        solver=dynamics,
                        saves=saves,
                        threads=command.threads,
                    )
                    part.save(partial / f"flow-{len(done):04d}.npz")
                    done.append(part)
                    n_done += part.n_students
                    progress("flow", n_done, command.n_students, losses=[float(x) for p in done for x in p.final_loss])
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {n_done} students are safe in {partial}\nthe same command goes on from there"
            ) from None
        _report(partial, joined(done), teacher, objective, command, console)


def _problem(command: Flow) -> tuple[Network, Network, Objective]:
    teacher_key, query_key, key = jr.split(jr.key(command.seed), 3)
    activations = named_activations(command.activation, 1)
    teacher = synthetic_teacher(command.d_in, (command.width,), command.d_out, activations, key=teacher_key)
    width = command.width if command.student_width is None else command.student_width
    students = random_students(command.n_students, (command.d_in, width, command.d_out), activations, key=key)
    if command.population:
        return teacher, students, Population(teacher)
    x = gaussian_queries(command.n_samples, command.d_in, key=query_key)
    return teacher, students, Samples(x, respond(teacher, x))


def _slices(partial: Path, students: Network, dynamics: Ode, console: Console) -> list[Trajectory]:
    """What an interrupted run left, up to the first slice that is damaged; slices have any size."""
    files, done = sorted(partial.glob("flow-*.npz")), []
    for number, file in enumerate(files):
        try:
            done.append(load_trajectory(file, students, dynamics))
        except ValueError as error:
            console.print(f"{error} It is followed again.", markup=False, highlight=False, soft_wrap=True)
            for later in files[number:]:
                later.unlink()
            break
    return done


def _report(
    partial: Path, path: Trajectory, teacher: Network, objective: Objective, command: Flow, console: Console
) -> None:
    study = study_ends(path, objective)
    path.save(partial / "flows.npz")
    save_network(teacher, partial / "teacher.safetensors")
    why = {reason: path.reasons().count(reason) for reason in dict.fromkeys(path.reasons())}
    write_json(partial / "kinds.json", {"kinds": study.kinds, "stopped": why, "n_steps": path.n_steps.tolist()})
    write_whole(partial / "kinds.md", study.table().encode())
    if command.output.figures:
        from ..figures.flows import plot_ends, plot_flows  # Matplotlib is slow to import
        from ..figures.saving import save_picture

        (partial / "figures").mkdir(exist_ok=True)
        save_picture(plot_flows(path), partial / "figures" / "losses.png")
        save_picture(plot_ends(study), partial / "figures" / "ends.png")
    for file in partial.glob("flow-*.npz"):
        file.unlink()  # all of them are in flows.npz now
    folder = finish(partial)
    console.print(study.table(), markup=False, highlight=False, soft_wrap=True)
    stopped = ", ".join(f"{n} {reason}" for reason, n in why.items())
    console.print(f"stopped: {stopped}\nwritten to {folder}", markup=False, highlight=False, soft_wrap=True)
