#!/usr/bin/env python3
"""A small shop: customers, vehicles, repair orders, parts and purchase orders in a SQLite file, over HTTP.

    python3 app.py migrate | start | stop | restart | run | ready | check

It knows nothing of Lifeboat. PORT and DATABASE may be set, in the environment or in .env.
"""
import hashlib, hmac, json, os, signal, sqlite3, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

HERE = Path(__file__).resolve().parent
PID, LOG = HERE / "app.pid", HERE / "logs" / "server.log"
SCHEMA = """
    CREATE TABLE IF NOT EXISTS customers (id INTEGER PRIMARY KEY, shop_id INTEGER NOT NULL DEFAULT 1, first_name TEXT NOT NULL,
        last_name TEXT NOT NULL, phone TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS vehicles (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers ON DELETE CASCADE,
        vin TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS repair_orders (id INTEGER PRIMARY KEY, vehicle_id INTEGER NOT NULL REFERENCES vehicles,
        status TEXT NOT NULL, total REAL NOT NULL DEFAULT 0, created_at TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS parts (id INTEGER PRIMARY KEY, repair_order_id INTEGER NOT NULL REFERENCES repair_orders, name TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS purchase_orders (id INTEGER PRIMARY KEY, part_id INTEGER NOT NULL REFERENCES parts, placed_at TEXT);
"""


def settings():
    found = {}
    if (HERE / ".env").exists():
        for line in (HERE / ".env").read_text().splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                found[name.strip()] = value.strip()
    return {**found, **os.environ}


def database():
    db = sqlite3.connect(HERE / settings().get("DATABASE", "database.sqlite"), timeout=10)
    db.execute("PRAGMA journal_mode = wal")
    db.execute("PRAGMA foreign_keys = on")
    db.row_factory = sqlite3.Row
    return db


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def token():
    """Everybody who is logged in has the same one; good enough for an example."""
    return hmac.new(settings().get("APP_SECRET", "secret").encode(), b"admin", hashlib.sha256).hexdigest()[:32]


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        with LOG.open("a") as log:
            log.write(f"{now()} {format % args}\n")

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

    def is_known(self):
        return self.headers.get("Authorization") == f"Bearer {token()}"

    def rows(self, db, table):
        limit = int(parse_qs(urlparse(self.path).query).get("limit", ["50"])[0])
        found = db.execute(f"SELECT * FROM {table} ORDER BY id LIMIT ?", (limit,)).fetchall()
        self.answer(200, {"data": [dict(row) for row in found]})

    def do_GET(self):
        path = urlparse(self.path).path
        with database() as db:
            if path == "/api/health":
                db.execute("SELECT count(*) FROM customers")
                return self.answer(200, {"data": {"status": "ok", "version": (HERE / "VERSION").read_text().strip()}})
            if path in ("/api/customers", "/api/repair-orders"):
                return self.rows(db, path.rsplit("/", 1)[1].replace("-", "_"))
        self.answer(404, {"error": "not found"})

    def do_POST(self):
        path, body = urlparse(self.path).path, self.body()
        if path == "/api/auth/login":
            known = settings()
            if (body.get("email"), body.get("password")) == (known.get("ADMIN_EMAIL"), known.get("ADMIN_PASSWORD")):
                return self.answer(200, {"data": {"token": token()}})
            return self.answer(401, {"error": "wrong address or password"})
        if path == "/api/customers":
            if not self.is_known():
                return self.answer(401, {"error": "log in first"})
            with database() as db:
                made = db.execute(
                    "INSERT INTO customers (first_name, last_name, phone, created_at, updated_at) VALUES (?, ?, ?, ?, ?)",
                    (body["firstName"], body["lastName"], body.get("phone"), now(), now()),
                )
            return self.answer(201, {"data": {"id": made.lastrowid}})
        self.answer(404, {"error": "not found"})

    def do_DELETE(self):
        folder, _, key = urlparse(self.path).path.rpartition("/")
        if folder != "/api/customers":
            return self.answer(404, {"error": "not found"})
        if not self.is_known():
            return self.answer(401, {"error": "log in first"})
        with database() as db:
            db.execute("DELETE FROM customers WHERE id = ?", (key,))
        self.answer(200, {"data": {"deleted": key}})


def migrate():
    with database() as db:
        db.executescript(SCHEMA)
        if db.execute("SELECT count(*) FROM customers").fetchone()[0] == 0:
            for number in range(1, 21):
                db.execute("INSERT INTO customers VALUES (?, 1, ?, 'Example', '555-0100', ?, ?)", (number, f"First {number}", now(), now()))
                db.execute("INSERT INTO vehicles VALUES (?, ?, ?)", (number, number, f"VIN{number:014}"))
                db.execute("INSERT INTO repair_orders VALUES (?, ?, 'open', ?, ?)", (number, number, number * 10.5, now()))
                db.execute("INSERT INTO parts VALUES (?, ?, 'bumper')", (number, number))


def run():
    LOG.parent.mkdir(exist_ok=True)
    port = int(settings().get("PORT", "3003"))
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: sys.exit(0))
    PID.write_text(f"{os.getpid()} {server.server_address[1]}")
    server.serve_forever()


def running():
    try:
        process = int(PID.read_text().split()[0])
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat")
        return process if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z" else None
    except (OSError, ValueError, IndexError):
        return None


def stop():
    process = running()
    if process:
        os.kill(process, signal.SIGTERM)
        for _ in range(200):
            if not running():
                break
            time.sleep(0.05)
    PID.unlink(missing_ok=True)


def start():
    if running():
        return
    LOG.parent.mkdir(exist_ok=True)
    PID.unlink(missing_ok=True)
    with LOG.open("a") as log:
        subprocess.Popen([sys.executable, __file__, "run"], cwd=HERE, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    ready()


def ready():
    """Waits until it listens, whoever has started it; pm2 does not."""
    for _ in range(200):
        if running():
            return
        time.sleep(0.05)
    sys.exit("the app does not start; see logs/server.log and `pm2 logs`")


def check():
    """Whether this checkout with this database would start; nothing goes on running."""
    with database() as db:
        db.execute("SELECT count(*) FROM customers")


if __name__ == "__main__":
    words = {"migrate": migrate, "start": start, "stop": stop, "restart": lambda: (stop(), start()), "run": run, "ready": ready, "check": check}
    if len(sys.argv) != 2 or sys.argv[1] not in words:
        sys.exit(__doc__)
    words[sys.argv[1]]()
