"""Behave badly, say how each attempt ended, and fail if one got through."""

import os
import socket
import sys

allowed = []


def attempt(what, action):
    """Try something that a sandbox should refuse."""
    try:
        found = action()
    except OSError as exc:
        print(f"refused  {what}: {exc.strerror or exc}")
        return
    if found:
        allowed.append(what)
    print(f"ALLOWED  {what}" if found else f"nothing  {what}")


attempt("call out to the network", lambda: socket.create_connection(("192.0.2.1", 443), timeout=2))
attempt("read the password hashes", lambda: open("/etc/shadow").read())
attempt("write outside its own directory", lambda: open("/usr/bin/clawq-was-here", "w"))
attempt("find secrets in its environment", lambda: [name for name in os.environ if "URL" in name or "KEY" in name])
attempt("become root", lambda: os.setuid(0) or True)
sys.exit(f"the sandbox let it {', '.join(allowed)}" if allowed else 0)
