"""What tests of films share."""

import pytest

from helpers import batch_files as files
from varsr_core.batch.model import Model


@pytest.fixture
def run(tmp_path, micro_file, capsys, monkeypatch):
    """The command, with a model that only enlarges; gives what it tells of the file."""
    monkeypatch.setattr(
        Model,
        "restore",
        lambda model, pixels, mask, on_progress: pixels.repeat_interleave(4, -1).repeat_interleave(
            4, -2
        ),
    )

    def done(source, *options, output="out", code=0):
        arguments = ("--model", micro_file, *files.QUICK, "--json", *options)
        capsys.readouterr()
        assert files.command(source, tmp_path / output, *arguments) == code
        output = capsys.readouterr().out
        done.events = lambda kind: files.events(output, kind)
        found = files.events(output, "file")
        return found[0] if found else None

    return done
