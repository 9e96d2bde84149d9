"""What Maelstrom nodes in Python share: messages, requests to others, retries.

Nothing here is splitbrain's: these nodes run in Maelstrom as they are.
"""

import json
import os
import queue
import sys
import threading
import time


class Refused(Exception):
    """A request is answered with an error of Maelstrom's table."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Node:
    """One node. Handlers run in threads of their own, so they may wait for answers."""

    def __init__(self):
        self.name = None
        self.nodes = []
        self.lock = threading.RLock()
        self._handlers = {"init": lambda src, body: {}}
        self._tasks = []
        self._waiting = {}
        self._last_id = 0

    def on(self, type_):
        """Decorator: the function answers requests of this type.

        It is called with the sender and the body. None is no answer.
        """

        def register(handler):
            self._handlers[type_] = handler
            return handler

        return register

    def send(self, dest, body):
        line = json.dumps({"src": self.name, "dest": dest, "body": body})
        with self.lock:
            print(line, flush=True)

    def ask(self, dest, body, timeout=1.0):
        """The answer to a request; Refused for an error, TimeoutError for none."""
        answers = queue.Queue()
        with self.lock:
            self._last_id += 1
            number = self._last_id
            self._waiting[number] = answers
        try:
            self.send(dest, {**body, "msg_id": number})
            answer = answers.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"{dest} did not answer") from None
        finally:
            del self._waiting[number]
        if answer["type"] == "error":
            raise Refused(answer["code"], answer.get("text", ""))
        return answer

    def ask_all(self, body, enough, timeout=1.0):
        """The answers of the nodes, this one's included, as soon as `enough` came."""
        answers = queue.Queue()

        def ask(dest):
            try:
                answers.put(self.ask(dest, body, timeout))
            except (Refused, TimeoutError):
                answers.put(None)

        for dest in self.nodes:
            in_background(ask, dest)
        found = []
        for _ in self.nodes:
            answer = answers.get()
            if answer is not None:
                found.append(answer)
            if len(found) == enough:
                return found
        raise TimeoutError(f"only {len(found)} nodes answered")

    def every(self, seconds):
        """Decorator: the function is called again and again, from `init` on."""

        def register(task):
            self._tasks.append((seconds, task))
            return task

        return register

    @property
    def others(self):
        return [name for name in self.nodes if name != self.name]

    def run(self):
        for line in sys.stdin:
            message = json.loads(line)
            body = message["body"]
            if "in_reply_to" in body:
                waiting = self._waiting.get(body["in_reply_to"])
                if waiting is not None:
                    waiting.put(body)
            elif body["type"] == "init":
                self.name, self.nodes = body["node_id"], body["node_ids"]
                self._handle(message)
                for seconds, task in self._tasks:
                    in_background(repeat, seconds, task)
            else:
                in_background(self._handle, message)

    def _handle(self, message):
        body = message["body"]
        handler = self._handlers.get(body["type"], not_supported)
        try:
            answer = handler(message["src"], body)
        except Refused as refused:
            answer = {"type": "error", "code": refused.code, "text": str(refused)}
        except TimeoutError as late:
            answer = {"type": "error", "code": 0, "text": str(late)}
        if answer is not None and "msg_id" in body:
            answer.setdefault("type", f"{body['type']}_ok")
            self.send(message["src"], {**answer, "in_reply_to": body["msg_id"]})


class Journal:
    """A file of JSON values that outlives a kill and a loss of power, one on a line.

    The harness gives each node a folder (SPLITBRAIN_DATA). Where there is none, as in
    Maelstrom itself, nothing outlives a kill.
    """

    def __init__(self, name):
        folder = os.environ.get("SPLITBRAIN_DATA")
        self._path = os.path.join(folder, name) if folder else os.devnull
        self._end = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def read(self):
        """All values; a last line that a kill cut off was never acknowledged."""
        with open(self._path, "rb") as file:
            whole, _, torn = file.read().rpartition(b"\n")
        if torn:
            os.truncate(self._path, len(whole) + 1 if whole else 0)
        return [json.loads(line) for line in whole.splitlines()]

    def append(self, values):
        os.write(self._end, b"".join(json.dumps(v).encode() + b"\n" for v in values))
        if self._path != os.devnull:
            os.fdatasync(self._end)


def in_background(task, *args):
    threading.Thread(target=task, args=args, daemon=True).start()


def repeat(seconds, task):
    while True:
        time.sleep(seconds)
        task()


def not_supported(src, body):
    raise Refused(10, f"{body['type']} is not supported")
