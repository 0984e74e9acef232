"""The static page: a folder of files that needs neither server nor network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lm_eval_sts.files import package_version
from lm_eval_sts.leaderboard import site_data
from lm_eval_sts.leaderboard.board import Computed
from lm_eval_sts.leaderboard.charts import library, specifications
from lm_eval_sts.leaderboard.grid import entry_name
from lm_eval_sts.leaderboard.submissions import Accepted
from lm_eval_sts.records import BoardSetting, Bounds, Ceiling, Entry, Outcome, save_record

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE: Final = Path(__file__).resolve().parent
_STATIC: Final = _HERE / "static"
_TEMPLATES: Final = _HERE / "templates"
_TARGETS: Final = {"delta": "signed change Δ", "magnitude": "its size |Δ|"}
_DECLARED: Final = {"delta": "the signed change Δ", "magnitude": "the size of the change |Δ|"}
_CATEGORIES: Final = {
    "predictor": "predictor: scored before any training",
    "training": "training: trains a little",
    "null": "null: knows nothing of the model or the SFT set",
    "oracle": "oracle: saw the tuned model, ranked apart",
    "published": "published: digitised from a paper",
}

Facts = Sequence[tuple[str, str | None]]


def write_site(computed: Computed, folder: Path) -> None:
    """Writes all pages, their scripts and data into an empty folder.

    Args:
        computed: The board.
        folder: Where; made if it is not there.

    Raises:
        SettingsError: A library of the extra ``board`` is not installed.
        OSError: The folder cannot be written.
    """
    _write_assets(computed, folder)
    _write_data(computed, folder)
    pages = _Pages(computed, folder)
    pages.write("index.html", "index.html", here="board")
    pages.write("settings.html", "settings.html", here="settings", data=_setting_list(computed))
    for setting in computed.board.settings:
        _write_setting(pages, computed, setting)
    _write_predictors(pages, computed)


class _Pages:
    """Templates and what all of them know."""

    def __init__(self, computed: Computed, folder: Path) -> None:
        self._folder = folder
        self._templates: Environment = _environment()
        self._common = {"board": computed.board, "version": package_version("lm-eval-sts")}

    def write(self, path: str, template: str, **values: Any) -> None:
        """Renders one page; ``up`` leads from it to the site's root."""
        page = self._templates.get_template(template).render(up="../" * path.count("/"), **self._common, **values)
        _write(self._folder / path, page)


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _write_assets(computed: Computed, folder: Path) -> None:
    assets = folder / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    for path in sorted(_STATIC.iterdir()):
        shutil.copyfile(path, assets / path.name)
    _write(assets / "vega.js", library())
    _write(assets / "specs.js", _assigned("specs", specifications()))
    _write(assets / "entries.js", _assigned("entries", site_data.entries(computed.board.entries)))
    _write(assets / "slices.js", _assigned("slices", site_data.slices(computed)))
    _write(folder / "board.json", computed.board.model_dump_json(indent=2) + "\n")


def _write_data(computed: Computed, folder: Path) -> None:
    data = folder / "data"
    places = {entry.name: i for i, entry in enumerate(computed.board.entries)}
    for scope in computed.board.scopes:
        key = f"scopes/{scope.name}"
        _write(data / f"{key}.js", _received(key, site_data.scope_tables(scope, places)))
    for name, outcome in computed.inputs.settings.items():
        key, raw = f"settings/{name}", site_data.raw_data(computed, name)
        _write(data / f"{key}.js", _received(key, site_data.setting_tables(computed, raw, places)))
        _write(data / f"{key}.json", _json(site_data.setting_json(raw)) + "\n")
        _write(data / f"{key}.csv", site_data.setting_csv(raw))
        save_record(outcome, data / f"outcomes/{name}.json")
    for accepted in computed.inputs.entries:
        path = data / f"submissions/{entry_name(accepted)}.json"
        save_record(accepted.submission, path)


def _setting_list(computed: Computed) -> list[dict[str, Any]]:
    return [
        {
            "name": setting.name,
            "model": setting.model,
            "sft_set": setting.sft_set,
            "benchmark": setting.benchmark,
            "n_domains": setting.n_domains,
            "seeds": setting.seeds,
            "reliability": setting.reliability,
            "low": setting.reliability_interval.low if setting.reliability_interval else None,
            "high": setting.reliability_interval.high if setting.reliability_interval else None,
            **{target: limit.value if limit else None for target, limit in setting.ceilings.items()},
            "entries": len(computed.singles[setting.name]["delta"]),
        }
        for setting in computed.board.settings
    ]


def _write_setting(pages: _Pages, computed: Computed, setting: BoardSetting) -> None:
    outcome = computed.inputs.settings[setting.name]
    pages.write(
        site_data.setting_page(setting.name),
        "setting.html",
        here="setting",
        setting=setting,
        outcome=outcome,
        facts_shown=_setting_facts(setting, outcome),
        provenance=_provenance_facts(outcome),
        data={"id": f"settings/{setting.name}", "unit": setting.unit},
    )


def _setting_facts(setting: BoardSetting, outcome: Outcome) -> Facts:
    measurement, recipe = outcome.measurement, outcome.recipe
    trained = None
    if recipe is not None:
        length = f"{recipe.max_steps} steps" if recipe.max_steps else f"{recipe.epochs:g} epochs"
        trained = f"{recipe.method}, learning rate {recipe.learning_rate:g}, {length} of {recipe.batch_size} examples"
    return (
        ("Base model", setting.model),
        ("SFT set", setting.sft_set or "not published"),
        ("Examples", f"{outcome.sft_set.n_examples:,}" if outcome.sft_set else None),
        ("Fine-tuning", trained),
        ("Fine-tuning seeds", str(setting.seeds) if setting.seeds else "not known"),
        ("Benchmark", f"{setting.benchmark}, version {measurement.version}"),
        ("Domains", str(setting.n_domains)),
        ("Change of", f"{setting.view.replace('_', ' ')} ({measurement.metric}), {setting.unit}"),
        ("Reliability of Δ", _with_bounds(setting.reliability, setting.reliability_interval)),
        ("Expected for a perfect predictor of |Δ|", _ceiling(setting.ceilings["magnitude"])),
        ("Expected for a perfect predictor of Δ", _ceiling(setting.ceilings["delta"])),
    )


def _provenance_facts(outcome: Outcome) -> Facts:
    provenance, measurement = outcome.provenance, outcome.measurement
    return (
        ("Command", provenance.command),
        ("Created", provenance.created),
        ("Packages", ", ".join(f"{name} {version}" for name, version in sorted(provenance.package_versions.items()))),
        ("Weights hash", outcome.model.weights_hash),
        ("SFT set hash", outcome.sft_set.content_hash if outcome.sft_set else None),
        ("Documents hash", measurement.documents_hash),
        ("Prompts hash", measurement.prompts_hash),
        ("lm-eval", measurement.lm_eval_version),
        ("Shots", str(measurement.num_fewshot) if measurement.num_fewshot is not None else None),
    )


def _write_predictors(pages: _Pages, computed: Computed) -> None:
    rows = site_data.predictor_tables(computed)
    scopes = {scope.name: {"title": scope.title, "placed": {}} for scope in computed.board.scopes}
    for scope in computed.board.scopes:
        placed: dict[str, int] = {}
        for table in scope.tables:
            for row in table.rows:
                key = f"{table.target}/{table.values}/{row.group}"
                placed[key] = placed.get(key, 0) + (row.best is not None)
        scopes[scope.name]["placed"] = placed
    settings = {setting.name: setting for setting in computed.board.settings}
    for accepted, entry in zip(computed.inputs.entries, computed.board.entries, strict=True):
        _write_predictor(pages, accepted, entry, rows[entry.name], scopes, settings)


def _write_predictor(
    pages: _Pages,
    accepted: Accepted,
    entry: Entry,
    rows: Mapping[str, list[list[Any]]],
    scopes: Mapping[str, Any],
    settings: Mapping[str, BoardSetting],
) -> None:
    submission = accepted.submission
    used = {row[0] for row in rows["scopes"]}
    declared = submission.target
    pages.write(
        site_data.predictor_page(entry.name),
        "predictor.html",
        here="predictor",
        entry=entry,
        submission=submission,
        facts_shown=_predictor_facts(accepted, entry),
        targets=sorted(_TARGETS.items(), key=lambda option: option[0] != declared),
        data={
            "standing": site_data.STANDING,
            "single": site_data.SINGLE,
            "tables": rows,
            "scopes": {key: value for key, value in scopes.items() if key in used},
            "settings": [
                {"name": key, "sft_set": one.sft_set, "model": one.model, "benchmark": one.benchmark}
                for key, one in settings.items()
                if key in submission.settings
            ],
            "sealed": sorted(accepted.sealed),
        },
    )


def _predictor_facts(accepted: Accepted, entry: Entry) -> Facts:
    submission = accepted.submission
    cost = submission.cost
    seconds = None
    if cost is not None and cost.seconds is not None:
        seconds = f"{cost.seconds:,.4g} on {cost.hardware or 'hardware that is not stated'}"
    return (
        ("Category", _CATEGORIES[submission.category]),
        ("Predicts", _DECLARED[submission.target]),
        ("Source", submission.source),
        ("Settings", str(len(submission.settings))),
        ("Sealed before the outcome", _sealed(entry)),
        ("Same order of domains as", ", ".join(entry.same_order) or None),
        ("Fitted on measured changes", "yes" if entry.fitted_on else "no"),
        ("Tokens forwards a setting", f"{cost.forward_tokens:,.0f}" if cost else "not stated"),
        ("Tokens backwards a setting", f"{cost.backward_tokens:,.0f}" if cost else None),
        ("Seconds a setting", seconds),
    )


def _sealed(entry: Entry) -> str:
    if entry.sealer is None:
        return "no"
    found = entry.sealer
    return f"{len(entry.sealed)} settings ({found.revealed} of {found.seals} seals of {found.submitter} are revealed)"


def _with_bounds(value: float | None, interval: Bounds | None) -> str | None:
    if value is None:
        return "not known"
    return f"{value:.2f} [{interval.low:.2f}, {interval.high:.2f}]" if interval else f"{value:.2f}"


def _ceiling(limit: Ceiling | None) -> str:
    return "not known" if limit is None else f"{limit.value:.2f} [{limit.low:.2f}, {limit.high:.2f}]"


def _assigned(name: str, value: object) -> str:
    return f"stsBoard.{name} = {_json(value)};\n"


def _received(key: str, value: object) -> str:
    return f"stsBoard.receive({_json(key)}, {_json(value)});\n"


def _json(value: object) -> str:
    """JSON in ASCII without spaces; NaN would be an error."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
