"""Damaged inputs of every stage: it runs, or says one line that names what is wrong, and leaves all as it was.

`pytest tests/pipeline/test_damage.py --damages 2000 --attack-seed 7` does more of them, others.
"""

import importlib
import random
import shutil

from click.testing import CliRunner

from tests.pipeline.copies import READ, arguments, copy_of, made, unfinished


def flipped(content, chance):
    content = bytearray(content)
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content)


def exchanged(content, chance):
    """Text with one character or number made another, still of the file's form."""
    place = chance.randrange(len(content))
    return (
        content[:place] + chance.choice([b"-", b"9", b"null", b'"', b",", b"\n", b"", b"1e999"]) + content[place + 1 :]
    )


DAMAGES = {
    "missing": None,
    "empty": lambda content, chance: b"",
    "truncated": lambda content, chance: content[: chance.randrange(len(content))],
    "one bit": flipped,
    "one character": exchanged,
    "garbage": lambda content, chance: chance.randbytes(3000),
    "a folder": None,
    "other JSON": lambda content, chance: chance.choice([b"null", b"3", b"[]", b"{}", b'[1, "a"]', b'{"a": [1]}']),
    "deep JSON": lambda content, chance: b"[" * 100_000,
}


def places(root):
    """(stage, a file it reads) of all; of a folder some of its files."""
    for stage, paths in READ.items():
        for path in paths:
            files = sorted(file for file in (root / path).rglob("*") if file.is_file()) or [root / path]
            yield from ((stage, file.relative_to(root)) for file in files[:3] if file.is_file())


def do(damage, path, chance):
    content = path.read_bytes()
    path.unlink()  # a link to a file that must stay as it is
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(DAMAGES[damage](content, chance))


def test_a_damaged_input_is_one_line(real, tmp_path, pytestconfig, monkeypatch):
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    monkeypatch.setenv("SFC_WORKERS", "0")
    chance = random.Random(pytestconfig.getoption("--attack-seed"))
    everywhere = list(places(real.root))
    refused = 0
    for number in range(pytestconfig.getoption("--damages")):
        stage, path = chance.choice(everywhere)
        damage = chance.choice(list(DAMAGES))
        where = f"{number}: {stage}, {path}, {damage}"
        folder = copy_of(real, tmp_path / str(number))
        monkeypatch.chdir(folder)
        do(damage, folder / path, chance)
        before = made(folder, stage)
        done = CliRunner().invoke(importlib.import_module(f"stages.{stage[0]}").main, arguments(stage)[1:])
        assert done.exit_code in (0, 1), f"{where}: {done.output}"
        if done.exit_code:
            refused += 1
            assert isinstance(done.exception, SystemExit), where
            line = done.output[done.output.index("Error: ") :].strip()
            assert len(line.splitlines()) == 1, f"{where}: {line}"
            assert "unexpected" not in line, f"{where}: {line}"
            assert made(folder, stage) == before, where
        assert unfinished(folder) == [], where
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
    assert refused > 0.4 * number
