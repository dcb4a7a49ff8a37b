"""Experiments that fail or get lost say so and are run again."""

from click.testing import CliRunner

from stages import _queue, paper_tables
from tests.pipeline.paper_tables.runs import V, listed, ran, rows, state, tables


def test_an_experiment_that_fails_says_so_and_is_run_again(project):
    (project.root / "broken").write_text("")
    before = state(project)
    done = tables(project, "--tables", "6", "--seeds", "2", status=1)
    assert "1 of 2 experiments failed; dvc queue logs NAME says why" in done.stderr
    name = done.stderr.split()[-1]
    assert name.startswith("tables-V-seed0-")
    assert "exited with 3" in project.dvc("queue", "logs", name)
    assert set(rows(project)["seed"]) == {1}
    assert state(project) == before
    assert "failed, to run again" in listed(project, *V)
    (project.root / "broken").unlink()
    tables(project, "--tables", "6", "--seeds", "2")
    assert set(rows(project)["seed"]) == {0, 1}
    assert ran(project).count("train sfc 1") == 1


def test_an_experiment_that_a_leaving_worker_took_is_queued_again(project, monkeypatch):
    run_dvc, taken = _queue.run_dvc, []

    def queued_as_a_worker_leaves(*args):
        run_dvc(*args)
        if "--queue" in args and not taken:
            taken.extend(project.root.glob(".dvc/tmp/exps/celery/broker/in/*.celery.msg"))
            for message in taken:
                message.rename(project.root / ".dvc/tmp/exps/celery/broker/processed" / message.name)

    monkeypatch.setattr(_queue, "run_dvc", queued_as_a_worker_leaves)
    monkeypatch.chdir(project.root)
    done = CliRunner().invoke(paper_tables.main, V, catch_exceptions=False)
    assert len(taken) == 1
    assert done.exit_code == 0, done.output
    assert "a worker that was about to leave took what it did not run: once more" in done.output
    assert ran(project) == ["cam sfc 0", "train sfc 0"]


def test_where_all_failed_no_empty_table_is_written(project):
    (project.root / "broken").write_text("")
    done = tables(project, *V, status=1)
    assert "1 of 1 experiments failed; dvc queue logs NAME says why" in done.stderr
    assert not (project.root / "bench").exists()
