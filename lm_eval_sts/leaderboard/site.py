"""The static page: a folder of files that needs neither server nor network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lm_eval_sts.files import package_version
from lm_eval_sts.leaderboard import site_data
from lm_eval_sts.leaderboard.board import Computed
from lm_eval_sts.leaderboard.charts import library, specifications
from lm_eval_sts.leaderboard.grid import entry_name
from lm_eval_sts.leaderboard.history import Revision
from lm_eval_sts.records import BoardSetting, save_record

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE: Final = Path(__file__).resolve().parent
_STATIC: Final = _HERE / "static"
_TEMPLATES: Final = _HERE / "templates"
_PAPER: Final = "https://arxiv.org/abs/2603.02908"


def write_site(computed: Computed, folder: Path, built: Revision | None = None) -> int:
    """Writes all pages, their scripts and data into an empty folder.

    Args:
        computed: The board.
        folder: Where; made if it is not there.
        built: What it was built from; None where that is not known.

    Returns:
        The number of pages.

    Raises:
        SettingsError: A library of the extra ``board`` is not installed.
        OSError: The folder cannot be written.
    """
    _write_assets(computed, folder)
    _write_data(computed, folder)
    pages = _Pages(computed, folder, built)
    pages.write("index.html", "index.html", here="board", empty=site_data.empty(computed))
    pages.write("settings.html", "settings.html", here="settings", data=_setting_list(computed))
    for setting in computed.board.settings:
        _write_setting(pages, computed, setting)
    _write_predictors(pages, computed)
    return pages.written


class _Pages:
    """Templates and what all of them know."""

    def __init__(self, computed: Computed, folder: Path, built: Revision | None) -> None:
        self._folder = folder
        self._templates: Environment = _environment()
        self._common = {
            "board": computed.board,
            "version": package_version("lm-eval-sts"),
            "built": built,
            "paper": _PAPER,
            "worlds": site_data.WORLDS,
        }
        self.written = 0

    def write(self, path: str, template: str, **values: Any) -> None:
        """Renders one page; ``up`` leads from it to the site's root."""
        page = self._templates.get_template(template).render({"up": "../" * path.count("/"), **self._common, **values})
        _write(self._folder / path, page)
        self.written += 1


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
    _write(assets / "entries.js", _assigned("entries", site_data.entries(computed)))
    _write(assets / "slices.js", _assigned("slices", site_data.slices(computed)))
    _write(assets / "worlds.js", _assigned("worlds", site_data.WORLDS))
    _write(folder / "board.json", computed.board.model_dump_json(indent=2) + "\n")


def _write_data(computed: Computed, folder: Path) -> None:
    data = folder / "data"
    for scope in computed.board.scopes:
        key = f"scopes/{scope.name}"
        _write(data / f"{key}.js", _received(key, site_data.scope_tables(computed, scope)))
    for name, outcome in computed.inputs.settings.items():
        key, raw = f"settings/{name}", site_data.setting_json(computed, name)
        _write(data / f"{key}.js", _received(key, {**site_data.setting_tables(computed, name), "raw": raw}))
        _write(data / f"{key}.json", _json(raw) + "\n")
        _write(data / f"{key}.csv", site_data.setting_csv(raw))
        save_record(outcome, data / f"outcomes/{name}.json")
    for accepted in computed.inputs.entries:
        save_record(accepted.submission, data / f"submissions/{entry_name(accepted)}.json")


def _setting_list(computed: Computed) -> list[dict[str, Any]]:
    """All registered settings, those of real models first."""
    kept = {"name", "model", "sft_set", "benchmark", "n_domains", "seeds", "reliability"}
    found = [
        {
            **setting.model_dump(include=kept),
            "world": site_data.world([setting.model]),
            "low": setting.reliability_interval.low if setting.reliability_interval else None,
            "high": setting.reliability_interval.high if setting.reliability_interval else None,
            **{target: limit.value if limit else None for target, limit in setting.ceilings.items()},
            "entries": len(computed.singles[setting.name]["delta"]),
        }
        for setting in computed.board.settings
    ]
    return sorted(found, key=lambda each: each["world"])


def _write_setting(pages: _Pages, computed: Computed, setting: BoardSetting) -> None:
    pages.write(
        site_data.setting_page(setting.name),
        "setting.html",
        here="setting",
        setting=setting,
        outcome=computed.inputs.settings[setting.name],
        world=site_data.world([setting.model]),
        data={"id": f"settings/{setting.name}", "unit": setting.unit},
    )


def _write_predictors(pages: _Pages, computed: Computed) -> None:
    tables = site_data.predictor_tables(computed)
    titles = {scope.name: scope.title for scope in computed.board.scopes}
    kept = {"name", "sft_set", "model", "benchmark"}
    settings = {setting.name: setting.model_dump(include=kept) for setting in computed.board.settings}
    for accepted, entry in zip(computed.inputs.entries, computed.board.entries, strict=True):
        pages.write(
            site_data.predictor_page(entry.name),
            "predictor.html",
            here="predictor",
            entry=entry,
            submission=accepted.submission,
            data={
                "standing": site_data.STANDING,
                "single": site_data.SINGLE,
                "tables": tables[entry.name],
                "titles": {row[0]: titles[row[0]] for row in tables[entry.name]["scopes"]},
                "settings": [settings[name] for name in accepted.submission.settings],
                "sealed": sorted(accepted.sealed),
            },
        )


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
