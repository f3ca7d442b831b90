"""People who look at the shop, a few times a second each, and tell every ten seconds how it went.

A new connection for each request, so that each may meet another replica. Nothing is tried again.
"""

import http.client
import os
import random
import statistics
import threading
import time

SHOPPERS = int(os.environ.get("SHOPPERS", "4"))
# Mean time between two requests of one shopper.
PAUSE_S = float(os.environ.get("PAUSE_S", "0.2"))
REPORT_S = 10

lock = threading.Lock()
times_ms: list[float] = []
failures: list[str] = []


def look() -> None:
    shop = http.client.HTTPConnection("web", 8080, timeout=10)
    try:
        shop.request("GET", "/")
        answer = shop.getresponse()
        answer.read()
        if answer.status != 200:
            raise http.client.HTTPException(f"status {answer.status}")
    finally:
        shop.close()


def shopper() -> None:
    while True:
        time.sleep(random.expovariate(1 / PAUSE_S))
        begun = time.monotonic()
        try:
            look()
        except (OSError, http.client.HTTPException) as failure:
            with lock:
                failures.append(str(failure) or type(failure).__name__)
        else:
            with lock:
                times_ms.append((time.monotonic() - begun) * 1e3)


def report() -> None:
    with lock:
        times, failed = times_ms.copy(), failures.copy()
        times_ms.clear()
        failures.clear()
    line = f"{len(times) + len(failed)} requests, {len(failed)} failed"
    if times:
        line += f", p50 {statistics.median(times):.1f} ms, slowest {max(times):.0f} ms"
    if failed:
        line += f"; the last one: {failed[-1]}"
    print(line, flush=True)


for _ in range(SHOPPERS):
    threading.Thread(target=shopper, daemon=True).start()
while True:
    time.sleep(REPORT_S)
    report()
