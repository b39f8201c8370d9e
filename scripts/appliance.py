"""Starts and stops the metronome binary for the scripts beside this file, and asks it things.

Python's standard library only.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "metronome"
PARTS = {
    "otlp_grpc": "receive.otlp_grpc.listen",
    "otlp_http": "receive.otlp_http.listen",
    "query_http": "query.http.listen",
    "query_grpc": "query.grpc.listen",
}
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def binary(given=None):
    """The release binary: the given one, or where cargo puts it."""
    targets = [os.environ.get("CARGO_TARGET_DIR"), CACHE / "target", ROOT / "target"]
    built = [pathlib.Path(target) / "release/metronome" for target in targets if target]
    places = [pathlib.Path(given)] if given else built
    for place in places:
        if os.access(place, os.X_OK):
            return str(place)
    raise SystemExit(f"no binary at {' or '.join(map(str, places))}; cargo build --release makes it")


def free_ports(count):
    """Free ports below those that connections are given.

    A port from the upper range could be taken by a client's own connection while the server is away.
    """
    ports = []
    for port in range(21000 + os.getpid() % 9000, 32000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise SystemExit("no free ports between 21000 and 32000")


class Server:
    """One metronome on a directory. It may be started again after it ended."""

    def __init__(self, path, directory, settings=(), ports=None):
        self.directory = pathlib.Path(directory)
        self.path = path
        self.settings = list(settings)
        self.addresses = {part: "127.0.0.1:0" for part in PARTS}
        if ports:
            self.addresses = {part: f"127.0.0.1:{port}" for part, port in zip(PARTS, ports)}
        self.log = []
        self.process = None

    def start(self, timeout=60):
        """Starts and waits until it is ready. Returns the seconds that took."""
        began = time.monotonic()
        settings = [f'storage.path="{self.directory}"']
        settings += [f'{key}="{self.addresses[part]}"' for part, key in PARTS.items()]
        command = [self.path]
        for setting in settings + self.settings:
            command += ["--set", setting]
        self.log = []
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")
        threading.Thread(target=self._read_log, args=(self.process.stderr,), daemon=True).start()
        while not self._is_ready():
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended with {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() - began > timeout:
                self.kill()
                raise SystemExit(f"the server was not ready within {timeout} s:\n{self.tail()}")
            time.sleep(0.005)
        return time.monotonic() - began

    def _read_log(self, stream):
        for line in stream:
            line = ANSI.sub("", line.rstrip("\n"))
            self.log = self.log[-999:] + [line]
            part = re.search(r"\bpart=\"?(\w+)", line)
            address = re.search(r"\baddr=\"?([0-9.:\[\]a-f]+)", line)
            if "listening" in line and part and address:
                self.addresses[part[1]] = address[1]

    def _is_ready(self):
        if self.addresses["query_http"].endswith(":0"):
            return False
        try:
            return self.get("/ready", timeout=1)[0] == 200
        except OSError:
            return False

    def tail(self):
        return "\n".join(self.log[-20:])

    def url(self, part):
        return f"http://{self.addresses[part]}"

    def get(self, path, timeout=30):
        """Status and body of a query API answer."""
        try:
            with urllib.request.urlopen(self.url("query_http") + path, timeout=timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def get_json(self, path):
        status, body = self.get(path)
        if status != 200:
            raise SystemExit(f"GET {path}: status {status}: {body[:300].decode(errors='replace')}")
        return json.loads(body)

    def metric(self, name):
        """The sum of a metric over its labels; None if there is none."""
        _, body = self.get("/metrics")
        values = [
            float(line.rsplit(" ", 1)[1])
            for line in body.decode(errors="replace").splitlines()
            if re.match(re.escape(name) + r"[ {]", line)
        ]
        return sum(values) if values else None

    def cpu_seconds(self):
        """User and system time of the process so far."""
        text = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = text.rsplit(")", 1)[1].split()
        return int(fields[11]) / TICKS_PER_SECOND, int(fields[12]) / TICKS_PER_SECOND

    def memory(self, field):
        """A line of /proc/PID/status in bytes, such as VmHWM or VmRSS."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB", text, re.M)[1]) * 1024

    def kill(self):
        """Ends it as a power cut would, as far as the process can tell."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout=120):
        """Asks it to end, and returns its resource usage."""
        self.process.send_signal(signal.SIGTERM)
        limit = threading.Timer(timeout, self.process.kill)
        limit.start()
        _, status, usage = os.wait4(self.process.pid, 0)
        limit.cancel()
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode != 0:
            raise SystemExit(f"the server ended with {self.process.returncode}:\n{self.tail()}")
        return usage


def disk_bytes(directory):
    """What a directory takes on disk: in all, and in blocks, which are where a meta.json is."""
    total = blocks = 0
    for where, _, names in os.walk(directory):
        size = 0
        for name in names:
            try:
                size += os.stat(os.path.join(where, name)).st_blocks * 512
            except FileNotFoundError:
                continue
        total += size
        blocks += size if "meta.json" in names else 0
    return total, blocks


def load(path, *arguments, check=True):
    """Runs `metronome load` and returns its report."""
    command = [path, "load", "--json", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0 and (check or not done.stdout):
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")
    return json.loads(done.stdout)
