"""Questions of one's own as a benchmark: no task of lm-eval is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from lm_eval_sts.errors import DatasetError
from lm_eval_sts.evidence.domain import Benchmark, Document, Options
from lm_eval_sts.evidence.evidence import Question
from lm_eval_sts.evidence.rendering import Opening, PromptOptions, Turn
from lm_eval_sts.files import hash_json
from lm_eval_sts.records import BenchmarkRef


class OwnDomain:
    """Questions of one domain, the first of which serve as worked examples.

    A prompt is the question, a line with ``Answer:`` and, in worked examples, the answer; under a chat template
    questions and answers are turns.

    Args:
        name: The domain's name.
        questions: The questions.
        demonstrations: How many of them are worked examples.

    Raises:
        DatasetError: There are too few, or one is no question, is blank, or has an answer that is none of its options.
    """

    def __init__(self, name: str, questions: Sequence[Question], demonstrations: int) -> None:
        self.name = self.label = name
        for i, question in enumerate(questions):
            if (problem := _problem(question)) is not None:
                raise DatasetError(f"domain {name}: question {i} (counted from 0) {problem}")
        if len(questions) <= demonstrations:
            raise DatasetError(
                f"domain {name} has {len(questions)} questions: {demonstrations} worked examples and at least one "
                f"question need {demonstrations + 1} or more: give more, or fewer demonstrations"
            )
        documents = [asdict(question) for question in questions]
        self._shown, self._asked = documents[:demonstrations], documents[demonstrations:]

    def questions(self) -> list[tuple[int, Document]]:
        """Those that are no worked examples, as given."""
        return list(enumerate(self._asked, len(self._shown)))

    def n_questions(self) -> int:
        """Those that are no worked examples."""
        return len(self._asked)

    def demonstrations(self) -> list[Document]:
        """The first questions, with their answers."""
        return list(self._shown)

    def prompt(
        self, doc: Document, options: PromptOptions, shown: Sequence[Document] = (), opening: Opening | None = None
    ) -> str:
        """Question and worked examples as plain text, or as turns of a conversation."""
        system, template = options.system_instruction, options.chat_template
        if template is None:
            parts = [*(f"{d['text']}\nAnswer: {d['answer']}" for d in shown), f"{doc['text']}\nAnswer:"]
            head = f"{system}\n\n" if system else ""
            return head + (opening.text if opening else "") + "\n\n".join(parts)
        messages: list[Turn] = [{"role": "system", "content": system}] if system else []
        for d in shown:
            messages += [{"role": "user", "content": d["text"]}, {"role": "assistant", "content": d["answer"]}]
        messages.append({"role": "user", "content": doc["text"]})
        if opening is not None:
            template = opening.before(template, multiturn=True)
        return template(messages, add_generation_prompt=True)

    def text(self, doc: Document) -> str:
        """The question."""
        return str(doc["text"])

    def answer(self, doc: Document) -> str:
        """The right answer."""
        return str(doc["answer"])

    def options(self, doc: Document) -> Options | None:
        """The options as they follow the prompt; the right answer alone where no others are given."""
        texts = tuple(doc["options"]) or (doc["answer"],)
        return Options(tuple(f" {text}" for text in texts), texts.index(doc["answer"]))


def _problem(question: object) -> str | None:
    """What is wrong with a question that somebody gives; None where nothing is."""
    if not isinstance(question, Question):
        return f"is a {type(question).__name__}: make it a Question(text, answer, options)"
    if not isinstance(question.options, (tuple, list)):
        return f"has options of type {type(question.options).__name__}: give a tuple of texts"
    texts: list[object] = [question.text, question.answer, *question.options]
    if not all(isinstance(text, str) for text in texts):
        return "has a text, answer or option that is no text"
    if not question.text.strip() or not question.answer.strip():
        return "has a blank text or answer"
    if question.options and question.answer not in question.options:
        return "has an answer that is none of its options"
    try:
        "".join(map(str, texts)).encode()
    except UnicodeEncodeError:
        return "has half of a surrogate pair in it, which is no character"
    return None


def own_benchmark(questions: Mapping[str, Sequence[Question]], demonstrations: int, name: str = "own") -> Benchmark:
    """Domains of one's own questions.

    Args:
        questions: By domain.
        demonstrations: How many of each domain's first questions serve as worked examples.
        name: What records call the benchmark.

    Raises:
        DatasetError: There is no domain, or one has too few questions.
    """
    if not questions:
        raise DatasetError("there is no domain: give questions by the name of their domain")
    benchmark = tuple(OwnDomain(domain, of, demonstrations) for domain, of in questions.items())
    content = hash_json({domain: [asdict(question) for question in of] for domain, of in questions.items()})
    return Benchmark(BenchmarkRef(name=name, source=f"sha256:{content}", version="1"), benchmark)
