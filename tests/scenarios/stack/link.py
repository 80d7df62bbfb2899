"""A TCP relay that can stop to pass bytes on, as a network does that is cut: nobody is told."""

import socket
import threading

CHUNK = 1 << 16


class Link:
    """Listens on a free port of loopback and passes everything on to another."""

    def __init__(self, target):
        self.target = target
        # Set: bytes pass.
        self.passes = {"to": threading.Event(), "from": threading.Event()}
        self.heal()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def cut(self, direction="both"):
        for name in self.passes if direction == "both" else [direction]:
            self.passes[name].clear()

    def heal(self):
        for event in self.passes.values():
            event.set()

    def close(self):
        self.listener.close()
        self.heal()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.connect, args=(client,), daemon=True).start()

    def connect(self, client):
        # A connection that is asked for during a cut is made after it.
        self.passes["to"].wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        for source, sink, direction in [(client, server, "to"), (server, client, "from")]:
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.relay, args=(source, sink, direction), daemon=True).start()

    def relay(self, source, sink, direction):
        try:
            while data := source.recv(CHUNK):
                self.passes[direction].wait()
                sink.sendall(data)
            self.passes[direction].wait()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in [source, sink]:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
