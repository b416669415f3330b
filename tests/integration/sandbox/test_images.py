"""Which image, runtime and network a program gets: by language, by task, by agent, all the way from the payload."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from app.settings import Settings, settings
from tests.integration.sandbox.sandboxes import Run, run_in
from tests.support import employ, post_one, start
from workers.execution import run_code
from workers.heart import Hold
from workers.sandbox import Verdict
from workers.sandbox.docker import DockerSandbox
from workers.sandbox.process import ProcessSandbox

WHICH_NODE = "import shutil; print(shutil.which('node'))"
SCRIPT = """
    const fs = require("fs");
    fs.writeSync(Number(process.env.CLAWQ_PROGRESS_FD), '{"progress": 50}\\n');
    fs.writeFileSync("out/answer", "42");
    console.log(process.argv.slice(2).join(), fs.readFileSync(0, "utf8"), process.env.A, fs.readdirSync(".").join());
    process.exit(3);
"""
GIVEN: dict[str, Any] = {"language": "javascript", "args": ("a", "b"), "stdin": "in", "env": {"A": "e"}}


@pytest.mark.usefixtures("javascript_image")
def test_a_javascript_program_in_docker(docker_sandbox: DockerSandbox) -> None:
    result = run_in(docker_sandbox, SCRIPT, **GIVEN)
    result.close()
    assert (result.verdict, result.exit_code) == (Verdict.NONZERO_EXIT, 3), result
    assert result.stdout == "a,b in e main.js,out\n"


def test_a_javascript_program_as_a_process(process_sandbox: ProcessSandbox) -> None:
    if not shutil.which("node", path="/usr/bin:/bin"):
        pytest.skip("no node under /usr")
    result = run_in(process_sandbox, SCRIPT, **GIVEN)
    result.close()
    assert (result.verdict, result.exit_code) == (Verdict.NONZERO_EXIT, 3), result
    assert result.stdout == "a,b in e main.js,out\n"


@pytest.mark.usefixtures("javascript_image")
@pytest.mark.parametrize("memory_mb", [48, 256])
def test_a_javascript_program_that_takes_too_much_memory_is_oom(docker_sandbox: DockerSandbox, memory_mb: int) -> None:
    hog = "const kept = []; for (;;) kept.push(Buffer.alloc(1 << 20, 1));"
    assert run_in(docker_sandbox, hog, language="javascript", memory_mb=memory_mb).verdict is Verdict.OOM


def test_a_program_has_no_more_open_files_and_no_larger_file_than_asked_for(run: Run) -> None:
    code = """
        import resource
        print([resource.getrlimit(which) for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)])
    """
    for open_files in (16, 1024):
        result = run(code, open_files=open_files, file_mb=3)
        assert result.stdout == f"[({open_files}, {open_files}), ({3 << 20}, {3 << 20})]\n", result


def test_a_process_has_no_choice_of_image_runtime_and_network(process_sandbox: ProcessSandbox) -> None:
    for choice in ("image", "runtime", "network"):
        result = run_in(process_sandbox, "print(1)", **{choice: "x"})
        assert (result.verdict, result.stdout) == (Verdict.INFRA_ERROR, "")
        assert f"no choice of {choice}" in str(result.error)


def test_what_the_engine_does_not_have_is_named(docker_sandbox: DockerSandbox) -> None:
    for choice in ("image", "runtime", "network"):
        result = run_in(docker_sandbox, "print(1)", **{choice: "clawq-none"})
        assert result.verdict is Verdict.INFRA_ERROR
        assert "clawq-none" in str(result.error)


def ended(sandbox: DockerSandbox, **task: Any) -> dict[str, Any]:
    """The result of a task that is posted, admitted, claimed and run."""
    outcome = run_code(Hold(start(post_one(**task)), good_until=0), sandbox)
    assert outcome.result is not None, outcome
    return outcome.result


def test_an_agent_s_image_runs_its_programs_and_no_others(
    clawq: pytest.MonkeyPatch, docker_sandbox: DockerSandbox, javascript_image: str
) -> None:
    employ()
    employ(agent_id="scripts", sandbox={"images": {"python": javascript_image}, "runtime": "runc"})
    program = {"task_type": "python", "payload": {"code": WHICH_NODE}}
    assert ended(docker_sandbox, **program, assigned_to="scripts")["stdout"] == "/usr/bin/node\n"
    assert ended(docker_sandbox, **program, assigned_to="execution_agent")["stdout"] == "None\n"


def test_a_container_task_runs_its_command_in_its_image(
    clawq: pytest.MonkeyPatch, docker_sandbox: DockerSandbox, javascript_image: str
) -> None:
    clawq.setenv("CLAWQ_SANDBOX_IMAGES", f"{javascript_image},{Settings().sandbox_image}")
    settings.cache_clear()
    employ()
    command = {"argv": ["/bin/sh", "-c", "command -v node; cat in; id -u"], "files": {"in": "given\n"}}
    for image, node in ((javascript_image, "/usr/bin/node\n"), (Settings().sandbox_image, "")):
        result = ended(docker_sandbox, task_type="container", payload={"image": image, **command})
        assert (result["verdict"], result["stdout"]) == ("ok", f"{node}given\n65532\n")


def test_an_operator_s_runtime_is_the_one_that_is_used(
    clawq: pytest.MonkeyPatch, docker_sandbox: DockerSandbox
) -> None:
    clawq.setenv("CLAWQ_SANDBOX_RUNTIMES", '{"python": "clawq-none"}')
    settings.cache_clear()
    employ()
    claim = start(post_one(task_type="python", payload={"code": "print(1)"}))
    outcome = run_code(Hold(claim, good_until=0), docker_sandbox)
    assert outcome.kind == "infra"
    assert "clawq-none" in str(outcome.error)
    agents = start(post_one(task_type="shell", payload={"code": "echo 1"}))
    assert run_code(Hold(agents, good_until=0), docker_sandbox).kind == "succeeded"
