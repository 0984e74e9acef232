"""The notebook runs as it stands, and is kept without what it shows."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


def test_the_notebook_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    for name in ("XDG_CACHE_HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    notebook = nbformat.read(ROOT / "examples" / "micro_world.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    assert "find_spec" in cells[0].source and '%pip install --quiet "lm-eval-sts[board]"' in cells[0].source
    NotebookClient(notebook, timeout=None, kernel_name="python3").execute()
    *_, scores, agreement, chart = ([out.data for out in cell.outputs if "data" in out][-1] for cell in cells[3:])
    assert "philosophy_ethics" in scores["text/html"]
    assert "pearson_ceiling" in agreement["text/html"] and "tfidf_cosine" in agreement["text/html"]
    assert not any(out.get("name") == "stderr" for out in cells[0].outputs), "what is installed is not installed again"
    assert "vegaEmbed" in chart["text/html"]
