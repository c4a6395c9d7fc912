#!/usr/bin/env python3
"""A small CRM: contacts in a PostgreSQL database, over HTTP.

    python3 app.py migrate | start | stop | run

It knows nothing of Lifeboat. PORT and DATABASE_URL_PRODUCTION may be set, in the environment or in .env of the folder it is started in; there
it keeps its process id and its log, in run/. `psql` has to be there.
"""
import json, os, re, signal, subprocess, sys, time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

CODE, PLACE = Path(__file__).resolve().parent, Path.cwd()
PID, LOG = PLACE / "run" / "app.pid", PLACE / "run" / "app.log"
STARTED_AT = datetime.now(timezone.utc).isoformat()


def settings():
    found = {}
    if (PLACE / ".env").exists():
        for line in (PLACE / ".env").read_text().splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                found[name.strip()] = value.strip()
    return {**found, **os.environ}


def address():
    """Where the database is, and its password apart: arguments of a program are for everybody to read, its variables are not."""
    url = settings()["DATABASE_URL_PRODUCTION"]
    found = re.fullmatch(r"(\w+://[^:/@]*):([^@]*)@(.*)", url)
    return (f"{found[1]}@{found[3]}", {"PGPASSWORD": unquote(found[2])}) if found else (url, {})


def ask(sql, **values):
    """What psql answers; values go in as variables, never as text of the statement."""
    named = [word for name, value in values.items() for word in ("-v", f"{name}={value}")]
    url, password = address()
    call = ["psql", "-XqtA", "-v", "ON_ERROR_STOP=1", *named, url]
    done = subprocess.run(call, input=sql, capture_output=True, text=True, timeout=30, env={**os.environ, **password})
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return done.stdout.strip()


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        try:
            if self.path == "/health":
                ask("SELECT 1 FROM contacts LIMIT 1")
                version = (CODE / "VERSION").read_text().strip()
                return self.answer(200, {"status": "ok", "version": version, "started_at": STARTED_AT})
            if self.path == "/contacts":
                return self.answer(200, {"contacts": int(ask("SELECT count(*) FROM contacts"))})
            self.answer(404, {"error": "not found"})
        except Exception as error:
            self.answer(503, {"error": str(error)[:200]})

    def do_POST(self):
        try:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            if self.path != "/contacts":
                return self.answer(404, {"error": "not found"})
            made = "INSERT INTO contacts (organization_id, name, email) VALUES (1, :'name', :'email') RETURNING id"
            self.answer(201, {"id": int(ask(made, name=body["name"], email=body["email"]))})
        except Exception as error:
            self.answer(503, {"error": str(error)[:200]})


def migrate():
    ask("CREATE TABLE IF NOT EXISTS schema_migrations (version text PRIMARY KEY)")
    done = ask("SELECT version FROM schema_migrations").split()
    for path in sorted((CODE / "supabase" / "migrations").glob("*.sql")):
        version = path.stem.split("_")[0]
        if path.stem.endswith("_DOWN") or version in done:
            continue
        ask(f"BEGIN;\n{path.read_text()}\n;INSERT INTO schema_migrations VALUES (:'version');\nCOMMIT;", version=version)


def run():
    server = ThreadingHTTPServer(("127.0.0.1", int(settings().get("PORT", "3026"))), Handler)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    PID.write_text(str(os.getpid()))
    server.serve_forever()


def running():
    try:
        process = int(PID.read_text())
        os.kill(process, 0)
        return process
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None


def start():
    if running():
        return
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("a") as lines:
        begun = subprocess.Popen([sys.executable, str(CODE / "app.py"), "run"], stdin=subprocess.DEVNULL, stdout=lines, stderr=lines, start_new_session=True)
    for _ in range(100):
        if running() == begun.pid:
            return
        if begun.poll() is not None:
            sys.exit(f"it ended at once; see {LOG}")
        time.sleep(0.1)
    sys.exit("it does not start")


def stop():
    process = running()
    if process:
        os.kill(process, signal.SIGTERM)
        for _ in range(100):
            if not running():
                break
            time.sleep(0.1)
        else:
            os.kill(process, signal.SIGKILL)
    PID.unlink(missing_ok=True)


if __name__ == "__main__":
    commands = {"migrate": migrate, "start": start, "stop": stop, "run": run}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]]()
