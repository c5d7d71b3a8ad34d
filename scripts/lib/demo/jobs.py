"""Sums, as jobs: a worker of celery that does them, and a web server of flask that has them done.

    jobs.py worker NAME REDIS      does what is in the queue
    jobs.py web NAME REDIS         GET /add?a=1&b=2 on port 8000; /busy says how many requests are in flight
"""

import sys
import threading

from celery import Celery
from celery.exceptions import TimeoutError as TooLate
from flask import Flask, jsonify, request

ROLE, NAME, REDIS = sys.argv[1:4]
URL = f"redis://{REDIS}:6379/0"
# What a broken connection may cost is for the caller to repeat: a sum is a sum.
PATIENCE, TRIES = 3, 4

jobs = Celery("jobs", broker=URL, backend=URL)
jobs.conf.update(
    worker_prefetch_multiplier=1,
    result_expires=60,
    broker_connection_retry_on_startup=True,
    redis_socket_timeout=5,
    redis_retry_on_timeout=True,
)


@jobs.task(name="add")
def add(a, b):
    return {"sum": a + b, "worker": NAME}


def web():
    app, lock, busy = Flask("web"), threading.Lock(), [0]

    @app.get("/busy")
    def in_flight():
        return jsonify(busy[0])

    @app.get("/add")
    def ask():
        with lock:
            busy[0] += 1
        try:
            a, b = int(request.args["a"]), int(request.args["b"])
            for _ in range(TRIES):
                try:
                    return jsonify(web=NAME, **add.delay(a, b).get(timeout=PATIENCE))
                except TooLate:
                    # Whoever had taken the job went with it.
                    continue
            return jsonify(web=NAME, error="no worker"), 504
        finally:
            with lock:
                busy[0] -= 1

    app.run(host="0.0.0.0", port=8000, threaded=True)


if __name__ == "__main__":
    if ROLE == "web":
        web()
    else:
        jobs.worker_main(
            ["worker", "--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat", f"--hostname={NAME}"]
        )
