"""A verdict in words fits the terminal, whatever it holds."""

from __future__ import annotations

import subprocess

import pytest

from lm_eval_sts.records import ModelRef
from lm_eval_sts.verdict.verdict import make_verdict
from lm_eval_sts.verdict.words import in_words, said_of_run
from tests.agreement.made import prediction
from tests.verdict.made import about, micro_run, of_model, with_domains

GEMMA = ModelRef(name="google/gemma-2-9b-it", weights_hash="a" * 64, dtype="bfloat16")
EVIL = "\x1b]0;mine\x07[red]\u202eab\u200b"
PATH = "results/2026/a-folder"


def fits(lines: list[str], width: int = 80, height: int = 23) -> str:
    assert len(lines) <= height and all(len(line) <= width for line in lines), "\n".join(lines)
    return "\n".join(lines)


def test_the_demo_fits_one_screen():
    lines = in_words(make_verdict(micro_run()), where=PATH)
    text = fits(lines)
    assert len(lines) == 23
    assert text.splitlines()[0] == "Fine-tuning micro/model on micro/sft/mathlike-home-long would move, most first:"
    for part in (
        "Measured on 24 test SFT runs of the micro world",
        "|Δ| .14 [-.05, .32] 4.2 (0.8 to 21)     3.9 (0.8 to 12)",
        "Δ   .45 [.31, .58]  -1.7 (-5.8 to 4.8)  -6.6 (-23 to -0.1)",
        "Not significantly better than chance there: sts_icl.",
        f"lm-eval-sts show {PATH} --all",
        "Nothing was left out",
        "= not significantly different from the highest (95%, all at once):",
    ):
        assert part in text, text


def test_the_end_of_a_run_leaves_room_for_the_line_of_the_log(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    fits(said_of_run(micro_run(), {}, PATH).splitlines(), height=22)


def test_rows_are_the_first_and_the_last():
    verdict = make_verdict(micro_run())
    lines = in_words(verdict)
    ranks = [int(line[:3]) for line in lines if line[:3].strip().isdigit()]
    assert ranks[0] == 1 and ranks[-1] == 28 and len(ranks) == 7
    assert f"{28 - len(ranks)} more between" in "\n".join(lines)
    for rank, line in zip(ranks, (line for line in lines if line[:3].strip().isdigit()), strict=True):
        assert verdict.ranked.domains[rank - 1].domain in line


def test_one_draw_of_demonstrations_is_said_to_be_in_no_error():
    of_three = micro_run()
    of_one = [
        with_domains(p, **{name: d.model_copy(update={"draws": d.draws[:1]}) for name, d in p.domains.items()})
        for p in of_three
    ]
    said = "one draw of demonstrations, whose choice is in no error"
    assert said in " ".join(fits(in_words(make_verdict(of_one))).split())
    assert said not in " ".join(in_words(make_verdict(of_three)))


def test_the_command_is_what_a_shell_runs():
    """As it stands on the screen, its line breaks included."""
    lines = in_words(make_verdict(micro_run("my sets/it's.jsonl")))
    first = next(i for i, line in enumerate(lines) if line.startswith("Next: "))
    last = next(i for i in range(first, len(lines)) if not lines[i].endswith("\\"))
    command = "\n".join(lines[first : last + 1]).removeprefix("Next: lm-eval-sts")
    done = subprocess.run(["bash", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[:5] == ["finetune", "--model", "micro/model", "--sft_set", "my sets/it's.jsonl"]


def test_an_unknown_kind_borrows_no_number():
    own = ModelRef(name="org/mine", weights_hash="b", dtype="float32")
    text = fits(in_words(make_verdict([of_model(made, own) for made in micro_run()])))
    assert "unknown for this kind of model" in " ".join(text.split()) and "Measured on" not in text
    assert "--method" not in text, "a recipe that belongs to the micro world"
    new = [made.model_copy(update={"predictor_version": "9"}) for made in micro_run()]
    assert "unknown for sts_icl on this kind of model" in " ".join(in_words(make_verdict(new)))


def test_figures_of_few_sft_runs_come_without_bounds_and_with_their_caveat():
    scores = {name: 1.0 + i for i, name in enumerate(("law", "math", "health", "physics"))}
    signed = prediction(scores, predictor="loss_rehearsal_alone", target="delta")
    text = " ".join(in_words(make_verdict([of_model(made, GEMMA) for made in (prediction(scores), signed)])))
    assert "5.7 (few runs)" in text and "the STS paper's 3 SFT runs on LIMO" in text
    assert "Unknown there: loss_rehearsal_alone." in text and "4 of 8 domains" in text
    assert "8 of 14 subjects chosen by the outcome, which inflates r" in text


def test_everything_on_request():
    notes = tuple(f"note {i} of many words that go on and on and on and on, and then some more" for i in range(5))
    verdict = make_verdict([about(made, notes) for made in micro_run()])
    short = fits(in_words(verdict))
    assert "5 notes on what was left out or warned of" in short and "note 4" not in short
    long = in_words(verdict, height=None)
    whole = " ".join(" ".join(long).split())
    assert all(len(line) <= 80 for line in long) and all(note in whole for note in notes)
    assert "r .14 [-.05, .32]; .32 [.18, .45] without each domain's mean; the bounds" in whole
    assert all(domain.domain in whole for domain in verdict.ranked.domains)
    assert "(--predictor NAME): sts_icl, loss_rehearsal_alone, tfidf_cosine" in whole


def test_what_holds_for_this_run_only_is_said():
    text = " ".join(in_words(make_verdict(micro_run(n_features=7)), height=None))
    assert "This run differs: n_features 7." in text


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_any_width_and_any_names(width):
    scores = {f"{EVIL}{'x' * i}": float(i) for i in range(60)}
    run = [prediction(scores, sft="a/" * 90, model=EVIL, se=se, predictor=EVIL) for se in (None, 0.1)]
    for made in run:
        lines = in_words(make_verdict([about(made, (EVIL,))]), width=width, where="w" * 200)
        text = "\n".join(lines)
        assert not {c for c in text if not c.isprintable()} - {"\n"}
        cut = [line for line in lines if "--sft_set" not in line and "--model" not in line and "a/a/" not in line]
        assert all(len(line) <= width for line in cut if " " in line.strip())
    assert "have no errors" in "\n".join(in_words(make_verdict(run[:1]), width=132))


def test_one_domain():
    text = fits(in_words(make_verdict([prediction({"law": 3.0})])))
    assert "1 of 1" in text and "100 [" in text
