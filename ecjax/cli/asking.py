"""`ecjax recover function`: a function of the user's is asked, in a run folder that keeps every answer."""

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.random as jr
from rich.console import Console

from ..data import Data, Teacher
from ..data.queries import gaussian_queries
from ..road import recover
from ..road.asking import AUTO
from ..runs import as_json, save_recovery
from .options import named_activations
from .progress_bars import ProgressBars
from .recover_commands import RecoverFunction
from .recovering import Interrupted, require_exact
from .report import report
from .run_folder import finish, run_folder

_LOG = "answers.safetensors"
_KEPT = 1000  # questions and answers that the run keeps to compare networks on


def named_function(name: str) -> Callable[[Any], Any]:
    """The function of that name, as package.module:name; modules of the current folder are found too.

    Raises:
        ValueError: If there is no such module, or nothing to call in it.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"`function` is package.module:name, as mymodel:predict; got {name!r}.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"`function`: {name} is not to be had ({error}).") from error
    if not callable(found):
        raise ValueError(f"`function`: {name} is {type(found).__name__}, which can't be called.")
    return found


def recover_function(command: RecoverFunction, console: Console) -> None:
    """`ecjax recover function`."""
    fn = named_function(command.function)
    depth = command.hidden_layers
    kinds = command.activation
    if AUTO not in (kinds, depth):
        kinds = named_activations(kinds, int(depth))
    description = {
        "command": "function",
        **{name: value for name, value in as_json(command).items() if name not in ("output", "batch", "max_questions")},
    }
    with run_folder(command.output, "function", description) as (partial, interrupted):
        teacher = Teacher(
            fn,
            fan_in=command.fan_in,
            batch=command.batch,
            answers=command.answers,
            max_questions=command.max_questions,
            log=partial / _LOG,
        )
        if interrupted:
            console.print(f"going on in {partial}: {teacher.answered:,} answers are there", highlight=False)
        key = jr.key(command.seed)
        try:
            with ProgressBars(console) as progress:
                recovery = recover(teacher, activation=kinds, hidden_layers=depth, key=key, progress=progress)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {teacher.answered:,} answers are safe in {partial}\n"
                "the same command goes on from there, and asks nothing twice"
            ) from None
        x = gaussian_queries(_KEPT, command.fan_in, key=jr.fold_in(key, 1))
        recovery = replace(recovery, questions=teacher.answered)  # by this process or one before it
        save_recovery(partial, recovery, data=Data.of(x, teacher(x)))
        teacher.save()  # whatever was asked since it was last written
        report(console, recovery, None, finish(partial), x)
        require_exact(recovery, command.output)
