"""A small runner of GitHub's workflows: it reads the real YAML, and runs the steps' scripts on machines.

What it knows is what the workflows use: jobs with needs, conditions, matrix and outputs; workflows that call
others; expressions; and, in place of the actions, what they do to files. Scripts run for real. Machines share
nothing but what workflows hand on; each has an empty home and an environment of its own, and some have a
volume that stays.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Any

import yaml

Values = Mapping[str, Any]
_TOKEN = re.compile(
    r"\s*(?:('(?:[^']|'')*')|(\d+(?:\.\d+)?)|([A-Za-z_][\w-]*)|(&&|\|\||[!=<>]=|[!<>()\[\],.*]))"
)
_HOLE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)


class Expression:
    """An expression of a workflow, evaluated as GitHub does it."""

    def __init__(self, text: str, contexts: Values, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._contexts, self._functions = contexts, functions
        self._tokens: list[str] = []
        place = 0
        while place < len(text.rstrip()):
            found = _TOKEN.match(text, place)
            assert found, f"not understood: {text[place:]!r}"
            self._tokens.append(found[0].strip())
            place = found.end()

    def value(self) -> Any:
        value = self._either()
        assert not self._tokens, f"left over: {self._tokens}"
        return value

    def _next(self, *wanted: str) -> str | None:
        return self._tokens.pop(0) if self._tokens and self._tokens[0] in wanted else None

    def _either(self) -> Any:
        value = self._both()
        while self._next("||"):
            other = self._both()
            value = value if is_true(value) else other
        return value

    def _both(self) -> Any:
        value = self._compared()
        while self._next("&&"):
            other = self._compared()
            value = other if is_true(value) else value
        return value

    def _compared(self) -> Any:
        value = self._negated()
        while sign := self._next("==", "!=", "<", ">", "<=", ">="):
            other = self._negated()
            if sign in ("==", "!="):
                value = (plain(value) == plain(other)) == (sign == "==")
            else:
                first, second = float(value or 0), float(other or 0)
                value = {"<": first < second, ">": first > second, "<=": first <= second}.get(
                    sign, first >= second
                )
        return value

    def _negated(self) -> Any:
        return not is_true(self._negated()) if self._next("!") else self._reached()

    def _reached(self) -> Any:
        value = self._first()
        while sign := self._next(".", "["):
            if sign == "[":
                key = self._either()
                assert self._next("]")
            else:
                key = self._tokens.pop(0)
            if key == "*":
                value = [*(value or ())]
            elif isinstance(value, list) and not isinstance(key, int | float):
                value = [each.get(key) for each in value]
            elif isinstance(value, list):
                value = value[int(key)] if int(key) < len(value) else None
            else:
                value = (value or {}).get(key)
        return value

    def _first(self) -> Any:
        token = self._tokens.pop(0)
        if token == "(":
            value = self._either()
            assert self._next(")")
            return value
        if token[0] == "'":
            return token[1:-1].replace("''", "'")
        if token[0].isdigit():
            return float(token)
        if token in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[token]
        if self._next("("):
            arguments = []
            while not self._next(")"):
                arguments.append(self._either())
                self._next(",")
            return self._functions[token](*arguments)
        assert token in self._contexts, f"there is no context {token!r} here"
        return self._contexts[token]


def is_true(value: Any) -> bool:
    return value not in (None, False, 0, "")


def plain(value: Any) -> Any:
    """A value as `==` compares it: nothing, false and an empty text are all 0, and case does not count."""
    return 0 if value in (None, False, "") else value.lower() if isinstance(value, str) else value


def contains(where: Any, what: Any) -> bool:
    return what in (where or ())


@dataclass
class Machine:
    """A machine: its folder, which holds an empty home and all that its jobs leave, and its variables.

    Attributes:
        folder: of the machine.
        variables: besides those that the runner sets, such as `PATH`.
    """

    folder: Path
    variables: dict[str, str]


@dataclass
class Job:
    """What became of a job."""

    name: str
    result: str
    outputs: dict[str, str] = field(default_factory=dict)
    steps: list[dict[str, str]] = field(default_factory=list)
    said: str = ""
    before: frozenset[str] = frozenset()


@dataclass
class Event:
    """What starts a workflow."""

    name: str
    ref: str = "refs/heads/main"
    payload: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] | None = None


class Service:
    """What GitHub keeps: the repository, caches, artefacts, the public pages, and past runs.

    Args:
        folder: for all of it.
        machine_for: the machine for a job, by the labels that it asks for and its number in the matrix.
    """

    def __init__(self, folder: Path, machine_for: Callable[[list[str], int], Machine]) -> None:
        self.folder, self.machine_for = folder, machine_for
        self.remote = folder / "course" / "course"
        self.variables: dict[str, str] = {}
        self.caches: list[tuple[str, str, Path]] = []
        self.public: list[Path] = []
        self.runs: dict[int, tuple[str, Event, dict[str, Job]]] = {}
        self.attempts: dict[int, int] = {}
        self.dying = ""  # the name of the job whose machine is taken away while it executes

    def git(self, *words: str) -> str:
        command = ["git", "-C", str(self.remote), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def start(self, workflow: str, event: Event) -> int:
        """Run a workflow for an event; the run's number."""
        number = len(self.runs) + 1
        self.attempts[number] = 1
        self.runs[number] = (workflow, event, {})
        self._attempt(number, {})
        return number

    def again(self, number: int) -> None:
        """Run the jobs that failed again, and those that need them."""
        self.attempts[number] += 1
        _, _, jobs = self.runs[number]
        self._attempt(number, {key: job for key, job in jobs.items() if job.result == "success"})

    def artefacts(self, number: int) -> Path:
        return self.folder / "artefacts" / str(number)

    def _attempt(self, number: int, kept: dict[str, Job]) -> None:
        workflow, event, _ = self.runs[number]
        run = Run(self, number, event)
        self.runs[number] = (workflow, event, run.workflow(workflow, kept))


class Run:
    """One attempt of a run."""

    def __init__(self, service: Service, number: int, event: Event) -> None:
        self.service, self.number, self.event = service, number, event
        self.commit = service.git("rev-parse", event.ref)
        self.github = {
            "event_name": event.name, "ref": event.ref, "sha": self.commit, "repository": "course/course",
            "actor": "maintainer", "token": "made-up", "run_id": number, "event": event.payload,
            "run_attempt": service.attempts[number], "server_url": service.folder.as_uri(),
        }  # fmt: skip

    def workflow(self, name: str, kept: Mapping[str, Job], prefix: str = "") -> dict[str, Job]:
        """Run the jobs of a workflow file, in order; those that are kept from an earlier attempt stand."""
        text = self.service.git("show", f"{self.commit}:.github/workflows/{name}")
        written = yaml.safe_load(text)
        done: dict[str, Job] = {}
        every: dict[str, Job] = {}
        for key, job in written["jobs"].items():
            needs = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
            assert set(needs) <= done.keys(), f"{name}: {key} stands before what it needs"
            contexts = self._contexts({need: done[need] for need in needs})
            ancestors = frozenset(each for need in needs for each in (need, *done[need].before))
            results = {done[each].result for each in ancestors}
            # What an earlier attempt did stands, unless something before it is done again.
            stands = all(f"{prefix}{each}" in kept for each in ancestors)
            before = kept if stands else {}
            if f"{prefix}{key}" in before:
                done[key] = before[f"{prefix}{key}"]
            elif not self._is_on(job.get("if"), contexts, results):
                done[key] = Job(key, "skipped")
            elif "uses" in job:
                inner = self.workflow(Path(job["uses"]).name, before, f"{prefix}{key} / ")
                every |= inner
                done[key] = self._called(Path(job["uses"]).name, key, inner, prefix)
            else:
                mine = []
                for number, matrix in enumerate(self._matrix(job, contexts)):
                    place = f"{prefix}{key} {number}" if matrix else f"{prefix}{key}"
                    part = before.get(place) or self._job(written, key, job, contexts, matrix, number)
                    every[place] = part
                    mine.append(part)
                failed = any(part.result != "success" for part in mine)
                whole = Job(key, "failure" if failed else "success", mine[-1].outputs)
                done[key] = whole if len(mine) > 1 or "strategy" in job else mine[0]
            done[key].before = ancestors
            every[f"{prefix}{key}"] = done[key]
        return every

    def _called(self, name: str, key: str, inner: Mapping[str, Job], prefix: str) -> Job:
        """A job that called a workflow: it failed if one in there did; its outputs are those of the file."""
        on = yaml.safe_load(self.service.git("show", f"{self.commit}:.github/workflows/{name}"))[True]
        start = f"{prefix}{key} / "
        jobs = {place.removeprefix(start): {"outputs": job.outputs} for place, job in inner.items()}
        outputs = (on["workflow_call"] or {}).get("outputs", {})
        values = {each: self._text(output["value"], {"jobs": jobs}) for each, output in outputs.items()}
        failed = any(job.result == "failure" for job in inner.values())
        return Job(key, "failure" if failed else "success", values)

    def _contexts(self, needs: Mapping[str, Job]) -> dict[str, Any]:
        return {
            "github": self.github,
            "vars": self.service.variables,
            "inputs": self.event.inputs or {},
            "needs": {key: {"result": job.result, "outputs": job.outputs} for key, job in needs.items()},
        }

    def _is_on(self, condition: Any, contexts: Values, results: set[str]) -> bool:
        """Whether a condition lets a job or a step run; one that does not speak of success asks for it."""
        text = str(condition if condition is not None else "success()").strip()
        text = _HOLE.sub(lambda found: found[1], text) if text.startswith("${{") else text
        functions = {
            "always": lambda: True,
            "cancelled": lambda: False,
            "failure": lambda: "failure" in results,
            "success": lambda: results <= {"success"},
        }
        if not re.search(r"\b(always|cancelled|failure|success)\(", text) and not functions["success"]():
            return False
        return is_true(self._value(text, contexts, functions))

    def _value(self, text: str, contexts: Values, functions: Values | None = None) -> Any:
        known: dict[str, Callable[..., Any]] = {
            "fromJSON": json.loads,
            "contains": contains,
            "startsWith": str.startswith,
        }
        return Expression(text, contexts, known | dict(functions or {})).value()

    def _text(self, text: Any, contexts: Values) -> Any:
        """A value of the YAML with its expressions put in; one that is nothing else keeps its kind."""
        if not isinstance(text, str):
            return text
        if (only := re.fullmatch(r"\$\{\{(.*)\}\}", text, re.DOTALL)) and text.count("${{") == 1:
            return self._value(only[1], contexts)
        return _HOLE.sub(lambda found: as_text(self._value(found[1], contexts)), text)

    def _matrix(self, job: Values, contexts: Values) -> Iterator[dict[str, Any]]:
        strategy = job.get("strategy")
        if strategy is None:
            yield {}
            return
        assert not strategy["fail-fast"]
        assert int(self._text(strategy.get("max-parallel", 1), contexts)) >= 1
        matrix = self._text(strategy["matrix"], contexts)
        assert matrix.keys() == {"include"}, matrix
        yield from matrix["include"]

    def _job(
        self, written: Values, key: str, job: Values, before: Values, matrix: Values, number: int
    ) -> Job:
        contexts = {**before, "matrix": matrix, "strategy": {"job-index": number}, "steps": {}}
        title = self._text(job.get("name", key), contexts)
        assert float(self._text(job["timeout-minutes"], contexts)) > 0
        labels = self._text(job["runs-on"], contexts)
        labels = [labels] if isinstance(labels, str) else labels
        if labels == ["ubuntu-24.04"]:
            assert float(self._text(job["timeout-minutes"], contexts)) <= 360, (
                "a hosted machine ends after six hours"
            )
        machine = self.service.machine_for(labels, number)
        container = job.get("container")
        volumes = {}
        if container:
            image = self._text(container["image"], contexts)
            assert (self.service.folder / "images" / image.replace("/", "+")).is_file(), f"no image {image!r}"
            asked = as_text(self._text(container.get("options", ""), contexts))
            assert ("--gpus all" in asked) == ("gpu" in labels), (
                "a container sees GPUs where it asks for them"
            )
            for volume in container.get("volumes", []):
                _, _, inside = self._text(volume, contexts).rpartition(":")
                volumes[inside] = str(machine.folder / "volume")
        made = Job(title, "success")
        workspace = machine.folder / "workspace"
        shutil.rmtree(workspace, ignore_errors=True)
        workspace.mkdir(parents=True)
        home = machine.folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        fixed = machine.variables | {"HOME": str(home), "LANG": "C.UTF-8", "GITHUB_ACTIONS": "true"}
        for step in job["steps"]:
            name = step.get("name", step.get("uses", ""))
            if not self._is_on(step.get("if"), contexts, {made.result}):
                made.steps.append({"name": name, "conclusion": "skipped"})
                continue
            env = {**written.get("env", {}), **job.get("env", {}), **step.get("env", {})}
            env = {variable: as_text(self._text(value, contexts)) for variable, value in env.items()}
            for inside, outside in volumes.items():
                env = {each: re.sub(rf"^{inside}(?=/|$)", outside, value) for each, value in env.items()}
            if "run" in step:
                outcome = self._script(step["run"], workspace, fixed | env, made, contexts, step, title)
            else:
                with_ = {each: self._text(value, contexts) for each, value in step.get("with", {}).items()}
                outcome = self._action(step["uses"].partition("@")[0], with_, workspace)
            made.steps.append({"name": name, "conclusion": outcome})
            if outcome != "success":
                made.result = "failure"
            if outcome == "vanished":
                made.steps[-1]["conclusion"] = "failure"
                break
        outputs = job.get("outputs", {})
        made.outputs = {each: as_text(self._text(value, contexts)) for each, value in outputs.items()}
        return made

    def _script(
        self,
        command: str,
        workspace: Path,
        env: dict[str, str],
        made: Job,
        contexts: Any,
        step: Values,
        title: str,
    ) -> str:
        output = workspace.parent / "output"
        output.write_text("")
        dies = workspace.parent / "dies"
        dies.unlink(missing_ok=True)
        env = env | {"GITHUB_OUTPUT": str(output)}
        is_dying = self.service.dying and self.service.dying in title
        if is_dying:
            env["DYING"] = str(dies)
        log = workspace.parent / "log"
        with log.open("w") as file:
            script = subprocess.Popen(
                ["bash", "-e", "-c", command],
                cwd=workspace,
                env=env,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
            while script.poll() is None and not dies.exists():
                time.sleep(0.1)
            if is_dying and dies.exists():
                self.service.dying = ""
                with suppress(ProcessLookupError):
                    os.killpg(script.pid, SIGKILL)
                script.wait()
                made.said += log.read_text() + "\n(the machine vanished)\n"
                return "vanished"
        made.said += f"$ {command}\n{log.read_text()}"
        found = dict(line.split("=", 1) for line in output.read_text().splitlines())
        contexts["steps"][step.get("id", "")] = {"outputs": found}
        return "success" if script.returncode == 0 else "failure"

    def _action(self, name: str, given: Mapping[str, Any], workspace: Path) -> str:
        service, artefacts = self.service, self.service.artefacts(self.number)
        match name:
            case "actions/checkout":
                assert given.get("persist-credentials") is False
                depth = [] if given.get("fetch-depth") == 0 else ["--depth", "1"]
                _git(workspace, "init", "--quiet")
                _git(
                    workspace,
                    "fetch",
                    "--quiet",
                    *depth,
                    service.remote.as_uri(),
                    f"+{self.event.ref}:refs/run",
                )
                if not depth:
                    _git(
                        workspace,
                        "fetch",
                        "--quiet",
                        service.remote.as_uri(),
                        "+refs/heads/*:refs/remotes/origin/*",
                    )
                _git(workspace, "checkout", "--quiet", "--detach", "refs/run")
            case "actions/setup-python":
                pass
            case "actions/cache/restore":
                there = [cache for cache in service.caches if cache[1] in (self.event.ref, "refs/heads/main")]
                wanted = [given["key"], given["restore-keys"]]
                hits = [path for want in wanted for key, _, path in reversed(there) if key.startswith(want)]
                if hits:
                    shutil.copytree(hits[0], workspace / given["path"], dirs_exist_ok=True)
            case "actions/cache/save":
                assert given["key"] not in [key for key, _, _ in service.caches], (
                    "a cache is never written over"
                )
                if (workspace / given["path"]).is_dir():
                    kept = service.folder / "caches" / str(len(service.caches))
                    shutil.copytree(workspace / given["path"], kept)
                    service.caches.append((given["key"], self.event.ref, kept))
            case "actions/upload-artifact":
                assert given["if-no-files-found"] in ("ignore", "error")
                target = artefacts / given["name"]
                assert not target.exists(), f"there is an artefact {given['name']!r} in this run"
                patterns = given["path"].split()
                alone = len(patterns) == 1 and (workspace / patterns[0]).is_dir()
                parents = [Path(pattern).parent for pattern in patterns]
                root = patterns[0] if alone else os.path.commonpath(parents)
                for pattern in patterns:
                    for found in workspace.glob(pattern):
                        for file in [found] if found.is_file() else found.rglob("*"):
                            place = file.relative_to(workspace / root)
                            if file.is_file() and not any(part.startswith(".") for part in place.parts):
                                (target / place).parent.mkdir(parents=True, exist_ok=True)
                                shutil.copy2(file, target / place)
            case "actions/download-artifact":
                if "name" in given:
                    shutil.copytree(artefacts / given["name"], workspace / given["path"], dirs_exist_ok=True)
                    return "success"
                for found in sorted(artefacts.iterdir()) if artefacts.exists() else ():
                    if fnmatch.fnmatch(found.name, given["pattern"]):
                        shutil.copytree(found, workspace / given["path"] / found.name)
            case "actions/upload-pages-artifact":
                shutil.copytree(workspace / given["path"], artefacts / given["name"])
            case "actions/deploy-pages":
                public = service.folder / "public" / str(len(service.public))
                shutil.copytree(artefacts / given["artifact_name"], public)
                service.public.append(public)
            case _:
                raise AssertionError(f"the rehearsal does not know the action {name}")
        return "success"


def as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def _git(folder: Path, *words: str) -> None:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
