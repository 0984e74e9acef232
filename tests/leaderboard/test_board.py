"""The board: its statistics are those of compare, it is deterministic, and a build is all or nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from lm_eval_sts.agreement.compare import Rules, compare
from lm_eval_sts.commands import board as commands
from lm_eval_sts.errors import BusyError, RecordError, SettingsError, StsError
from lm_eval_sts.leaderboard import layout
from lm_eval_sts.leaderboard.board import Computed, compute, read_inputs
from lm_eval_sts.leaderboard.entries import entry_records
from lm_eval_sts.leaderboard.markdown import escaped, to_markdown
from lm_eval_sts.leaderboard.publish import build, check
from lm_eval_sts.leaderboard.scopes import resolve
from lm_eval_sts.records import (
    UNKNOWN,
    BenchmarkRef,
    DomainScore,
    ModelRef,
    Outcome,
    Prediction,
    PromptRef,
    Provenance,
    Scope,
    Seal,
    Sealer,
    Setting,
    SftSetRef,
    Standing,
    Submission,
    Table,
    load_record,
    save_record,
)
from lm_eval_sts.records.board import Board
from tests.leaderboard import boards
from tests.test_files import HOLDS

PROJECT = Path(__file__).parents[2]
PROVENANCE = Provenance(package_versions={}, command="test", created="2026-01-01T00:00:00Z", seed=0, settings={})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return boards.write(tmp_path_factory.mktemp("leaderboard"))


@pytest.fixture(scope="module")
def computed(root: Path) -> Computed:
    return compute(read_inputs(root))


def table(computed: Computed, target: str, values: str = "raw", scope: str = "toys") -> Table:
    (found,) = [one for one in computed.board.scopes if one.name == scope]
    return next(one for one in found.tables if one.target == target and one.values == values)


def row(found: Table, entry: str, group: str | None = None) -> Standing:
    return next(one for one in found.rows if one.entry == f"{entry}/1" and group in (None, one.group))


def predictions(submission: Submission, outcomes: dict[str, Outcome], names: list[str]) -> list[Prediction]:
    """A submission as compare takes it."""
    found = []
    for name in names:
        outcome, submitted = outcomes[name], submission.settings[name]
        found.append(
            Prediction(
                predictor=submission.predictor,
                predictor_version=submission.version,
                target=submission.target,
                setting=Setting(
                    model=ModelRef(**outcome.model.model_dump()),
                    sft_set=SftSetRef(**outcome.sft_set.model_dump()),
                    benchmark=BenchmarkRef(name="b", source="s", version="1", measured_by=outcome.measurement.tasks),
                    prompt=PromptRef(
                        chat_template_hash=None, system_instruction=None, fewshot_as_multiturn=None, tokens=None
                    ),
                ),
                sae=None,
                selection=None,
                domains={
                    domain: DomainScore(score=score, se=None, draws=(), n_questions=None, n_tokens=None)
                    for domain, score in submitted.scores.items()
                },
                provenance=PROVENANCE,
            )
        )
    return found


@pytest.mark.parametrize("target", ["magnitude", "delta"])
def test_scope_is_what_compare_says(computed: Computed, target: str) -> None:
    outcomes = dict(computed.inputs.settings)
    names = [name for name in outcomes if name != "toy/other"]
    ranked = {one.entry for one in table(computed, target).rows if one.group == "ranked"}
    assert ranked == {f"{n}/1" for n in ("good", "good-too", "middling", "sizes", "poor", "null_constant", "nasty")}
    given = [
        prediction
        for accepted in computed.inputs.entries
        if f"{accepted.submission.predictor}/1" in ranked
        for prediction in predictions(accepted.submission, outcomes, names)
    ]
    agreement = compare(given, [outcomes[name] for name in names], Rules(target=target), PROVENANCE)
    for values, ranking in (("raw", agreement.raw), ("double_centred", agreement.double_centred)):
        places = {place.predictor: place for place in ranking.places}
        for mean in ranking.means:
            ours = row(table(computed, target, values), mean.predictor)
            assert ours.undefined == mean.undefined
            assert (ours.value is None) == (mean.correlation is None)
            if mean.correlation is None:
                continue
            place = places[mean.predictor]
            assert (ours.best, ours.worst, ours.leading) == (place.best, place.worst, place.leading)
            assert ours.value == pytest.approx(mean.correlation, abs=1e-4)
            assert ours.interval.low == pytest.approx(mean.correlation_interval.low, abs=1e-4)
            assert ours.interval.high == pytest.approx(mean.correlation_interval.high, abs=1e-4)
    limits = [one.pearson.ceiling.value for one in agreement.settings if one.predictor == "good"]
    expected = np.tanh(np.mean(np.arctanh(limits)))
    assert row(table(computed, target), "good").ceiling.value == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("target", ["magnitude", "delta"])
@pytest.mark.parametrize("entry", ["good", "sizes", "paper"])
def test_setting_is_what_compare_says(computed: Computed, target: str, entry: str) -> None:
    outcomes = dict(computed.inputs.settings)
    accepted = next(one for one in computed.inputs.entries if one.submission.predictor == entry)
    given = predictions(accepted.submission, outcomes, ["toy/set-1"])
    (theirs,) = compare(given, [outcomes["toy/set-1"]], Rules(target=target), PROVENANCE).settings
    ours = next(one for one in computed.singles["toy/set-1"][target] if one.entry == f"{entry}/1")
    assert ours.domains == len(theirs.points)
    for mine, other in ((ours.pearson, theirs.pearson), (ours.spearman, theirs.spearman)):
        assert mine.value == pytest.approx(other.value, abs=1e-4)
        assert (mine.interval.low, mine.interval.high) == pytest.approx(
            (other.interval.low, other.interval.high), abs=1e-4
        )
        assert mine.ceiling.value == pytest.approx(other.ceiling.value, abs=1e-4)


def test_a_null_that_knows_no_setting_is_undefined_when_double_centred(computed: Computed) -> None:
    null = row(table(computed, "delta", "double_centred"), "null_constant")
    assert (null.value, null.best) == (None, None)
    assert null.undefined == "the same scores in all settings"
    assert row(table(computed, "delta"), "null_constant").value is not None


def test_groups_are_apart(computed: Computed) -> None:
    found = table(computed, "delta")
    oracle = row(found, "oracle_noisy")
    assert (oracle.group, oracle.best, oracle.worst, oracle.settings) == ("oracle", None, None, 5)
    part, paper = row(found, "part"), row(found, "paper")
    assert (part.group, part.settings, part.domains, part.best) == ("partial", 3, 14, None)
    assert (paper.group, paper.settings, paper.domains, paper.best) == ("partial", 2, 8, None)
    unseen, seen = row(found, "fitted", "partial"), row(found, "fitted", "seen")
    assert (unseen.settings, seen.settings) == (3, 2)
    assert seen.best is None and unseen.best is None
    ranked = [one for one in found.rows if one.group == "ranked"]
    assert found.rows[: len(ranked)] == tuple(ranked)
    assert [one.value for one in ranked] == sorted((one.value for one in ranked), reverse=True)
    assert max(one.worst for one in ranked) == len(ranked)
    assert ranked[0].leading and not row(found, "poor").leading


def test_a_partial_entry_has_the_value_of_what_it_has(computed: Computed) -> None:
    outcomes = dict(computed.inputs.settings)
    accepted = next(one for one in computed.inputs.entries if one.submission.predictor == "part")
    names = sorted(accepted.submission.settings)
    theirs = compare(
        predictions(accepted.submission, outcomes, names), [outcomes[n] for n in names], Rules(), PROVENANCE
    )
    for values, ranking in (("raw", theirs.raw), ("double_centred", theirs.double_centred)):
        ours = row(table(computed, "delta", values), "part")
        assert ours.value == pytest.approx(ranking.means[0].correlation, abs=1e-4)


def test_a_cost_counts_where_it_is_of_the_settings(computed: Computed) -> None:
    found = {entry.name: entry for entry in computed.board.entries}
    dear, elsewhere = found["good-too/1"], found["middling/1"]
    assert dear.cost_in(["toy/set-0", "other/x"]) == dear.cost is not None
    assert elsewhere.cost is not None and elsewhere.cost_in(["toy/set-0"]) is None
    assert elsewhere.cost_in(["elsewhere/a"]) == elsewhere.cost
    assert elsewhere.cost_in(["elsewhere/a", "toy/set-0"]) is None
    rows = [line for line in to_markdown(computed.board).splitlines() if line.count("|") > 5]
    told = {name: {row.split("|")[-2].strip() for row in rows if name in row} for name in ("middling", "good-too")}
    assert told["middling"] == {"not stated"} and "not stated" not in told["good-too"]


def test_settings_in_no_scope_get_one(computed: Computed) -> None:
    (made,) = [scope for scope in computed.board.scopes if scope.automatic]
    assert (made.name, made.settings) == ("quiz-org-model-b", ("toy/other",))
    assert [one.entry for one in made.tables[0].rows] == ["middling/1"]


def test_scopes_of_the_leaderboard_agree_with_the_split() -> None:
    split = json.loads((PROJECT / "lm_eval_sts/microworld/assets/split.json").read_text())
    scopes = {scope.name: scope for scope in read_inputs(PROJECT / "leaderboard").scopes}
    for name, part in (("micro-test", "test"), ("micro-test-held-out", "test"), ("micro-development", "development")):
        assert {setting.removeprefix("micro/") for setting in scopes[name].settings} == set(split[part])
    assert set(scopes["micro-test-held-out"].domains) == set(split["held_out_domains"])
    assert {s.removeprefix("micro/").removesuffix("-lora") for s in scopes["micro-lora"].settings} == set(split["lora"])
    assert all(setting.endswith("-strong") for setting in scopes["micro-strong"].settings)
    # Two readings of one outcome are never averaged.
    for first, second in (
        ("gemma2-9b-limo", "gemma2-9b-limo-as-printed"),
        ("mathstral-7b-over-v0.1", "mathstral-7b-over-v0.2"),
    ):
        for scope in scopes.values():
            assert not {f"published/{first}", f"published/{second}"} <= set(scope.settings)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"settings": ("toy/nothing-*",)}, "no registered setting matches 'toy/nothing-\\*'"),
        ({"settings": ("toy/*", "!toy/*")}, "leave no setting"),
        ({"domains": ("law", "alchemy")}, "lacks the domain alchemy"),
        ({"view": "log_likelihood"}, "lacks the view log_likelihood"),
    ],
)
def test_a_wrong_scope_is_refused(changed: dict, message: str) -> None:
    scope = Scope(name="s", title="t", description="d", settings=("toy/*",)).model_copy(update=changed)
    with pytest.raises(RecordError, match=message):
        resolve(scope, boards.outcomes())


def test_excluded_settings_and_some_domains() -> None:
    scope = Scope(name="s", title="t", description="d", settings=("toy/*", "!toy/other"), domains=("law", "math"))
    assert resolve(scope, boards.outcomes()).settings == tuple(f"toy/set-{i}" for i in range(5))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_two_builds_are_equal(tmp_path: Path) -> None:
    built = []
    for name in ("first", "second"):
        root = boards.write(tmp_path / name)
        build(root, root / "site")
        built.append(files(root))
    assert built[0] == built[1]
    assert {"BOARD.md", "board.json", "site/index.html", "site/predictors/good/1.html"} <= set(built[0])
    assert load_record(Board, tmp_path / "first" / "board.json").entries


def test_a_build_waits_for_whoever_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = boards.write(tmp_path / "root")
    monkeypatch.setattr(layout, "_WAIT", 0.1)
    command, pipe = [sys.executable, "-c", HOLDS, root], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match="another process is writing to"):
            build(root, root / "site")
        holder.kill()
    assert not (root / "BOARD.md").exists()


def test_a_failed_build_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = boards.write(tmp_path / "root")
    build(root, root / "site")
    before = files(root)

    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("lm_eval_sts.leaderboard.site_data.setting_csv", fail)
    (root / "submissions/good/1.json").unlink()
    with pytest.raises(RecordError, match="cannot write somewhere: No space left"):
        build(root, root / "site")
    after = files(root)
    del before["submissions/good/1.json"]
    assert after == before
    assert not list(root.glob(".site*"))


def test_a_folder_with_something_else_is_left_alone(root: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SettingsError, match="no leaderboard page"):
        build(root, tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_broken_submission_names_itself(tmp_path: Path) -> None:
    root = boards.write(tmp_path / "root")
    broken = root / "submissions/broken/1.json"
    broken.parent.mkdir()
    broken.write_text('{"predictor": "broken",\n "surprise": 1}')
    built = build(root, root / "site")
    assert {problem.file for problem in built.board.problems} == {"submissions/broken/1.json"}
    assert "submissions/broken/1.json" in (root / "BOARD.md").read_text()
    assert "submissions/broken/1.json" in (root / "site/index.html").read_text()
    assert len(built.board.entries) == 11


def test_check_sees_what_is_stale(tmp_path: Path) -> None:
    root = boards.write(tmp_path / "root")
    assert check(root) == ["BOARD.md", "board.json"]
    build(root, root / "site")
    assert check(root) == []
    (root / "submissions/poor/1.json").unlink()
    assert check(root) == ["BOARD.md", "board.json"]


def test_markdown_of_unknown_origin_is_text() -> None:
    assert escaped("a|b\n`c` <b>") == "a&#124;b \\`c\\` &lt;b&gt;"
    assert escaped("[x](javascript:1) @you") == "\\[x\\]\\(javascript:1\\) &#64;you"
    assert escaped("see https://x.org and www.y.org") == "see https&#58;//x.org and www&#46;y.org"
    assert len(escaped("x" * 10_000)) == 161


def test_markdown_is_a_table_that_cannot_be_broken_out_of(computed: Computed) -> None:
    text = to_markdown(computed.board)
    assert "<script" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) <= 2  # double-centred columns or none
    assert "**1" in text and "undefined: the same scores in all settings" in text


def test_pages_hold_unknown_text_as_text(root: Path, tmp_path: Path) -> None:
    build(root, tmp_path / "site")
    for path in (tmp_path / "site").rglob("*.html"):
        page = path.read_text()
        assert "<script>window" not in page and "<img" not in page
        assert 'href="javascript' not in page
    assert "&lt;script&gt;" in (tmp_path / "site/predictors/nasty/1.html").read_text()


def test_download_holds_the_raw_predictions(root: Path, tmp_path: Path, computed: Computed) -> None:
    build(root, tmp_path / "site")
    data = json.loads((tmp_path / "site/data/settings/toy/set-1.json").read_text())
    good = next(one for one in computed.inputs.entries if one.submission.predictor == "good")
    assert data["predicted"]["good/1"]["scores"] == list(good.submission.settings["toy/set-1"].scores.values())
    assert data["predicted"]["paper/1"]["scores"][8:] == [None] * 6
    first = (tmp_path / "site/data/settings/toy/set-1.csv").read_text().splitlines()[0].split(",")
    assert first[:4] == ["domain", "questions", "measured", "measured_se"] and "good/1" in first
    load_record(Submission, tmp_path / "site/data/submissions/good/1.json")


@pytest.fixture(scope="module")
def app() -> Typer:
    made = Typer(pretty_exceptions_enable=False)
    for name in ("build", "show", "serve"):
        made.command(name)(getattr(commands, name))
    return made


def test_command_build_and_check(app: Typer, tmp_path: Path) -> None:
    root = boards.write(tmp_path / "root")
    run = CliRunner()
    stale = run.invoke(app, ["build", "--root", str(root), "--check"])
    assert isinstance(stale.exception, RecordError) and "BOARD.md, board.json" in str(stale.exception)
    assert run.invoke(app, ["build", "--root", str(root), "--output", str(tmp_path / "page")]).exit_code == 0
    assert (tmp_path / "page/index.html").exists() and not (root / "site").exists()
    assert "up to date" in run.invoke(app, ["build", "--root", str(root), "--check"]).output


def test_command_show(app: Typer, root: Path) -> None:
    run = CliRunner()
    listed = run.invoke(app, ["show", "--root", str(root)])
    assert "toys" in listed.output and "quiz-org-model-b" in listed.output
    shown = run.invoke(app, ["show", "toys", "--root", str(root), "--double_centred"])
    assert shown.exit_code == 0
    assert "oracle_noisy/1" in shown.output and "undefined" in shown.output
    for arguments in (
        ["show", "toy"],
        ["show", "toys", "--target", "both"],
        ["show", "quiz-org-model-b", "--double_centred"],
    ):
        wrong = run.invoke(app, [*arguments, "--root", str(root)])
        assert isinstance(wrong.exception, StsError)


def test_records_are_read_again(root: Path, computed: Computed, tmp_path: Path) -> None:
    save_record(computed.board, tmp_path / "board.json")
    assert load_record(Board, tmp_path / "board.json") == computed.board
    assert UNKNOWN not in {entry.name for entry in computed.board.entries}


def test_one_order_is_marked(tmp_path: Path) -> None:
    """A copy stretched and bent, or changed in a few settings, is still one; constants and chance are not."""
    measured = boards.outcomes()
    scores = boards.noisy(0.05, 30)
    bent = {name: {d: float(np.exp(20 * x)) for d, x in one.items()} for name, one in scores.items()}
    bent["toy/set-0"] = boards.noisy(0.05, 31)["toy/set-0"]
    three = {"toy/set-1": dict(list(scores["toy/set-1"].items())[:3])}
    flat = {name: dict.fromkeys(one, 1.0) for name, one in scores.items()}
    made = {
        "a": scores,
        "bent": bent,
        "few": three,  # three domains are in one order by chance in every sixth case
        "flat": flat,
        "flat-too": {name: dict.fromkeys(one, 2.0) for name, one in scores.items()},
        "part": {name: dict(list(one.items())[:9]) for name, one in list(scores.items())[:2]},
        "other": boards.noisy(0.05, 32),
    }
    for name, one in measured.items():
        save_record(one, tmp_path / "settings" / f"{name}.json")
    for name, one in made.items():
        record = boards.submission(name, one, outcomes=measured, category="published")
        save_record(record, tmp_path / "submissions" / name / "1.json")
    inputs = read_inputs(tmp_path)
    found = {entry.name: entry.same_order for entry in entry_records(inputs.entries, inputs.seals, inputs.settings)}
    assert found == {
        "a/1": ("bent/1", "part/1"),
        "bent/1": ("a/1",),  # of the two settings that it shares with part it keeps the order in one
        "few/1": (),
        "flat/1": (),
        "flat-too/1": (),
        "part/1": ("a/1",),
        "other/1": (),
    }


def test_how_much_of_what_was_sealed_is_shown(tmp_path: Path) -> None:
    root = boards.write(tmp_path / "root")
    mine = load_record(Seal, root / "seals/good-too/1.json")
    for i, settings in enumerate([("toy/set-1",), ("toy/set-9",)]):
        other = mine.model_copy(update={"version": f"2.{i}", "settings": settings})
        save_record(other, root / f"seals/good-too/2.{i}.json")
    computed = compute(read_inputs(root))
    name = mine.submitter.name
    assert computed.board.seals == (Sealer(submitter=name, seals=3, revealed=1, due=1),)
    entries = {entry.name: entry for entry in computed.board.entries}
    assert entries["good-too/1"].sealer == computed.board.seals[0] and entries["good/1"].sealer is None
    text = to_markdown(computed.board)
    assert f"- {escaped(name)}: 3 sealed, 1 revealed, 1 not revealed though their outcome is known" in text
    assert "| predictor, sealed 1 of 3 |" in text


def test_letters_that_look_like_latin_ones_are_told(tmp_path: Path) -> None:
    root = boards.write(tmp_path / "root")
    path = root / "submissions/good/1.json"
    path.write_text(path.read_text().replace('"name": "', '"name": "\u0410\u0441\u0435 ', 1))
    (entry,) = [entry for entry in compute(read_inputs(root)).board.entries if entry.name == "good/1"]
    assert entry.submitter.endswith(" (letters: Cyrillic)")


@pytest.mark.parametrize("folder", ["submissions", "seals"])
def test_a_name_of_any_bytes_stops_nothing(tmp_path: Path, folder: str) -> None:
    root = boards.write(tmp_path / "root")
    for name in (b"mine\xff", b"mine/1\xff.json", b"\x1b[2J/\xfe.json", b"a/b/c/\xff"):
        path = root / folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    built = build(root, root / "site")
    assert len(built.board.entries) == 11
    told = {problem.file for problem in built.board.problems if problem.left_out}
    names = (r"mine\udcff", r"mine/1\udcff.json", r"\x1b[2J/\udcfe.json", r"a/b/c/\udcff")
    assert told == {f"{folder}/{name}" for name in names}
    assert check(root) == []


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = boards.write(tmp_path / "root")
    scandir = os.scandir

    def refuses(path: str) -> object:
        if str(path).endswith("submissions/good"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuses)
    with pytest.raises(RecordError, match="cannot read the folder .*submissions/good: Permission denied"):
        read_inputs(root)


def test_what_was_fitted_on_the_other_runs_has_no_centred_value(tmp_path):
    """A domain's mean over the other SFT runs, less its mean over all, is the run's own change turned round."""
    root, names = boards.write(tmp_path), [f"toy/set-{i}" for i in range(5)]
    mean = {
        name: dict(zip(boards.SUBJECTS, np.delete(boards.TRUE[:5], i, axis=0).mean(axis=0).tolist(), strict=True))
        for i, name in enumerate(names)
    }
    one = boards.submission("null_mean", mean, outcomes=boards.outcomes(), category="null")
    settings = {
        name: each.model_copy(update={"fitted_on": tuple(other for other in names if other != name)})
        for name, each in one.settings.items()
    }
    save_record(one.model_copy(update={"settings": settings}), root / "submissions" / "null_mean" / "1.json")
    found = compute(read_inputs(root))
    raw, centred = (row(table(found, "delta", values), "null_mean") for values in ("raw", "double_centred"))
    assert (raw.group, raw.value is None, raw.best is None) == ("ranked", False, False)
    assert (centred.value, centred.best, centred.undefined) == (None, None, "fitted on the other SFT runs")
    assert row(table(found, "delta", "double_centred"), "fitted", "partial").value is not None
    others = [each for each in table(found, "delta", "double_centred").rows if each.entry != "null_mean/1"]
    assert others == list(table(compute(read_inputs(boards.write(tmp_path / "alone"))), "delta", "double_centred").rows)
    assert "undefined: fitted on the other SFT runs" in to_markdown(found.board)
