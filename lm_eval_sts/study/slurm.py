"""A study as Slurm job arrays: one script that submits itself, a stage after the other."""

from __future__ import annotations

import shlex
from typing import Final

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.study.state import Standing

_SCRIPT: Final = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --output={logs}/%x-%A_%a.log
#SBATCH --gpus=1
# {count} jobs of {file} in {stages}: each task of an array does one, each array when the one before has
# ended. Add what your cluster needs (--time, --mem, --partition) above, or give it to sbatch by SBATCH_ variables;
# then submit all by: bash THIS_FILE
set -euo pipefail
study={file}
work={work}
{arrays}
if [[ -n ${{SLURM_ARRAY_TASK_ID:-}} ]]; then
  name="stage_$1[$SLURM_ARRAY_TASK_ID]"
  exec lm-eval-sts study job "$study" "${{!name}}" --work "$work"
fi
mkdir -p {logs}
after=()
for stage in {numbers}; do
  names="stage_$stage[@]"
  names=("${{!names}}")
  id=$(sbatch --parsable ${{after[@]+"${{after[@]}}"}} --array="0-$((${{#names[@]}} - 1))" "$0" "$stage")
  echo "stage $stage: ${{#names[@]}} jobs, array ${{id%%;*}}"
  after=(--dependency="afterany:${{id%%;*}}")
done
"""


def stages(standing: Standing) -> list[list[str]]:
    """Names of what is left, in stages of which each needs only earlier ones.

    Measuring base models comes first, with one prediction for each, which reads the domains that all others share.
    """
    left = {job.name: job for job in standing.left()}
    depth: dict[str, int] = {}
    readers: dict[str, str] = {}
    read = {job.base for job in standing.everything if job.kind == "predict" and standing.done(job)}
    for job in left.values():
        if job.kind == "predict" and job.base not in read and not any(name in left for name in job.after):
            readers.setdefault(job.base, job.name)

    def stage(name: str) -> int:
        if name not in depth:
            job = left[name]
            after = [needed for needed in job.after if needed in left]
            reader = readers.get(job.base) if job.kind == "predict" else None
            if reader is not None and reader != name:
                after.append(reader)
            depth[name] = 1 + max((stage(needed) for needed in after), default=-1)
        return depth[name]

    found: list[list[str]] = []
    for name in left:
        while len(found) <= stage(name):
            found.append([])
    for name in left:
        found[depth[name]].append(name)
    return found


def script(standing: Standing) -> str:
    """A bash script that submits what is left.

    Raises:
        SettingsError: Nothing is left.
    """
    found = stages(standing)
    if not found:
        raise SettingsError(f"nothing of {standing.study.name} is left to be done: see study jobs for what failed")
    arrays = [
        "\n".join([f"stage_{i}=(", *(f"  {shlex.quote(name)}" for name in names), ")"]) for i, names in enumerate(found)
    ]
    logs = standing.work.root / "logs"
    return _SCRIPT.format(
        name=standing.study.name,
        logs=shlex.quote(str(logs)),
        count=sum(map(len, found)),
        file=shlex.quote(str(standing.study.path)),
        stages=f"{len(found)} stage" + ("s" if len(found) > 1 else ""),
        work=shlex.quote(str(standing.work.root)),
        arrays="\n".join(arrays),
        numbers=" ".join(str(i) for i in range(len(found))),
    )
