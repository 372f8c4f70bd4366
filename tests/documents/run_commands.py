#!/usr/bin/env python3
"""Runs every command of a document as it is written there, on a machine of its own.

    unshare --net --mount --pid --fork --mount-proc --kill-child \\
        python3 tests/documents/run_commands.py PROGRAM FOLDER DOCUMENT...

The machine is a set of namespaces: its network is empty, what is written to the checkout, `/etc`, `/var/lib` and `/usr/local` is
gone with it, and its names (`gpu1`, `studio.example`) are addresses of loopback. ComfyUI servers that play recordings run at the
addresses that the documents name, and a relay at its usual one, but for the documents that start one themselves.

FOLDER is an empty one for what is written. A document that needs PostgreSQL is given `DATABASE_URL`.
"""

import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

PROGRAM = "comfy-relay"

SECRET = "a-secret-of-at-least-32-characters"

RECORDING = "fixtures/0.8.0/01-txt2img-basic"
PICTURES = "fixtures/0.33.0/40-image-to-image-run1"

# Where ComfyUI servers run, by the names of the documents.
NAMES = {
    "gpu1": "127.0.1.1",
    "gpu2": "127.0.1.2",
    "gpu.example": "127.0.1.3",
    "studio.example": "127.0.1.4",
    "app.example": "127.0.1.4",
    "db": "127.0.0.1",
    "db1": "127.0.0.1",
    "database": "127.0.0.1",
    "redis": "127.0.0.1",
}
COMFYUI = ["127.0.0.1:8188", "127.0.1.1:8188", "127.0.1.2:8188", "10.0.7.9:8188"]

# One that can load pictures.
WITH_PICTURES = "127.0.0.1:8190"

# What cannot run here, and why. A pattern that matches no command is a mistake.
SKIPPED = {
    r"^cargo |^RUSTDOCFLAGS=|^FAULT_RUNS=|^tests/run": "builds the program, which the tests have done",
    r"^UPDATE=1 node": "writes to the sources",
    r"^python3 -m unittest": "a step of tests/run",
    r"^docker ": "needs an engine of containers",
    r"systemctl (?!st.* comfy-relay$)|journalctl": "needs a running systemd",
    r"^pip install|^npx ": "needs a registry",
    r"^sha256sum|^tar |^sudo install -m 755|^sudo apt-get install": "needs a release",
    r"^sudo nginx -t|studio\.example/relay/": "a test of its own runs the configuration",
    r"comfy-relay report .*fixtures": "takes minutes; a test of its own compares its figures",
    r"COMFYUI_URL=https://": "needs a proxy with a certificate that the system knows; a test of its own has one",
    r"sslmode=verify-full": "a test of its own has a PostgreSQL with TLS",
    r"webhook test https://|^WEBHOOK_URL=https://|\"https://app\.example": "needs a receiver with a certificate that the system knows",
    r"my_program\.py": "a test of its own runs programs with these packages",
    r"/path/to/your/pipeline|poll_comfyui\.py": "a test of its own runs the module in a pipeline",
}

# Signs an empty object as a sender of webhooks does.
SIGN = """\
timestamp=$(date +%s)
key=$(printf %s "${WEBHOOK_SECRET#whsec_}" | base64 -d | od -An -v -tx1 | tr -d ' \\n')
signature=$(printf 'msg_1.%s.{}' "$timestamp" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)"""

# What stands for something that only the reader has.
REPLACED = {
    "README.md": [
        ('"job_id": "shot-12", "prompt_id": "…"', '"job_id": "registered", "prompt_id": "PROMPT"'),
        ('{…API format…}', "GRAPH"),
        ("--out DIR", "--out recorded"),
        ("replay DIR", "replay recorded --listen 127.0.0.1:8189"),
        ("report DIR… --svg FILE", "report recorded --svg report.svg"),
    ],
    "docs/api.md": [("shot-12/outputs", "finished/outputs")],
    "docs/migration.md": [('"job_id": "shot-12", "prompt_id": "…"', '"job_id": "registered", "prompt_id": "PROMPT"')],
    # A hundred jobs would hold up the one that is watched behind them.
    "docs/queue.md": [("--count 100", "--count 5"), ("-p 3.steps=30 --watch", "-p 3.steps=20 --watch"), ("submit txt2img.json", "submit workflow_api.json")],
    "docs/scaling.md": [("AUTH_JWT_SECRET=…", f"AUTH_JWT_SECRET={SECRET}")],
    "docs/security.md": [("AUTH_JWT_SECRET=…", f"AUTH_JWT_SECRET={SECRET}")],
    "docs/operate.md": [("sudo sh -c 'set -a; . /etc/comfy-relay/env; comfy-relay doctor' && sudo systemctl start comfy-relay", "comfy-relay doctor")],
    "docs/webhooks.md": [
        ("comfy-relay webhook verify", f"{SIGN}; comfy-relay webhook verify"),
        ("msg_0b6e…", "msg_1"),
        ("1764356040", '"$timestamp"'),
        ("'v1,…'", '"v1,$signature"'),
    ],
    ".github/CONTRIBUTING.md": [("comfy-relay replay my-bug", "comfy-relay replay my-bug --listen 127.0.0.1:8189")],
}

# They go on until they are stopped.
ENDLESS = r"demo$|jobs --watch|watch --label|replay |curl -N"

# How long they go on after their first line.
SECONDS_OF_ENDLESS = 1.5

# How many seconds anything may take, on a busy machine.
PATIENCE = 120

# What happens just before a command.
BEFORE = {
    r"watch --label": "comfy-relay submit workflow_api.json --label episode=3",
    r"systemctl stop": "comfy-relay submit txt2img --job-id after-the-backup --watch",
}

POSTGRES = "postgres://relay@database/relay"

# The commands that are for PostgreSQL, in documents whose others are for SQLite.
FOR_POSTGRES = r"^pg_|^psql|migrate --print"


def say(text: str) -> None:
    print(text, flush=True)


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def commands(document: Path) -> list[str]:
    """The commands of a document: a line each, or several that a backslash or an open quote joins."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", document.read_text(), re.S | re.M):
        command = ""
        for line in block.splitlines():
            command += line + "\n"
            is_open = without_comment(command).count("'") % 2 == 1 or line.endswith("\\")
            if not is_open:
                text = command.strip()
                if text and not text.startswith("#") and not re.match(r"[A-Z_]+=\S*$", text):
                    found.append(text)
                command = ""
    return found


def without_comment(command: str) -> str:
    return re.sub(r"(^|\s)#\s.*", "", command, flags=re.M).strip()


class Machine:
    """The namespaces, and what runs in them."""

    def __init__(self, program: Path, folder: Path, checkout: Path) -> None:
        self.relay: subprocess.Popen[bytes] | None = None
        run("mount", "-t", "tmpfs", "tmpfs", str(folder))
        for path in ["/etc", "/var/lib", "/usr/local", str(checkout)]:
            self.make_writable(folder, path)
        run("ip", "link", "set", "lo", "up")
        run("ip", "address", "add", "10.0.7.9/32", "dev", "lo")
        hosts = [f"{address} {name}" for name, address in NAMES.items()]
        Path("/etc/hosts").write_text("127.0.0.1 localhost\n" + "\n".join(hosts) + "\n")
        binaries = folder / "bin"
        binaries.mkdir()
        shutil.copy(program, binaries / PROGRAM)
        sudo = binaries / "sudo"
        sudo.write_text('#!/bin/sh\nexec "$@"\n')
        sudo.chmod(0o755)
        home = folder / "home"
        home.mkdir()
        # An HTTP error is a failure.
        (home / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
        os.environ.update(PATH=f"{binaries}:{os.environ['PATH']}", HOME=str(home))
        self.folder = folder
        # Again, for the files of the checkout as they are in this namespace.
        os.chdir(checkout)
        self.workflow = json.loads(Path("comfy_workflows/txt2img.json").read_text())
        self.workflow = self.workflow.get("workflow", self.workflow)
        Path("workflow_api.json").write_text(json.dumps(self.workflow))
        Path("shots.jsonl").write_text('{"6.text": "a cat"}\n{"6.text": "a dog"}\n')
        Path("relay.toml").write_text('comfyui_url = "http://127.0.0.1:8188"\n')
        Path("body.json").write_text("{}")
        shutil.copy("docs/pictures/farm.png", "photo.png")
        downloads = home / "Downloads"
        downloads.mkdir()
        shutil.copy("workflow_api.json", downloads / "my-flow.json")

    @staticmethod
    def make_writable(folder: Path, path: str) -> None:
        layers = folder / path.replace("/", "_")
        for name in ["upper", "work"]:
            (layers / name).mkdir(parents=True)
        options = f"lowerdir={path},upperdir={layers}/upper,workdir={layers}/work"
        run("mount", "-t", "overlay", "overlay", "-o", options, path)

    def start_comfyui(self) -> None:
        recordings = dict.fromkeys(COMFYUI, RECORDING) | {WITH_PICTURES: PICTURES}
        for address, recording in recordings.items():
            replay = [PROGRAM, "--log", "error", "replay", recording, "--speed", "4", "--listen", address]
            subprocess.Popen(replay)

    def start_postgres(self, folder: Path) -> None:
        """A server with a role and databases as the documents name them, which lets everybody in."""
        programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
        data = folder / "postgres"
        data.mkdir()
        shutil.chown(data, "postgres")
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        initdb = [*as_postgres, str(programs / "initdb"), "-D", str(data), "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True)
        server = [*as_postgres, str(programs / "postgres"), "-D", str(data), "-c", "listen_addresses=*", "-k", str(data)]
        running = subprocess.Popen(server, stderr=subprocess.DEVNULL)
        while subprocess.run(["pg_isready", "-q", "-h", "127.0.0.1"], check=False).returncode:
            if running.poll() is not None:
                sys.exit("PostgreSQL does not start")
            time.sleep(0.1)
        for sql in ["CREATE ROLE relay LOGIN", "CREATE DATABASE anime OWNER relay", "CREATE DATABASE relay OWNER relay"]:
            run("psql", "-q", "-h", "127.0.0.1", "-U", "postgres", "-c", sql)

    @staticmethod
    def start_redis() -> None:
        redis = ["redis-server", "--requirepass", "secret", "--save", "", "--loglevel", "warning"]
        subprocess.Popen(redis, stdout=subprocess.DEVNULL)

    def start_relay(self, settings: dict[str, str]) -> None:
        """Starts the relay. Its settings are those of the commands that follow, too."""
        os.environ.update(settings)
        self.relay = subprocess.Popen([PROGRAM, "--log", "error", "serve"])
        subprocess.run([PROGRAM, "ready", "--wait", str(PATIENCE)], check=True, capture_output=True)

    def stop_relay(self) -> None:
        if self.relay:
            self.relay.terminate()
            self.relay.wait()
            self.relay = None

    def prompt(self) -> str:
        """A prompt that was handed to ComfyUI itself."""
        body = json.dumps({"prompt": self.workflow}).encode()
        with urllib.request.urlopen("http://127.0.0.1:8188/prompt", body) as answer:
            return str(json.load(answer)["prompt_id"])


class Document:
    def __init__(self, machine: Machine, path: str) -> None:
        self.machine = machine
        self.path = path
        self.exports: list[str] = []
        self.failures: list[str] = []

    def run(self, used: set[str]) -> None:
        for command in commands(Path(self.path)):
            skipped = [pattern for pattern in SKIPPED if re.search(pattern, command)]
            used.update(skipped)
            if skipped:
                say(f"  skipped  {command}: {SKIPPED[skipped[0]]}")
                continue
            filled = self.fill(command)
            for pattern, before in BEFORE.items():
                if re.search(pattern, command):
                    subprocess.run(self.script(before), check=True, capture_output=True)
            bare = without_comment(filled)
            if "systemctl stop" in bare:
                self.machine.stop_relay()
                continue
            if re.search(rf"{PROGRAM} serve(?! --help)", bare):
                problem = self.serve(filled)
            elif re.search(ENDLESS, bare):
                problem = self.endless(filled)
            else:
                problem = self.once(filled)
            say(f"  {'FAILED' if problem else 'ok'}  {command}")
            if problem:
                say(problem)
                self.failures.append(f"{self.path}: {command}\n{problem}")
            if command.startswith("export "):
                self.exports.append(filled)

    def fill(self, command: str) -> str:
        for old, new in REPLACED.get(self.path, []):
            command = command.replace(old, new)
        digest = hashlib.sha256(Path("photo.png").read_bytes()).hexdigest()
        command = command.replace("9f86d081884c7d659a2feaa0c55ad015", digest[:32])
        if "PROMPT" in command:
            command = command.replace("PROMPT", self.machine.prompt())
        return command.replace("GRAPH", json.dumps(self.machine.workflow))

    def script(self, command: str) -> list[str]:
        exports = list(self.exports)
        if re.search(FOR_POSTGRES, command):
            exports.append(f"export DATABASE_URL={POSTGRES} ADMIN_URL={POSTGRES}")
        return ["bash", "-c", "\n".join(["set -eo pipefail", *exports, command])]

    def once(self, command: str) -> str | None:
        result = subprocess.run(self.script(command), capture_output=True, text=True, timeout=PATIENCE, check=False)
        if result.returncode == 0:
            return None
        return f"    exit code {result.returncode}: {result.stdout}{result.stderr}"

    def endless(self, command: str) -> str | None:
        """It prints something, and ends well or not at all."""
        with subprocess.Popen(self.script(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout
            select.select([process.stdout], [], [], PATIENCE)
            try:
                output, _ = process.communicate(timeout=SECONDS_OF_ENDLESS)
                is_right = process.returncode == 0
            except subprocess.TimeoutExpired:
                subprocess.run(["pkill", "-P", str(process.pid)], check=False)
                process.kill()
                output, _ = process.communicate()
                is_right = True
        is_right = is_right and output and not re.search(rb"(?i)error|cannot|refused", output)
        return None if is_right else f"    exit code {process.returncode}: {output.decode()}"

    def serve(self, command: str) -> str | None:
        """It becomes ready at its usual address."""
        self.machine.stop_relay()
        process = subprocess.Popen(self.script(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ready = [PROGRAM, "ready", "--wait", str(PATIENCE)]
        if "--tls-cert" in command:
            ready += ["--relay", "https://localhost:8328", "--ca-file", "chain.pem"]
        is_ready = subprocess.run(ready, capture_output=True, check=False).returncode == 0
        subprocess.run(["pkill", "-TERM", "-f", f"{PROGRAM} serve"], check=False)
        output, _ = process.communicate(timeout=PATIENCE)
        start(self.machine, self.path)
        return None if is_ready else f"    not ready: {output}"


def start(machine: Machine, document: str) -> None:
    """Starts the relay of which a document speaks."""
    name = document.replace("/", "_")
    settings = {"DATABASE_URL": f"sqlite:{machine.folder}/{name}.db", "COMFYUI_URL": "http://127.0.0.1:8188"}
    if document in ["docs/queue.md", "docs/api.md"]:
        settings["COMFYUI_URL"] = "http://gpu1:8188,http://gpu2:8188"
        settings["BACKEND_NETWORKS"] = "10.0.0.0/8"
        settings["BACKEND_LABELS"] = "gpu1:8188:gpu=a100,room=2"
    if document == "docs/workflows.md":
        settings["COMFYUI_URL"] += f",http://{WITH_PICTURES}"
    if document == OPERATE:
        settings["DATABASE_URL"] = "sqlite:/var/lib/comfy-relay/relay.db"
    machine.start_relay(settings)


def prepare(machine: Machine, document: str) -> None:
    """What a reader of the document has before."""
    submit = [PROGRAM, "submit", "workflow_api.json", "--watch", "--job-id"]
    if document in ["docs/queue.md", "docs/metrics.md"]:
        subprocess.run([*submit, "shot-12"], check=True, capture_output=True)
    if document == "docs/api.md":
        subprocess.run([*submit, "finished"], check=True, capture_output=True)
    if document == OPERATE:
        jobs_before_backup(machine)
    if document == "docs/security.md":
        openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
        for extension in ["subjectAltName=DNS:localhost", "basicConstraints=critical,CA:FALSE"]:
            openssl += ["-addext", extension]
        openssl += ["-keyout", "key.pem", "-out", "chain.pem"]
        subprocess.run(openssl, check=True, capture_output=True)
        make = [PROGRAM, "token", "make", "--sub", "me", "--jobs", "*"]
        environment = {**os.environ, "AUTH_JWT_SECRET": SECRET}
        token = subprocess.run(make, check=True, capture_output=True, text=True, env=environment)
        os.environ["RELAY_TOKEN"] = token.stdout.strip()


OPERATE = "docs/operate.md"


def jobs_before_backup(machine: Machine) -> None:
    """A job in a database of either kind, and the key that seals keys of partner nodes."""
    for database in [POSTGRES, os.environ["DATABASE_URL"]]:
        machine.stop_relay()
        machine.start_relay({"DATABASE_URL": database})
        subprocess.run([PROGRAM, "submit", "txt2img", "--job-id", "kept", "--watch"], check=True, capture_output=True)
        sealed = json.dumps({"workflow": "txt2img", "extra_data": {"api_key_comfy_org": "k"}})
        subprocess.run(["curl", "http://127.0.0.1:8328/api/anime/jobs", "-d", sealed], check=True, capture_output=True)


def problem_of_restored(machine: Machine) -> str | None:
    """What is wrong with the databases that were restored."""
    for database in [POSTGRES, os.environ["DATABASE_URL"]]:
        machine.stop_relay()
        machine.start_relay({"DATABASE_URL": database})
        for job, is_there in [("kept", True), ("after-the-backup", False)]:
            asked = subprocess.run([PROGRAM, "job", job], capture_output=True, text=True, check=False)
            if (asked.returncode == 0) != is_there:
                return f"{OPERATE}: {job} in {database}: {asked.stdout}{asked.stderr}"
    return None


def main() -> None:
    if os.getpid() != 1:
        sys.exit("this would write to the machine itself: run it in namespaces, as its first lines say")
    program, folder, *documents = (sys.argv + [""])[1:-1]
    machine = Machine(Path(program).resolve(), Path(folder).resolve(), Path.cwd())
    machine.start_comfyui()
    machine.start_postgres(machine.folder)
    machine.start_redis()
    Path("/var/lib/comfy-relay").mkdir()
    used: set[str] = set()
    failures = []
    environment = dict(os.environ)
    for path in documents:
        say(path)
        os.environ.clear()
        os.environ.update(environment)
        document = Document(machine, path)
        start(machine, path)
        prepare(machine, path)
        begun = time.monotonic()
        document.run(used)
        say(f"  {time.monotonic() - begun:.1f} s")
        failures += document.failures
        if path == OPERATE and (problem := problem_of_restored(machine)):
            failures.append(problem)
        machine.stop_relay()
    unused = set(SKIPPED) - used
    if len(documents) > 10 and unused:
        failures.append(f"no command matches {sorted(unused)}")
    for failure in failures:
        say(f"failed: {failure}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
