"""The answer does not depend on how many devices and processes share the work, and none of them can spoil a run."""

import os
import socket
import subprocess
import sys
import textwrap

import drawn
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import ecjax as ec
from ecjax.cli import main
from ecjax.expand import Adam, Flow, expand, expand_problems, over_students, students_axis
from ecjax.expand.store import student_key
from ecjax.runs import StudentFiles

N_STUDENTS = 5  # no multiple of 2 or 8
ROADS = {
    "levenberg_marquardt": "tanh",
    "adam_levenberg_marquardt": "abs",
    "flow": "tanh",
}
ON_EIGHT = ("levenberg_marquardt", "adam_levenberg_marquardt")
SHORT = {
    "adam": Adam(n_steps=20),
    "flow": Flow(max_steps=20),
    "descent": ec.Stopping(max_steps=20),
}
COMMAND = (
    "recover toy --d-in 2 --width 1 --activation tanh --n-samples 60 --student-width 3 --no-figures "
    f"--n-students {N_STUDENTS}"
).split()


def problem(activation="tanh", n_students=N_STUDENTS):
    teacher_key, x_key, key = jr.split(jr.key(7), 3)
    teacher = drawn.teacher(2, 1, 1, activation, key=teacher_key)
    x = drawn.queries(60, 2, key=x_key)
    students = drawn.students(n_students, (2, 3, 1), activation, key=key)
    return students, ec.Samples(x, drawn.answers(teacher, x))


def arrays(tree):
    return {f"{i:02d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def assert_same(found, wanted, **tolerance):
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, **{"rtol": 1e-10, "atol": 1e-10, **tolerance})


def start(program: str | list[str], *arguments, **environment) -> subprocess.Popen:
    """A Python of its own: a program in this file's words, or a module with arguments."""
    if isinstance(program, str):
        program = ["-c", "from test_devices import *\n" + textwrap.dedent(program)]
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)]),
            "JAX_ENABLE_X64": "1",
            "OPENBLAS_NUM_THREADS": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen, seconds: float = 300) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, output


def pair(program, *arguments):
    """The same program in two processes that know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    who = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    return [start(program, *arguments, **who, JAX_PROCESS_ID=str(number)) for number in (0, 1)]


# --- many devices in one process -----------------------------------------------------------------------------------


def made_on_eight(out, program):
    """What eight virtual devices made of a program's problems, by the names of the files that it wrote."""
    program = "out = sys.argv[1]\nassert jax.device_count() == 8\n" + textwrap.dedent(program)
    code, output = finished(
        start(program, out, XLA_FLAGS="--xla_force_host_platform_device_count=8", JAX_PLATFORMS="cpu")
    )
    assert code == 0, output
    return lambda name: dict(np.load(out / f"{name}.npz"))


@pytest.fixture(scope="module")
def on_eight_devices(tmp_path_factory):
    """In one go, because they take long to start."""
    program = """
        students, samples = problem(n_students=20)
        config = ec.ExpandConfig(placement="mesh", chunk=2, **SHORT)
        store, told = StudentFiles(f"{out}/students", students.activations), []
        def interrupted(phase, done, total, *, losses):
            told.append(done)
            if done:
                raise KeyboardInterrupt
        try:
            expand(students, samples, config=config, store=store, progress=interrupted)
        except KeyboardInterrupt:
            pass
        np.savez(f"{out}/interrupted.npz", told=told, held=sorted(store))
        resumed = expand(students, samples, config=config, store=store)
        np.savez(f"{out}/resumed.npz", **arrays(resumed))
    """
    return made_on_eight(tmp_path_factory.mktemp("eight"), program)


@pytest.fixture(scope="module")
def roads_on_eight_devices(tmp_path_factory):
    """The same for whole methods and a recovery."""
    program = """
        for method in ON_EIGHT:
            activation = ROADS[method]
            students, samples = problem(activation)
            expansion = expand(students, samples, config=ec.ExpandConfig(method=method, **SHORT))
            np.savez(f"{out}/{method}.npz", **arrays(expansion))

        students, samples = problem()
        config = ec.RecoveryConfig.toy(3, N_STUDENTS)
        recovery = ec.recover(samples.x, samples.y, activation="tanh", key=jr.key(1), config=config)
        np.savez(f"{out}/recovery.npz", widths=recovery.widths, **arrays((recovery.network, recovery.expansion)))
    """
    return made_on_eight(tmp_path_factory.mktemp("roads"), program)


@pytest.mark.slow
@pytest.mark.parametrize("method", ON_EIGHT)
def test_students_do_not_depend_on_the_number_of_devices(method, roads_on_eight_devices):
    students, samples = problem(ROADS[method])
    alone = expand(students, samples, config=ec.ExpandConfig(method=method, **SHORT))
    assert_same(roads_on_eight_devices(method), arrays(alone))


@pytest.mark.slow
def test_recovery_does_not_depend_on_the_number_of_devices(roads_on_eight_devices):
    _, samples = problem()
    config = ec.RecoveryConfig.toy(3, N_STUDENTS)
    recovery = ec.recover(samples.x, samples.y, activation="tanh", key=jr.key(1), config=config)
    assert recovery.is_exact
    wanted = {"widths": recovery.widths, **arrays((recovery.network, recovery.expansion))}
    assert_same(roads_on_eight_devices("recovery"), wanted)


@pytest.mark.slow
def test_a_mesh_goes_on_where_it_was(on_eight_devices):
    """Sixteen students in the first call, two on each device; four, and copies that are dropped, in the second."""
    at = on_eight_devices("interrupted")
    np.testing.assert_array_equal(at["told"], [0, 16])
    assert at["held"].tolist() == ["origin", *map(student_key, range(16))]
    students, samples = problem(n_students=20)
    assert_same(on_eight_devices("resumed"), arrays(expand(students, samples, config=ec.ExpandConfig(**SHORT))))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["adam_levenberg_marquardt", pytest.param("flow", marks=pytest.mark.slow)])
def test_a_mesh_of_one_device_is_a_device(method):
    students, samples = problem(ROADS[method])
    run = lambda how: expand(students, samples, config=ec.ExpandConfig(method=method, placement=how, **SHORT))
    assert_same(arrays(run("mesh")), arrays(run("map")))


# --- two processes -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_write_the_run_of_one(tmp_path):
    """The command line on the loopback interface; the second process is told nothing and writes nothing."""
    ours, theirs = tmp_path / "one", tmp_path / "two"
    both = pair(["-m", "ecjax", *COMMAND, "--distributed", "--out", str(theirs)])
    assert main([*COMMAND, "--out", str(ours)]) == 0
    (code, told), (second_code, second_told) = map(finished, both)
    assert code == second_code == 0, told + second_told
    assert "Recovered a 2-1-1 tanh network" in told
    assert "Recovered" not in second_told
    one, two = ec.load_run(ours).recovery, ec.load_run(theirs).recovery
    assert two.widths == one.widths
    assert_same(arrays((two.network, two.expansion)), arrays((one.network, one.expansion)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.slow
def test_a_process_that_dies_leaves_whole_students_behind(tmp_path):
    """The others stop soon after, and the run goes on from what is in the store, in one process as well."""
    program = """
        jax.distributed.initialize(
            num_processes=2, process_id=int(os.environ["JAX_PROCESS_ID"]), heartbeat_timeout_seconds=10
        )
        students, samples = problem()
        def die(phase, done, total, *, losses):
            if done >= 2 and jax.process_index() == 1:
                os._exit(7)
        store = StudentFiles(sys.argv[1], students.activations) if jax.process_index() == 0 else None
        expand(students, samples, config=ec.ExpandConfig(**SHORT), store=store, progress=die)
    """
    first, second = pair(program, tmp_path / "students")
    assert finished(second)[0] == 7
    code, output = finished(first)
    assert code != 0, output
    students, samples = problem()
    store = StudentFiles(tmp_path / "students", students.activations)
    assert 2 <= len(store) < N_STUDENTS
    config = ec.ExpandConfig(**SHORT)
    assert_same(
        arrays(expand(students, samples, config=config, store=store)), arrays(expand(students, samples, config=config))
    )


@pytest.mark.parametrize("environment", [{}, {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1"}, {"JAX_PROCESS_ID": "first"}])
def test_processes_that_cannot_find_each_other_are_told_how(environment, monkeypatch, capsys):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(jax.distributed, "initialize", jax._src.distributed.State().initialize)
    assert main([*COMMAND, "--distributed"]) == 2
    assert "JAX_NUM_PROCESSES" in capsys.readouterr().err


# --- memory --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_batch_is_no_larger_than_the_memory(monkeypatch):
    """What the compiler asks for decides: all students, then fewer, and one where even one does not fit."""
    students, samples = problem(n_students=8)
    solve, sizes = SHORT["adam"], []
    compiled = students_axis._solve_batch
    spy = lambda solve, students, data: sizes.append(len(students.layers[0].b)) or compiled(solve, students, data)
    spy.lower = compiled.lower
    monkeypatch.setattr(students_axis, "_solve_batch", spy)
    whole = over_students(solve, students, samples, placement="vmap")
    needed = compiled.lower(solve, students, (samples,)).compile().compiled.memory_analysis().temp_size_in_bytes
    for share, most in ((2.0, 8), (0.5, 4), (1e-9, 1)):
        monkeypatch.setattr(students_axis, "free_memory", lambda share=share: share * needed)
        sizes.clear()
        done = over_students(solve, students, samples, placement="vmap")
        assert sizes[0] <= most
        assert len(set(sizes)) == 1
        np.testing.assert_allclose(done.loss, whole.loss, rtol=1e-6, atol=1e-12)


# --- problems side by side -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_problems_side_by_side_are_recovered_as_one_by_one():
    keys = [jr.split(jr.key(seed), 3) for seed in range(2)]
    teachers = [ec.synthetic_teacher(2, 1, 1, "tanh", key=teacher_key) for teacher_key, _, _ in keys]
    x = jnp.stack([ec.gaussian_queries(60, 2, key=x_key) for _, x_key, _ in keys])
    y = jnp.stack([ec.respond(teacher, each) for teacher, each in zip(teachers, x, strict=True)])
    config = ec.RecoveryConfig.toy(3, N_STUDENTS)
    told = []
    both = ec.recover_problems(
        x,
        y,
        activation="tanh",
        keys=[key for *_, key in keys],
        config=config,
        progress=lambda *at, **_: told.append(at),
    )
    assert ("expand", 2 * N_STUDENTS, 2 * N_STUDENTS) in told
    for recovery, each_x, each_y, (*_, key) in zip(both, x, y, keys, strict=True):
        alone = ec.recover(each_x, each_y, activation="tanh", key=key, config=config)
        assert_same(arrays((recovery.network, recovery.expansion)), arrays((alone.network, alone.expansion)))
        assert recovery.seconds["expand"] > 0


def test_problems_that_do_not_fit_together_are_refused():
    students, samples = problem()
    one_problem, x, y = jax.tree.map(lambda leaf: leaf[None], samples), samples.x, samples.y
    with pytest.raises(ValueError, match="leading axes"):
        expand_problems(students, one_problem)
    of_one_problem = jax.tree.map(lambda leaf: leaf[None], students)
    with pytest.raises(ValueError, match="one problem at a time"):
        expand_problems(of_one_problem, one_problem, config=ec.ExpandConfig(method="minibatch"))
    with pytest.raises(ValueError, match="one entry a problem"):
        ec.recover_problems(x[None], y[None], activation="tanh", keys=[])
    constant = jnp.stack([x, x.at[:, 1].set(1.0)])
    with pytest.raises(ValueError, match="never vary"):
        ec.recover_problems(
            constant,
            jnp.stack([y, y]),
            activation="tanh",
            keys=[jr.key(0), jr.key(1)],
            config=ec.RecoveryConfig.toy(3, 5),
        )
