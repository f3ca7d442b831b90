"""The shop's API: counts visits in Redis, keeps orders in PostgreSQL.

    GET  /         visits so far, and the process that answers
    GET  /orders   the latest orders
    POST /orders   places an order; the body is {"item": "teapot"}
    GET  /healthz  whether this process answers at all
"""

import json
import os
import queue
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2

PORT = 8000
BODY_BYTES = 64 * 1024
TIMEOUT_S = 5


class Redis:
    """As much of RESP as a counter needs."""

    def __init__(self):
        self.socket = socket.create_connection(("redis", 6379), TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.replies = self.socket.makefile("rb")

    def call(self, *words):
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            data = str(word).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
        self.socket.sendall(b"".join(parts))
        return self.reply()

    def reply(self):
        line = self.replies.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b":":
            return int(rest)
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self.replies.read(length + 2)[:-2].decode()
        raise RuntimeError(f"redis says {rest.decode()}")

    def close(self):
        self.replies.close()
        self.socket.close()


def connect_postgres():
    connection = psycopg2.connect(
        host="postgres", dbname="shop", connect_timeout=TIMEOUT_S, application_name="shop"
    )
    connection.autocommit = True
    return connection


class Pool:
    """Connections that requests borrow; one that failed is not used again."""

    def __init__(self, connect, most):
        self.connect = connect
        self.idle = queue.LifoQueue()
        self.places = threading.BoundedSemaphore(most)

    @contextmanager
    def borrow(self):
        with self.places:
            try:
                connection = self.idle.get_nowait()
            except queue.Empty:
                connection = self.connect()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self.idle.put(connection)

    def forget(self):
        """Drops the idle ones: their server has gone."""
        while True:
            try:
                self.idle.get_nowait().close()
            except queue.Empty:
                return


REDIS = Pool(Redis, 32)
POSTGRES = Pool(connect_postgres, 16)
GONE = (OSError, psycopg2.OperationalError, psycopg2.InterfaceError)


def with_connection(pool, use):
    """Runs `use`; once more on a fresh connection when an idle one turns out to be dead."""
    try:
        with pool.borrow() as connection:
            return use(connection)
    except GONE:
        pool.forget()
        with pool.borrow() as connection:
            return use(connection)


def visit():
    return with_connection(REDIS, lambda redis: redis.call("INCR", "visits"))


def query(sql, *values):
    def run(connection):
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return [{"id": i, "item": item, "placed": placed.isoformat()} for i, item, placed in cursor]

    return with_connection(POSTGRES, run)


def latest_orders():
    return query("SELECT id, item, placed FROM orders ORDER BY id DESC LIMIT 10")


def place_order(item):
    sql = "INSERT INTO orders (item) VALUES (%s) RETURNING id, item, placed"
    return query(sql, item)[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # a response is one packet, not one for each header
    timeout = 5  # for clients that keep a connection and say nothing

    def do_GET(self):
        routes = {
            "/": lambda: {"visits": visit(), "pid": os.getpid()},
            "/orders": lambda: {"orders": latest_orders(), "pid": os.getpid()},
            "/healthz": lambda: {"pid": os.getpid()},
        }
        self.answer(routes.get(self.path.partition("?")[0]))

    def do_POST(self):
        if self.path != "/orders":
            return self.answer(None)
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES:
            self.close_connection = True  # the body was not read
            return self.send(413, {"error": f"a body of at most {BODY_BYTES} bytes is needed"})
        try:
            item = json.loads(self.rfile.read(int(length)))["item"]
        except (ValueError, KeyError, TypeError):
            item = None
        if not isinstance(item, str) or not item or "\0" in item:
            return self.send(400, {"error": 'the body must be {"item": "name"}'})
        self.answer(lambda: place_order(item), 201)

    def answer(self, make, status=200):
        if make is None:
            return self.send(404, {"error": "no such page"})
        try:
            body = make()
        except (*GONE, RuntimeError) as error:
            print(f"{self.command} {self.path}: {error}", file=sys.stderr, flush=True)
            return self.send(503, {"error": "a service behind this one failed"})
        self.send(status, body)

    def send(self, status, body):
        data = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.server.stopping:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = False  # on SIGTERM the requests under way are answered
    stopping = False

    def __init__(self):
        dual = socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if dual else socket.AF_INET
        super().__init__(("", PORT), Handler)

    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def stop(self, *_):
        self.stopping = True
        threading.Thread(target=self.shutdown).start()  # it waits for serve_forever, which runs here


def main():
    server = Server()
    signal.signal(signal.SIGTERM, server.stop)
    print(f"listening on port {PORT}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()


if __name__ == "__main__":
    main()
