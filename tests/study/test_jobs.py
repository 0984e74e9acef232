"""Jobs, what they need, their order, and where each stands."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.files import locked
from lm_eval_sts.records import FinishedJob, save_record
from lm_eval_sts.study.costs import Costs, costs_file
from lm_eval_sts.study.doing import fail, now
from lm_eval_sts.study.inputs import inputs_hash
from lm_eval_sts.study.jobs import Work, jobs, named, only
from lm_eval_sts.study.slurm import script, stages
from lm_eval_sts.study.state import Standing
from tests.study.studies import LAWS, MATHS, changed, finish, write

TUNE = "tune/shipped/{}.seed{}"
MAIN = "predict/shipped/main/{}"
RICH = changed("recipes", "main", "seeds", to=[0, 1])
RICH["recipes"]["strong"] = {"max_steps": 50, "sft_sets": [MATHS]}
RICH["conditions"] = {
    "n10": {"settings": {"n_features": 10}, "sft_sets": [LAWS]},
    "seen": {"predictors": ["oracle_sts_shift"], "oracles": True, "sft_sets": [MATHS]},
    "fitted": {"predictors": ["null_domain_mean"], "learns": True, "sft_sets": [LAWS]},
}


@pytest.fixture
def standing(tmp_path):
    return Standing(write(tmp_path, RICH), Work(tmp_path / "work"))


def took(standing: Standing, name: str, seconds: float, memory: int = 1) -> None:
    job = standing.by_name[name]
    record = FinishedJob(
        job=name,
        inputs_hash=inputs_hash(standing.study, job),
        seconds=seconds,
        memory={"cpu": memory},
        device="cpu",
        created=now(),
    )
    save_record(record, standing.work.finished(job))
    finish(standing.work, job)


def test_jobs_and_what_they_need(standing):
    names = [job.name for job in standing.jobs]
    assert names == [
        "base/shipped",
        TUNE.format(LAWS, 0),
        TUNE.format(MATHS, 0),
        TUNE.format(f"{MATHS}-strong", 0),
        TUNE.format(LAWS, 1),
        TUNE.format(MATHS, 1),
        MAIN.format(LAWS),
        MAIN.format(MATHS),
        f"predict/shipped/n10/{LAWS}",
        f"predict/shipped/seen/{MATHS}",
        f"predict/shipped/fitted/{LAWS}",
    ]
    after = {job.name: set(job.after) for job in standing.jobs}
    assert all(after[name] == {"base/shipped"} for name in names if name.startswith("tune"))
    assert after[MAIN.format(LAWS)] == after[f"predict/shipped/n10/{LAWS}"] == set()
    assert after[f"predict/shipped/seen/{MATHS}"] == {TUNE.format(MATHS, 0)}
    # Of other SFT sets, never its own.
    assert after[f"predict/shipped/fitted/{LAWS}"] == {
        TUNE.format(MATHS, 0), TUNE.format(MATHS, 1), MAIN.format(LAWS), MAIN.format(MATHS)
    }  # fmt: skip


def test_only_takes_what_is_needed_with_it(standing):
    def chosen(*patterns: str) -> list[str]:
        return [job.name for job in only(standing.everything, patterns)]

    assert chosen() == [job.name for job in standing.everything]
    assert chosen(f"predict/shipped/seen/{MATHS}") == [
        "base/shipped", TUNE.format(MATHS, 0), f"predict/shipped/seen/{MATHS}"
    ]  # fmt: skip
    assert chosen("predict/shipped/n10") == [f"predict/shipped/n10/{LAWS}"]
    assert chosen("*/main/*") == [MAIN.format(LAWS), MAIN.format(MATHS)]
    with pytest.raises(SettingsError, match="fits no job: did you mean"):
        chosen("predict/shipped/n11")
    with pytest.raises(SettingsError, match="has no job 'base/ship'"):
        named(standing.study, "base/ship")


def test_the_longest_way_to_the_end_comes_first(standing):
    first = [job.name for job in standing.ready()]
    assert first == ["base/shipped", MAIN.format(LAWS), MAIN.format(MATHS), f"predict/shipped/n10/{LAWS}"]
    took(standing, "base/shipped", 5.0)
    took(standing, TUNE.format(LAWS, 0), 100.0)
    took(standing, MAIN.format(LAWS), 300.0)
    # What a fitted prediction needs and takes long itself, then what nothing needs.
    order = [job.name for job in standing.ready()]
    assert order[:4] == [
        MAIN.format(MATHS),
        TUNE.format(MATHS, 0),
        TUNE.format(MATHS, 1),
        f"predict/shipped/n10/{LAWS}",
    ]
    assert order[4:] == [TUNE.format(f"{MATHS}-strong", 0), TUNE.format(LAWS, 1)]
    assert standing.levels()[MAIN.format(MATHS)] == 600.0  # with the prediction that is fitted on it


def test_how_long_and_how_much_is_learnt_from_what_is_done(standing):
    tune, strong = standing.by_name[TUNE.format(LAWS, 1)], standing.by_name[TUNE.format(f"{MATHS}-strong", 0)]
    assert standing.expected(tune) is None and standing.seconds_left(1) is None and standing.memory(tune) == {}
    planned = Costs(seconds={TUNE.format(LAWS, 0): 10.0, tune.name: 20.0}, memory={tune.name: {"cpu": 7}}, device="cpu")
    save_record(planned, costs_file(standing.work))
    assert standing.expected(tune) == 20.0 and standing.memory(tune) == {"cpu": 7}
    took(standing, TUNE.format(LAWS, 0), 30.0, memory=11)
    standing.finished()
    assert standing.expected(tune) == 60.0  # three times as long as planned, as the one that is done
    assert standing.expected(strong) == 30.0 and standing.memory(strong) == {"cpu": 11}
    took(standing, MAIN.format(LAWS), 8.0)
    took(standing, "base/shipped", 4.0)
    assert standing.seconds_left(1) == 30.0 * 3 + 60.0 + 8.0 * 4 and standing.seconds_left(2) == 91.0


def test_where_each_job_stands(standing):
    work, by_name = standing.work, standing.by_name
    took(standing, "base/shipped", 1.0)
    fail(standing, by_name[TUNE.format(MATHS, 0)], "no luck")
    with locked(work.lock(by_name[MAIN.format(LAWS)])):
        # The same process may take it again, another may not.
        code = "import sys\nfrom pathlib import Path\nfrom lm_eval_sts.study.design import read_study\n"
        code += "from lm_eval_sts.study.jobs import Work\nfrom lm_eval_sts.study.state import Standing\n"
        code += "s = Standing(read_study(Path(sys.argv[1])), Work(Path(sys.argv[2])))\n"
        code += "print(*[s.state(job) for job in s.jobs])"
        command = [os.sys.executable, "-c", code, str(standing.study.path), str(work.root)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split() == [
        "done",
        "ready",
        "failed",
        *["ready"] * 3,
        "running",
        *["ready"] * 2,
        *["waiting"] * 2,
    ]
    assert [job.name for job in standing.hindered(by_name[f"predict/shipped/fitted/{LAWS}"])] == [TUNE.format(MATHS, 0)]
    assert f"predict/shipped/seen/{MATHS}" not in {job.name for job in standing.open()}
    again = Standing(standing.study, work, ignored={TUNE.format(MATHS, 0): 1})
    assert again.state(by_name[TUNE.format(MATHS, 0)]) == "ready"


def test_records_are_of_a_design(standing, tmp_path):
    hashes = {job.name: inputs_hash(standing.study, job) for job in standing.jobs}
    assert len(set(hashes.values())) == len(hashes)

    def differ(content) -> set[str]:
        study = write(tmp_path, content)
        return {job.name for job in jobs(study) if inputs_hash(study, job) != hashes[job.name]}

    assert differ(changed("predict", "batch_size", to=1, of=RICH)) == set()
    assert differ(changed("finetune", "keep_weights", to=True, of=RICH)) == set()
    assert differ(changed("title", to="Another", of=RICH)) == set()
    assert differ(changed("measure", "limit", to=3, of=RICH)) == {n for n in hashes if not n.startswith("predict")}
    assert differ(changed("predict", "limit", to=3, of=RICH)) == {n for n in hashes if n.startswith("predict")}
    assert differ(changed("conditions", "n10", "settings", to={}, of=RICH)) == {f"predict/shipped/n10/{LAWS}"}
    strong = changed("recipes", "strong", "max_steps", to=9, of=RICH)
    assert differ(strong) == {TUNE.format(f"{MATHS}-strong", 0)}
    # A further seed changes the outcomes that a fitted prediction was shown.
    seeds = changed("recipes", "main", "seeds", to=[0], of=RICH)
    assert differ(seeds) == {f"predict/shipped/fitted/{LAWS}"}


# ---- Slurm


def test_stages_need_only_earlier_ones(standing):
    found = stages(standing)
    assert found[0] == ["base/shipped", MAIN.format(LAWS)]  # the prediction reads the domains for all others
    seen = set()
    for names in found:
        assert all(set(standing.by_name[name].after) <= seen for name in names)
        seen |= set(names)
    assert seen == set(standing.by_name) and len(found) == 3
    took(standing, "base/shipped", 1.0)
    took(standing, MAIN.format(MATHS), 1.0)
    assert sum(stages(standing), []).count("base/shipped") == 0
    assert MAIN.format(LAWS) in stages(standing)[0] and f"predict/shipped/n10/{LAWS}" in stages(standing)[0]


def test_the_script_submits_itself_and_each_task_does_one_job(standing, tmp_path):
    file = tmp_path / "submit.sh"
    file.write_text(script(standing))
    tools = tmp_path / "bin"
    tools.mkdir()
    log = tmp_path / "log.txt"
    # A cluster that runs each array at once.
    sbatch = """#!/bin/bash
    echo "sbatch $*" >> LOG
    for option in "$@"; do case $option in --array=*) last=${option##*-};; esac; done
    for i in $(seq 0 $last); do SLURM_ARRAY_TASK_ID=$i bash "${@: -2}" || exit 1; done
    n=$(grep -c ^sbatch LOG); echo "10$n;cluster"
    """
    (tools / "sbatch").write_text("\n".join(map(str.strip, sbatch.splitlines())).replace("LOG", str(log)))
    (tools / "lm-eval-sts").write_text(f'#!/bin/bash\necho "job $*" >> {log}\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", str(file)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines()
    submitted = [line for line in lines if line.startswith("sbatch")]
    assert [line.count("--dependency") for line in submitted] == [0, 1, 1]
    assert "--dependency=afterany:101 --array=0-6" in submitted[1] and "afterany:102" in submitted[2]
    done_jobs = [line.split()[4] for line in lines if line.startswith("job")]
    assert done_jobs == sum(stages(standing), [])
    first = lines[1].split()
    assert first[:3] == ["job", "study", "job"] and first[3] == str(standing.study.path)
    assert first[5:] == ["--work", str(standing.work.root)]


def test_nothing_left_for_slurm(standing):
    for name in standing.by_name:
        took(standing, name, 1.0)
    with pytest.raises(SettingsError, match="nothing of small is left"):
        script(standing)
