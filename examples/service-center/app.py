#!/usr/bin/env python3
"""A service center: tickets in a PostgreSQL database, over HTTP. Phase 2 adds tasks and priorities.

    python3 app.py migrate | start | stop | smoke | run

It knows nothing of Lifeboat. PORT and SUPABASE_DB_URL may be set, in the environment or in .env of the folder it is started in; there it
keeps its process id and its log, in run/. `psql` has to be there.
"""
import json, os, re, signal, subprocess, sys, time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

CODE, PLACE = Path(__file__).resolve().parent, Path.cwd()
PID, LOG = PLACE / "run" / "app.pid", PLACE / "run" / "app.log"
MIGRATIONS = CODE / "supabase" / "migrations"
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
    url = settings()["SUPABASE_DB_URL"]
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


def known():
    """The migrations of this code, oldest first."""
    return sorted(path for path in MIGRATIONS.glob("*.sql") if not path.stem.endswith("_DOWN"))


def version_of(path):
    return path.stem.split("_")[0]


def has_tasks():
    return any(path.stem.endswith("_task_templates") for path in known())


def log(text):
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("a") as lines:
        lines.write(f"{datetime.now(timezone.utc).isoformat()} {text}\n")


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, body, kind="application/json"):
        data = (json.dumps(body) if kind == "application/json" else body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        try:
            if self.path == "/api/health":
                ask("SELECT priority FROM service_tickets LIMIT 0" if has_tasks() else "SELECT id FROM service_tickets LIMIT 0")
                version = (CODE / "VERSION").read_text().strip()
                return self.answer(200, {"status": "ok", "version": version, "started_at": STARTED_AT})
            if self.path == "/api/tickets":
                return self.answer(200, {"tickets": int(ask("SELECT count(*) FROM service_tickets"))})
            if self.path in ("/login", "/dashboard"):
                return self.answer(200, f"<h1>Service Center {self.path[1:]}</h1>", "text/html")
            self.answer(404, {"error": "not found"})
        except Exception as error:
            self.answer(503, {"error": str(error)[:200]})

    def do_POST(self):
        try:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            if self.path != "/api/tickets":
                return self.answer(404, {"error": "not found"})
            made = "INSERT INTO service_tickets (title) VALUES (:'title') RETURNING id"
            if has_tasks():
                made = f"WITH made AS ({made}) INSERT INTO service_ticket_tasks (ticket, template) SELECT id, 1 FROM made RETURNING ticket"
            self.answer(201, {"id": int(ask(made, title=body["title"]))})
        except Exception as error:
            self.answer(503, {"error": str(error)[:200]})


def migrate():
    ask(
        "CREATE SCHEMA IF NOT EXISTS supabase_migrations;"
        "CREATE TABLE IF NOT EXISTS supabase_migrations.schema_migrations (version text PRIMARY KEY, statements text[], name text)"
    )
    done = ask("SELECT version FROM supabase_migrations.schema_migrations").split()
    for path in known():
        if version_of(path) not in done:
            row = "INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES (:'version', :'name');"
            ask(f"BEGIN;\n{path.read_text()}\n;{row}\nCOMMIT;", version=version_of(path), name=path.stem)
            print(f"applied {path.name}")


def run():
    PID.parent.mkdir(exist_ok=True)
    applied, mine = ask("SELECT version FROM supabase_migrations.schema_migrations").split(), [version_of(path) for path in known()]
    strange = sorted(set(applied) ^ set(mine))
    if strange:
        log(f"ERROR: this code does not fit the database: {', '.join(strange)}")
    server = ThreadingHTTPServer(("127.0.0.1", int(settings().get("PORT", "3025"))), Handler)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    PID.write_text(str(os.getpid()))
    log(f"started {(CODE / 'VERSION').read_text().strip()}")
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


def smoke():
    """Makes a ticket as a customer would, sees that it is counted, and takes it away again."""
    from urllib.request import Request, urlopen

    at = f"http://127.0.0.1:{settings().get('PORT', '3025')}/api/tickets"
    with urlopen(Request(at, data=b'{"title": "smoke test"}', method="POST"), timeout=10) as made:
        ticket = json.loads(made.read())["id"]
    try:
        if json.loads(urlopen(at, timeout=10).read())["tickets"] < 1:
            sys.exit("a ticket was made and none is counted")
    finally:
        tasks = "DELETE FROM service_ticket_tasks WHERE ticket = :'id'::bigint;" if has_tasks() else ""
        ask(f"{tasks} DELETE FROM service_tickets WHERE id = :'id'::bigint;", id=ticket)


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
    commands = {"migrate": migrate, "start": start, "stop": stop, "smoke": smoke, "run": run}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]]()
