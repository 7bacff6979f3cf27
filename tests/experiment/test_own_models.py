"""Models of one's own are swept, named after what they are, and said to be what they were."""

import json
from pathlib import Path

import pytest

from codejoule.models.check import BUNDLED_ROOT
from tests.experiment.job import run_main, runs_of
from tests.models.tiny_gguf import write_tiny_gguf


@pytest.mark.slow
def test_a_folder_and_a_gguf_file_are_swept_in_one_word_each(tmp_path: Path) -> None:
    folder, file = tmp_path / "tiny-coder", tmp_path / "Tiny-Q8_0.gguf"
    folder.symlink_to(BUNDLED_ROOT / "starter" / "none")
    write_tiny_gguf(file, chat=True)
    done = run_main(
        tmp_path, "-m", f"model={folder},{file}", "suite.limit=2", "generation.max_new_tokens=4",
        f"quant.cache_dir={tmp_path}/quantized", "tracking.experiment=own",
        # Slashes in a job's name make folders in folders.
        "hydra.sweep.subdir=${hydra.job.override_dirname}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 jobs: 2 finished." in done.stdout
    jobs = {run.info.run_name: run for run in runs_of("own", tmp_path) if "model.name" in run.data.params}  # fmt: skip
    assert set(jobs) == {"tiny-coder-none-b1", "Tiny-Q8_0-none-b1"}
    plain, stored = jobs["tiny-coder-none-b1"].data, jobs["Tiny-Q8_0-none-b1"].data
    assert stored.tags["codejoule.stored_as"] == "GGUF Q8_0, dequantized to float16"
    assert (stored.tags["codejoule.dtype"], stored.params["quant.name"]) == ("float32", "none")
    assert (stored.params["model.variant"], plain.params["model.variant"]) == ("instruct", "base")
    assert "codejoule.stored_as" not in plain.tags
    assert stored.params["model.path"] == str(file)
    (artifact,) = (tmp_path / "mlruns").rglob(f"{jobs['Tiny-Q8_0-none-b1'].info.run_id}/artifacts/model.json")  # fmt: skip
    assert json.loads(artifact.read_text())["stored_as"] == stored.tags["codejoule.stored_as"]
