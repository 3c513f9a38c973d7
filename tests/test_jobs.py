import errno
import fcntl
import gzip
import io
import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decodekit.errors import (
    EngineStalledError,
    ErrorLimitError,
    InputError,
    JobError,
    LockedError,
    OutputError,
)
from decodekit.jobs import identities, job_file, runner
from decodekit.jobs.answering import Finished
from decodekit.jobs.identities import Hashes
from decodekit.jobs.job import Earlier, Job, Unseen
from decodekit.jobs.journal import Journal
from decodekit.jobs.row import Mark
from decodekit.jobs.sources import open_source
from decodekit.jobs.summary import Summary
from decodekit.jobs.window import SPAN, Window

TESTS = Path(__file__).parent
CHAINS = {"settings": {"chain": "top_p=0.9"}, "bundle": {"sha256": "ab"}}


def answer(row, seed=0):
    usage = {"prompt_tokens": 2, "completion_tokens": row.number % 5}
    text = f"{row.fields['prompt']} ü {seed}"
    return {"row": row.number, "id": row.fields["id"], "text": text, "finish_reason": "stop", "usage": usage}


class Echo:
    """Answers on other threads, in an order of its own; fails where it is told to."""

    def __init__(self, seed, *, fails=(), late=0.0):
        self.seed, self.fails, self.late = seed, fails, late
        self.begun = []

    def begin(self, row):
        self.begun.append(row.number)
        if row.number in self.fails:
            error = {"code": "E_PARAMETER", "message": "planned", "line": row.line}
            return Finished({"row": row.number, "id": None, "error": error})
        return Late(answer(row, self.seed), self.late * random.random())


class Late:
    sequences = 1

    def __init__(self, record, seconds):
        self._record, self._seconds = record, seconds

    def when_done(self, tell):
        if self._seconds:
            threading.Timer(self._seconds, tell).start()
        else:
            tell()

    def record(self):
        return self._record


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Nothing here needs the disk to be real but `test_crashes...`, which runs processes of its own."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": f"a{i}", "prompt": f"row {i}"}) + "\n" for i in range(30)))
    return path


@pytest.fixture
def make_job(tmp_path, rows):
    """A job over thirty rows, and what answers them."""

    def make(echo=None, source=rows, name="out.jsonl", begun_with=CHAINS, **options):
        source = open_source(str(source), folder=tmp_path) if isinstance(source, Path) else source
        answerer = (lambda seed: echo) if echo else Echo
        options = {"seed": 1, "group": 4, **options}
        return Job(source, tmp_path / name, begun_with, answerer, **options)

    return make


def run(job, **options):
    return job.run(lambda rows, done: Unseen(), **options)


def records(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_records_are_in_the_order_of_the_rows(make_job, tmp_path):
    summary = run(make_job(Echo(1, late=0.01)))
    assert [r["id"] for r in records(tmp_path / "out.jsonl")] == [f"a{i}" for i in range(30)]
    assert (summary.rows, summary.failed, summary.prompt_tokens) == (30, 0, 60)


def test_records_as_they_are_done_are_the_same_in_another_order(make_job, tmp_path):
    run(make_job())
    run(make_job(Echo(1, late=0.02), name="free.jsonl", ordered=False))
    first, second = ((tmp_path / n).read_bytes().splitlines() for n in ("out.jsonl", "free.jsonl"))
    assert sorted(first) == sorted(second) and first != second


def test_no_more_rows_are_begun_than_the_engine_takes_up(make_job):
    most = 0

    class Watched(Echo):
        running = 0

        def begin(self, row):
            nonlocal most
            self.running += 1
            most = max(most, self.running)
            late = super().begin(row)
            late.record = lambda: (setattr(self, "running", self.running - 1), answer(row))[1]
            return late

    run(make_job(Watched(1, late=0.005), ahead=4))
    assert most == 4


def test_a_slow_row_holds_others_back_only_as_far_as_the_window_reaches():
    window = Window()
    for number in range(1, SPAN):
        window.finish(number)
    assert not window.reaches(SPAN) and window.low == 0
    window.finish(0)
    assert window.reaches(2 * SPAN - 1) and window.low == SPAN and not window.ahead


@pytest.mark.parametrize("number", [-1, 0, 3, 6, 5 + SPAN, "4", None])
def test_a_window_refuses_what_is_done_or_out_of_reach(number):
    window = Window(5, {6})
    with pytest.raises((ValueError, TypeError)):
        window.finish(number)


@settings(max_examples=50)
@given(st.permutations(range(12)), st.integers(0, 12))
def test_a_window_knows_what_is_done_and_where_the_first_row_begins_that_is_not(order, count):
    window = Window()
    marks = [Mark(n, 100 * n, n) for n in range(13)]
    for mark in marks[:12]:
        window.begin(mark)
    for number in order[:count]:
        window.finish(number)
    assert {n for n in range(12) if window.has(n)} == set(order[:count])
    assert window.place(marks[12]).number == window.low


# going on


def test_the_same_command_again_does_nothing_more(make_job, tmp_path):
    first = run(make_job()).to_json()
    before = (tmp_path / "out.jsonl").read_bytes()
    echo = Echo(1)
    assert run(make_job(echo)).to_json() == first
    assert echo.begun == [] and (tmp_path / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("garbage", [b"", b"\0\0\0", b'{"row": 2', b"[]\n"])
def test_results_torn_at_any_byte_are_mended(make_job, tmp_path, ordered, garbage):
    out, notes = tmp_path / "out.jsonl", []
    run(make_job(ordered=ordered))
    whole, job = out.read_bytes(), (tmp_path / "out.jsonl.job").read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for lost in range(last + 3):
        out.write_bytes(whole[: len(whole) - lost] + garbage)
        (tmp_path / "out.jsonl.job").write_bytes(job)
        notes.clear()
        summary = run(make_job(ordered=ordered, note=notes.append))
        assert out.read_bytes() == whole and summary.rows == 30
        assert bool(notes) == bool(lost or garbage)


@pytest.mark.parametrize("broken", [b'{"row": 12}', b'{"row": 12, "error": "E"}', b'{"row": 13}', b"[12]"])
def test_a_row_whose_record_was_broken_is_done_again(make_job, tmp_path, broken):
    run(make_job())
    out = tmp_path / "out.jsonl"
    whole = out.read_bytes()
    lines = whole.splitlines()
    lines[12] = broken
    out.write_bytes(b"\n".join(lines) + b"\n")
    echo = Echo(1)
    assert run(make_job(echo)).rows == 30
    assert echo.begun == [*range(12, 30)] and out.read_bytes() == whole


@pytest.mark.parametrize("done", range(31))
def test_a_job_goes_on_from_wherever_it_was_with_the_same_seeds(make_job, tmp_path, done):
    run(make_job(seed=None))
    out = tmp_path / "out.jsonl"
    whole = out.read_bytes()
    job = job_file.read(job_file.path_of(out))
    low, left = done // 2, b"".join(whole.splitlines(keepends=True)[:done])
    size = len(b"".join(whole.splitlines(keepends=True)[:low]))
    mark = next(
        r.begin for r in open_source(str(tmp_path / "in.jsonl"), folder=tmp_path).rows() if r.number == low
    )
    summary = Summary()
    for line in whole.splitlines()[:low]:
        summary.add(json.loads(line))
    journal = Journal(out)
    at = job_file.Checkpoint(size, journal.tail(size), low, (), mark, summary.to_json())
    journal.close()
    job_file.JobFile(job.begun_with, job.seed, job.rows, at).write(job_file.path_of(out))
    out.write_bytes(left)
    echo = Echo(job.seed)
    assert run(make_job(echo, seed=None)).to_json() == job.checkpoint.summary | {
        "lengths": {0: 6, 1: 6, 2: 6, 3: 6, 4: 6}
    }
    assert echo.begun == [*range(done, 30)] and out.read_bytes() == whole


def test_a_job_without_a_seed_keeps_the_one_it_drew(make_job, tmp_path):
    seeds = []
    job = make_job(seed=None)
    job = Job(job.source, job.results, job.begun_with, lambda seed: (seeds.append(seed), Echo(seed))[1])
    run(job)
    (tmp_path / "out.jsonl").write_bytes(b"")
    run(job)
    assert seeds[0] == seeds[1] < 2**53


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({**CHAINS, "settings": {"chain": "top_p=0.8"}}, 'settings chain was "top_p=0.9" and is "top_p=0.8"'),
        ({**CHAINS, "bundle": {"sha256": "cd"}}, 'bundle sha256 was "ab" and is "cd"'),
        ({**CHAINS, "software": {"numpy": "3"}}, "software was null and is"),
    ],
)
def test_what_changed_since_is_refused_by_name(make_job, tmp_path, now, said):
    run(make_job())
    before = (tmp_path / "out.jsonl").read_bytes()
    with pytest.raises(JobError, match="begun with something else") as caught:
        run(make_job(begun_with=now))
    assert said in str(caught.value) and (tmp_path / "out.jsonl").read_bytes() == before


def test_a_changed_input_is_refused_by_name(make_job, rows):
    run(make_job())
    rows.write_text(rows.read_text().replace("row 7", "row x"))
    with pytest.raises(JobError, match="input sha256 was"):
        run(make_job())


def test_an_input_that_changes_meanwhile_ends_the_job(make_job, rows):
    class Writer(Echo):
        def begin(self, row):
            if row.number == 3:
                with rows.open("a") as file:
                    file.write('{"id": "new", "prompt": "late"}\n')
            return super().begin(row)

    with pytest.raises(InputError, match="was changed while it was read"):
        run(make_job(Writer(1)))


# what can go wrong with the disk


class Full:
    """A disk that gives an error at one of its calls."""

    def __init__(self, monkeypatch, call, at, number):
        real, self.left = getattr(os, call), at

        def broken(*args):
            self.left -= 1
            if self.left == 0:
                raise OSError(number, os.strerror(number))
            return real(*args)

        monkeypatch.setattr(os, call, broken)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_disk_that_fails_ends_the_job_and_loses_nothing(make_job, tmp_path, monkeypatch, call, number):
    run(make_job(name="whole.jsonl"))
    whole = (tmp_path / "whole.jsonl").read_bytes()
    struck = 0
    for at in range(1, 100):
        with monkeypatch.context() as patched:
            full = Full(patched, call, at, number)
            name = f"{at}.jsonl"
            try:
                run(make_job(name=name))
            except OutputError as exc:
                assert os.strerror(number) in str(exc) and "run the same command again" in str(exc)
                struck += 1
        left = (tmp_path / name).read_bytes() if (tmp_path / name).exists() else b""
        assert whole.startswith(left) and (not left or left.endswith(b"\n"))
        run(make_job(name=name))
        assert (tmp_path / name).read_bytes() == whole
        if full.left > 0:
            break
    assert struck >= 2


def test_a_full_disk_for_real(make_job, tmp_path):
    run(make_job(name="whole.jsonl"))
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
        "from decodekit.jobs.journal import Journal; from pathlib import Path; "
        "journal = Journal(Path(sys.argv[1]))\n"
        "for i in range(99): journal.append(b'{\"row\": %d}\\n' % i); journal.commit()"
    )
    path = tmp_path / "limited.jsonl"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert "File too large" in done.stderr and "OutputError" in done.stderr
    assert [r["row"] for r in records(path)] == [*range(len(records(path)))] and len(records(path)) > 50


def test_two_writers_are_one_too_many(make_job, tmp_path):
    run(make_job())
    held = Journal(tmp_path / "out.jsonl")
    with pytest.raises(LockedError, match="another process is writing it"):
        run(make_job())
    held.close()
    run(make_job())


def test_a_file_system_without_locks_is_named(make_job, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(OutputError, match="cannot be locked"):
        run(make_job())


def test_a_file_that_is_there_is_not_overwritten(make_job, tmp_path):
    (tmp_path / "out.jsonl").write_text("precious\n")
    with pytest.raises(JobError, match="is there already and no job wrote it"):
        run(make_job())
    assert (tmp_path / "out.jsonl").read_text() == "precious\n"


@pytest.mark.parametrize("way", ["same", "link", "hard link"])
def test_input_and_output_are_two_files(make_job, tmp_path, rows, way):
    before, out = rows.read_bytes(), tmp_path / ("in.jsonl" if way == "same" else "out.jsonl")
    if way == "link":
        out.symlink_to(rows)
    if way == "hard link":
        os.link(rows, out)
    with pytest.raises(JobError, match="input and output are one file"):
        run(make_job(name=out.name))
    assert rows.read_bytes() == before


def test_a_folder_is_no_output(make_job, tmp_path):
    (tmp_path / "out.jsonl").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        run(make_job())
    for name in ("nowhere/out.jsonl", "n" * 300):
        with pytest.raises(OutputError, match="cannot be written"):
            run(make_job(name=name))


@pytest.mark.parametrize("data", ["", "{}", "[1]", '{"format": 9}', '{"format": 1, "seed": 2}', "\0"])
def test_a_job_file_that_is_none_is_refused(make_job, tmp_path, data):
    (tmp_path / "out.jsonl.job").write_text(data)
    with pytest.raises(JobError, match="no job of decodekit"):
        run(make_job())


def test_a_reader_who_follows_the_results_sees_lines_that_stay(make_job, tmp_path):
    out, seen, over = tmp_path / "out.jsonl", [], threading.Event()

    def follow():
        while not over.is_set():
            if out.exists():
                seen.append(out.read_bytes())

    thread = threading.Thread(target=follow)
    thread.start()
    run(make_job(Echo(1, late=0.05), group=1))
    over.set()
    thread.join()
    whole = out.read_bytes()
    assert any(b"" < part < whole for part in seen)  # on the way
    assert all(whole.startswith(part) and (not part or part.endswith(b"\n")) for part in seen)


def test_an_engine_that_is_gone_ends_the_job_and_not_a_row(make_job, tmp_path):
    class Gone(Echo):
        def begin(self, row):
            if row.number == 20:
                raise EngineStalledError("no step for 300 s")
            return super().begin(row)

    with pytest.raises(EngineStalledError):
        run(make_job(Gone(1)))
    assert run(make_job()).rows == 30
    assert not any("error" in r for r in records(tmp_path / "out.jsonl"))


def test_a_clock_that_leaps_changes_nothing(make_job, tmp_path, monkeypatch):
    run(make_job(name="whole.jsonl"))
    leaps = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(runner.time, "monotonic", lambda: float(next(leaps)))
    run(make_job())
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


# rows that fail


def test_too_many_failed_rows_end_the_job_where_it_is(make_job, tmp_path):
    with pytest.raises(ErrorLimitError, match="more than 2 rows failed, the last one at line 8: planned"):
        run(make_job(Echo(1, fails={1, 3, 7, 9}), max_errors=2))
    assert [r["row"] for r in records(tmp_path / "out.jsonl")] == [*range(8)]
    assert run(make_job(Echo(1, fails={1, 3, 7, 9}), max_errors=None)).errors == {"E_PARAMETER": 4}


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("limit", [None, 1])
def test_failed_rows_are_tried_again_in_their_place(make_job, tmp_path, ordered, limit):
    run(make_job(name="whole.jsonl", ordered=ordered))
    try:
        run(make_job(Echo(1, fails={0, 4, 29}), ordered=ordered, max_errors=limit))
    except ErrorLimitError:
        assert limit == 1
    echo = Echo(1)
    summary = run(make_job(echo, ordered=ordered), retry=True)
    assert summary.rows == 30 and not summary.failed
    if limit is None:
        assert echo.begun == [0, 4, 29]
    assert sorted(records(tmp_path / "out.jsonl"), key=lambda r: r["row"]) == records(
        tmp_path / "whole.jsonl"
    )
    assert sorted(p.name for p in tmp_path.glob("out*")) == ["out.jsonl", "out.jsonl.job"]


def test_with_nothing_to_try_again_nothing_happens(make_job, tmp_path):
    with pytest.raises(JobError, match="no job whose errors"):
        run(make_job(), retry=True)
    run(make_job())
    echo = Echo(1)
    run(make_job(echo), retry=True)
    assert echo.begun == []


def test_new_software_may_mend_failed_rows_but_not_go_on_with_others(make_job):
    old, new = ({**CHAINS, "software": {"plugin": version}} for version in ("1", "2"))
    run(make_job(Echo(1, fails={3}), begun_with=old))
    with pytest.raises(JobError, match='software plugin was "1" and is "2"'):
        run(make_job(begun_with=new))
    assert not run(make_job(begun_with=new), retry=True).failed
    with pytest.raises(JobError, match='software plugin was "2" and is "1"'):
        run(make_job(begun_with=old))


def test_earlier_records_are_found_wherever_they_are():
    numbers = [3, 1, 2, 9, 8, 5]
    earlier = Earlier(iter(json.dumps({"row": n}).encode() for n in numbers))
    earlier.skip(2)
    assert [n for n in range(2, 12) if earlier.take(n)] == [2, 3, 5, 8, 9]


# what is read


def test_broken_lines_are_rows_with_a_fault_and_blank_ones_are_none(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a"}\n\n{"id": \n[1]\n\xff\n  \n{"a": 1, "a": 2}\n{"id": "z"}')
    found = [*open_source(str(path), folder=tmp_path).rows()]
    assert [row.line for row in found] == [1, 3, 4, 5, 7, 8]
    assert [isinstance(row.fields, dict) for row in found] == [True, False, False, False, False, True]
    assert [row.number for row in found] == [*range(6)]


@pytest.mark.parametrize("end", ["jsonl", "jsonl.gz", "csv", "csv.gz"])
def test_rows_are_the_same_from_any_place_on(tmp_path, end):
    lines = [
        '{"id": "a", "prompt": "x, y", "n": 2}',
        "",
        '{"id": "b", "prompt": "ü\\nz"}',
        '{"id": "c", "prompt": "3"}',
    ]
    if end.startswith("csv"):
        lines = ["id,prompt,n", 'a,"x, y",2', "", 'b,"ü', 'z",', "c,3,"]
    data, path = "\n".join(lines).encode(), tmp_path / f"in.{end}"
    path.write_bytes(gzip.compress(data) if end.endswith("gz") else data)
    source = open_source(str(path), folder=tmp_path)
    found = [*source.rows()]
    assert [r.fields for r in found] == [
        {"id": "a", "prompt": "x, y", "n": 2},
        {"id": "b", "prompt": "ü\nz"},
        {"id": "c", "prompt": "3"},
    ]
    for i, row in enumerate(found):
        assert [*source.rows(row.begin)] == found[i:]


def test_a_csv_row_of_another_length_is_a_fault_and_two_columns_of_one_name_end_it(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("id,prompt\na\nb,c\n")
    first, second = open_source(str(path), folder=tmp_path).rows()
    assert "1 fields for 2 columns" in str(first.fields) and second.fields == {"id": "b", "prompt": "c"}
    path.write_text('id,prompt\na,"b" c\n')
    with pytest.raises(InputError, match="line 2: no CSV"):
        list(open_source(str(path), folder=tmp_path).rows())
    path.write_text("id,id\na,b\n")
    with pytest.raises(InputError, match="two columns have one name"):
        list(open_source(str(path), folder=tmp_path).rows())


def test_a_field_may_have_another_name(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"question": "why", "more": 1}\n')
    (row,) = open_source(str(path), folder=tmp_path, fields={"prompt": "question"}).rows()
    assert row.fields == {"prompt": "why", "more": 1}


@pytest.mark.parametrize("way", ["stdin", "fifo"])
def test_a_pipe_is_read_to_its_end_and_goes_on_with_the_same_content(
    make_job, tmp_path, rows, monkeypatch, way
):
    def piped():
        if way == "stdin":
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(rows.read_bytes())))
            return open_source("-", folder=tmp_path)
        os.mkfifo(tmp_path / "pipe")
        threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(rows.read_bytes())).start()
        source = open_source(str(tmp_path / "pipe"), folder=tmp_path)
        os.unlink(tmp_path / "pipe")
        return source

    run(make_job(source=piped()))
    whole = (tmp_path / "out.jsonl").read_bytes()
    (tmp_path / "out.jsonl").write_bytes(whole[:500])
    run(make_job(source=piped()))
    assert (tmp_path / "out.jsonl").read_bytes() == whole and len(whole.splitlines()) == 30


def test_a_pipe_is_read_once_however_often_it_is_looked_at(make_job, tmp_path, rows, monkeypatch):
    """Longer than what is read ahead, since the place in a file that was put down is shared."""
    long = [json.dumps({"id": f"a{i}", "prompt": "x" * 4096}) for i in range(100)]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(long).encode())))
    summary = run(make_job(source=open_source("-", folder=tmp_path), group=1, ahead=1))
    assert summary.rows == 100 and [r["row"] for r in records(tmp_path / "out.jsonl")] == [*range(100)]


@pytest.mark.parametrize("place", range(12, 200, 9))
def test_a_gzip_file_that_is_broken_anywhere_is_named(tmp_path, place):
    data = bytearray(gzip.compress(b"".join(b'{"id": "%d"}\n' % (i**3) for i in range(200))))
    data[place] ^= 0xFF
    (tmp_path / "in.jsonl.gz").write_bytes(data)
    with pytest.raises(InputError, match="in.jsonl.gz: cannot be read"):
        list(open_source(str(tmp_path / "in.jsonl.gz"), folder=tmp_path).rows())


@pytest.mark.parametrize("name", ["nowhere.jsonl", ".", "n" * 300])
def test_an_input_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(InputError, match="cannot be read"):
        open_source(str(tmp_path / name), folder=tmp_path)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": "a1", "prompt": "x"}, "id 'a1' is that of line 2 too"),
        ({"id": 7, "prompt": "x"}, "id must be a text, got 7"),
        ({"id": "", "prompt": "x"}, "id must have 1 to 512 characters, got 0"),
        ({"id": "x" * 2**20, "prompt": "x"}, "id must have 1 to 512 characters, got 1048576"),
        ({"custom_id": None, "body": {}}, "custom_id must be a text, got None"),
        ({"body": {}}, "custom_id is missing"),
        ({"custom_id": "a2", "body": {}}, "id 'a2' is that of line 3 too"),
    ],
)
def test_ids_are_checked_before_anything_begins(make_job, tmp_path, rows, row, said):
    with rows.open("a") as file:
        file.write(json.dumps(row) + "\n")
    echo = Echo(1)
    with pytest.raises(InputError) as caught:
        run(make_job(echo))
    assert f"line 31: {said}" in str(caught.value) and "nothing was begun" in str(caught.value)
    assert echo.begun == [] and (tmp_path / "out.jsonl").read_bytes() == b""


def test_the_first_faults_are_listed_and_all_are_counted(make_job, rows):
    rows.write_text('{"id": "a"}\n' * 5000)
    with pytest.raises(InputError, match="and 4989 more; nothing was begun"):
        run(make_job())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-300, 300), max_size=400))
def test_hashes_that_come_twice_are_found_whether_they_fit_into_memory_or_not(values):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(identities, "FULL", 2)
        with Hashes(Path(".")) as hashes:
            for value in values:
                hashes.add(value)
            assert hashes.twice() == {v for v, count in Counter(values).items() if count > 1}


def test_two_ids_of_one_hash_are_two(make_job, monkeypatch):
    monkeypatch.setattr(identities, "hash", lambda id: 7, raising=False)
    assert run(make_job()).rows == 30


# what is counted


def test_a_summary_counts_and_can_be_put_down():
    summary = Summary()
    for i in range(200):
        usage = {"prompt_tokens": 1, "completion_tokens": i}
        summary.add({"row": i, "text": "", "finish_reason": "stop", "usage": usage})
    summary.add({"row": 200, "error": {"code": "E_X", "message": "", "line": 201}})
    body = {
        "choices": [{"finish_reason": "length"}] * 2,
        "usage": {"prompt_tokens": 1, "completion_tokens": 3},
    }
    summary.add({"row": 201, "response": {"body": body}, "error": None})
    assert (summary.rows, summary.failed, summary.errors) == (202, 1, {"E_X": 1})
    assert summary.finish_reasons == {"stop": 200, "length": 2}
    assert (summary.length(0.5), summary.length(1.0)) == (99, 200)
    again = Summary(json.loads(json.dumps(summary.to_json())))
    assert again.to_json() == summary.to_json() and len(summary.lengths) <= 120


def test_a_number_that_json_cannot_say_is_null():
    assert json.loads(runner.encoded({"row": 1, "top": [[2, float("-inf")]]})) == {
        "row": 1,
        "top": [[2, None]],
    }


def test_crashes_at_calls_and_at_random_moments_lose_nothing_and_do_nothing_twice():
    """A part of what `make crash-batch` does."""
    environment = {**os.environ, "DECODEKIT_PLUGINS": ""}
    if Path("/dev/shm").is_dir():
        environment["TMPDIR"] = "/dev/shm"
    for words in (["calls", "--every", "11", "--rows", "9"], ["moments", "--kills", "8"]):
        done = subprocess.run(
            [sys.executable, TESTS / "crashes.py", *words], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count(": 0 wrong") == 2
