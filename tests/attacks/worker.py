"""The process that opens hostile folders: told one by line, it answers with what happened and what it did.

An audit hook of the interpreter notes every file it opens, every import, process, connection and
change of the file system. What libraries load late is loaded before, with a folder that is in order.
"""

import contextlib
import io
import json
import os
import re
import sys
import time
import warnings
from pathlib import Path

DOING = re.compile(  # besides opening files
    r"exec|compile|import|pickle\.|ctypes\.|socket\.|subprocess\.|urllib\.|ftplib\.|http\.|shutil\.|"
    r"tempfile\.|webbrowser\.|os\.(system|exec|posix_spawn|spawn|fork|forkpty|kill|link|symlink|rename|remove|"
    r"mkdir|rmdir|truncate|chmod|chown|putenv|unsetenv|add_dll_directory)"
)
_events = None


def _hook(name, args):
    if _events is None:
        return
    if name == "open":
        if not isinstance(args[0], int):
            _events.append([name, os.fsdecode(os.fspath(args[0])), str(args[1]), args[2]])
    elif DOING.match(name):
        what = args[0] if args else ""
        if name == "exec":
            what = what.co_filename
        elif name == "compile" or name in ("os.symlink", "os.link", "os.rename"):
            what = args[1]
        elif name in ("os.remove", "os.rmdir", "os.mkdir") and args[-1] >= 0:  # relative to an open folder
            what = os.path.join(os.readlink(f"/proc/self/fd/{args[-1]}"), args[0])
        elif name in ("subprocess.Popen", "os.posix_spawn"):
            what = " ".join(map(str, args[1]))
        _events.append([name, str(what), "", 0])


def watched(do, path):
    """What the action raised and did, its seconds of a processor, and how many bytes memory grew at most."""
    global _events
    before = _highest(reset=True)
    error = told = None
    began, _events = time.process_time(), []
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            told = do(path)
    except BaseException as exc:
        error = {
            "types": [kind.__name__ for kind in type(exc).__mro__],
            "code": getattr(exc, "code", None),
            "text": str(exc),
        }
    finally:
        events, _events = _events, None
    return {
        "error": error,
        "told": told,
        "warned": [str(w.message) for w in warned],
        "events": events,
        "seconds": time.process_time() - began,
        "grown": _highest() - before,
    }


def _highest(reset=False):
    """The most memory that this process had since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def runtime_actions():
    import decodekit
    from decodekit import cli
    from decodekit.bundle import open_bundle
    from decodekit.chat import Chat
    from decodekit.graph_check import check_graph_file
    from decodekit.tokenizer import Tokenizer

    plugins = decodekit.load_plugins(only=())
    tokenizer = Tokenizer(decodekit.bundle.EMBEDDED / "tagline" / "tokenizer.json")
    for template in ("{{ nobody.there }}", "{{ 1.5 ~ 'x'.format(1) }}", "{% for %}"):
        with contextlib.suppress(decodekit.DecodekitError):
            Chat(tokenizer, template, None).prompt("a")

    def load(path):
        """As an app does: load, ask once."""
        decoder = decodekit.load(path, plugins=plugins)
        return decoder.generate("a", "temperature=0", max_new_tokens=2).finish_reason

    def inspect(path):
        """As a person does; the exit status and what was shown."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.main(["inspect", path])
        return [status, out.getvalue(), err.getvalue()]

    return {
        "open": lambda path: sorted(open_bundle(path).stop_ids),
        "graph": lambda path: bool(check_graph_file(Path(path))),
        "load": load,
        "inspect": inspect,
    }


def export_actions():
    from decodekit_export.checkpoint import open_checkpoint

    def checkpoint(path):
        source = open_checkpoint(path)
        model = source.load_model()
        return [type(model).__name__, source.tokenizer.size, source.chat_template, source.license]

    return {"checkpoint": checkpoint}


def main():
    kind, *orderly = sys.argv[1:]
    os.environ["DECODEKIT_PLUGINS"] = ""
    actions = runtime_actions() if kind == "runtime" else export_actions()
    for path in orderly:
        for name, do in actions.items():
            if name != "graph":
                do(path)
    sys.addaudithook(_hook)
    answers, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        name, path = json.loads(line)
        print(json.dumps(watched(actions[name], path)), file=answers, flush=True)


if __name__ == "__main__":
    main()
