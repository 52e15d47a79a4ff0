"""What Windows lacks is not used: links without a fallback, POSIX calls and signals, implicit encodings, Unix paths.

Read from the sources of pack, tools and tests. No Windows machine has run this; the rules are what Python documents.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Names that exist on POSIX only, or need rights that users of Windows do not have.
ABSENT = {
    "os": (
        "chown", "chroot", "fork", "forkpty", "geteuid", "getgid", "getpgid", "getuid", "killpg", "link", "mkfifo",
        "nice", "openpty",
        "setpgid", "setsid", "symlink", "sysconf", "uname", "wait", "waitpid",
    ),
    "signal": (
        "SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "alarm", "pause", "setitimer", "sigwait",
    ),
    "select": ("epoll", "kqueue", "poll", "select"),
    "asyncio": ("open_unix_connection", "start_unix_server"),
    "socket": ("AF_UNIX",),
}  # fmt: skip
METHODS = ("symlink_to", "hardlink_to", "send_signal", "is_junction")
MODULES = ("fcntl", "grp", "pty", "pwd", "readline", "resource", "termios", "tty")
ARGUMENTS = ("preexec_fn", "start_new_session", "close_fds", "pass_fds", "process_group", "user", "group")
PATHS = re.compile(r"^/(tmp|dev|proc|usr|etc|bin|var|home|root)(/|$)")
# Where one of them is used all the same, and why that is right on Windows.
FINE = {
    ("tools/host_server.py", "symlink_to"): "a junction or a copy where it fails",
    ("tools/browser_setup.py", "os.geteuid"): "behind hasattr",
    ("tools/bench.py", "'/proc/cpuinfo'"): "behind an except",
    ("tools/batches/measure.py", "'/proc/self/statm'"): "behind an except",
    ("tools/batches/measure.py", "os.sysconf"): "behind an except",
    ("tools/batches/results.py", "fcntl"): "msvcrt there",
    ("tests/host/test_batch.py", "send_signal"): "skipped there",
    ("tests/unit/test_toyworld_benchmark.py", "send_signal"): "skipped there",
    ("tests/unit/test_training_run.py", "send_signal"): "skipped there",
    ("tests/unit/test_portable.py", "'/tmp/x'"): "an example",
    ("tests/unit/test_batch.py", "'/etc/passwd'"): "an id",
    ("tests/unit/test_batch.py", "fcntl"): "skipped there",
    ("tests/unit/test_iv_records.py", "symlink_to"): "skipped there",
}
FOLDERS = ("nodes", "planner", "attention", "tools", "tests")


def text_mode(call: ast.Call, place: int) -> bool:
    """Whether a call that opens a file opens it as text; its mode is argument `place` or `mode`."""
    mode = next((one.value for one in call.keywords if one.arg == "mode"), None)
    if mode is None and len(call.args) > place:
        mode = call.args[place]
    named = mode.value if isinstance(mode, ast.Constant) and isinstance(mode.value, str) else "r"
    return bool(re.fullmatch("[rwxat+]+", named))  # "rb" is no text, and "film.mp4" no mode


def without_encoding(call: ast.Call) -> str:
    """What a call reads or writes in the locale's encoding, or ''."""
    given = {one.arg for one in call.keywords}
    if given & {"encoding", None}:
        return ""
    function = call.func
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    owner = function.value.id if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) else ""
    if name == "open" and isinstance(function, ast.Name) and text_mode(call, 1):
        return "open()"
    # Image.open, tarfile.open and the like are no text files; safe_open has another name.
    if name == "open" and isinstance(function, ast.Attribute) and not owner[:1].isupper() and owner not in OPENERS:
        return ".open()" if text_mode(call, 0) else ""
    if name == "read_text" and not call.args:
        return ".read_text()"
    if name == "write_text" and len(call.args) < 2:
        return ".write_text()"
    as_text = any(
        one.arg in ("text", "universal_newlines") and getattr(one.value, "value", True) for one in call.keywords
    )
    return f"{name}(text=True)" if as_text and (owner or name) in ("subprocess", "Popen", "check_output") else ""


OPENERS = ("tarfile", "zipfile", "os", "webbrowser", "wave", "_OPENER")


def faults(file: str, source: str) -> Iterator[str]:
    """What a source uses that Windows lacks, as 'file:line: what'."""
    for node in ast.walk(ast.parse(source)):
        found = ""
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in ABSENT.get(owner, ()):
                found = f"{owner}.{node.attr}"
            elif node.attr in METHODS:
                found = node.attr
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found = next((name for name in names if name in MODULES), "")
            if isinstance(node, ast.ImportFrom):
                found = found or next(
                    (f"{node.module}.{a.name}" for a in node.names if a.name in ABSENT.get(node.module, ())), ""
                )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and PATHS.match(node.value):
            found = repr(node.value)
        elif isinstance(node, ast.Call):
            found = without_encoding(node) or next((k.arg for k in node.keywords if k.arg in ARGUMENTS), "")
            shell = next((k for k in node.keywords if k.arg == "shell"), None)
            if shell is not None and getattr(shell.value, "value", True):
                found = "shell=True"
        if found and (file, found) not in FINE:
            yield f"{file}:{node.lineno}: {found}"


def test_nothing_that_windows_lacks_is_used():
    found = []
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            found += faults(name, file.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "os.symlink(a, b)",
        "a.symlink_to(b)",
        "import os\nos.fork()",
        "from signal import SIGKILL",
        "process.send_signal(signal.SIGKILL)",
        "subprocess.Popen(command, preexec_fn=f)",
        "select.select([pipe], [], [])",
        "import fcntl",
        "folder = '/tmp/x'",
        "open(name)",
        "open(name, 'w')",
        "with path.open() as file: pass",
        "path.read_text()",
        "path.write_text(text)",
        "subprocess.run(command, text=True)",
        "subprocess.run('ls', shell=True)",
    ],
)
def test_the_search_finds_them(line):
    assert list(faults("a.py", line))


@pytest.mark.parametrize(
    "line",
    [
        "open(name, 'rb')",
        "path.open('wb')",
        "open(name, encoding='utf-8')",
        "path.read_text(encoding='utf-8')",
        "path.write_text(text, 'utf-8')",
        "Image.open(name)",
        "library.open('film.mp4')",
        "tarfile.open(name)",
        "subprocess.run(command, text=True, encoding='utf-8')",
        "process.terminate()",
        "text = 'a/tmp'",
    ],
)
def test_what_windows_has_is_no_fault(line):
    assert not list(faults("a.py", line))


RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def test_every_file_has_a_name_that_windows_takes():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    names = [name for name in listed.split("\0") if name]
    wrong = [
        name
        for name in names
        if len(name) > 140
        or any(RESERVED.match(part) or part[-1] in ". " or re.search(r'[<>:"|?*\\]', part) for part in name.split("/"))
    ]
    assert names and not wrong
    assert len({name.lower() for name in names}) == len(names), "two files differ in case only"
